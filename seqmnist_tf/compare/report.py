"""The report of a comparison: ``report.md`` with its tables, methods and references, rows for a paper, and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..config import (
    NUM_TIMESTEPS,
    arguments_text,
    constants_text,
    flatten,
    has_stock_layer,
    of_the_experiment,
    value_text,
)
from ..system import json_bytes, markdown_table, write_atomically
from ..train import write_figure
from .comparison import Comparison, PairResult, SeededRuns, tested_pairs
from .folder import REPORT_FILE
from .recipe import after_first_looks, escape_latex, layer_name, recipe_parts, task_name
from .runs import count_of
from .statistics import (
    BCA,
    BOOTSTRAP_FROM,
    BOOTSTRAP_IS_NARROW,
    ENUMERATED,
    FLIPS,
    RESAMPLES,
    in_percent,
    p_text,
    percent_range,
    seeds_needed,
    smallest_sign_flip_p,
)

DPI_OF_PAPERS = 200
REFERENCES = Path(__file__).with_name("references.bib")
LAYER_REFERENCES = {"LSTM": "hochreiter1997", "GRU": "cho2014", "SimpleRNN": "elman1990"}
ORDER_REFERENCES = {"urnn92916": "wisdom2016", "bit_reversal": "gu2022"}
CAPTIONS = {
    "curves.png": "Test error by epoch: mean over seeds, and the range from the lowest to the highest seed.",
    "differences.png": "Paired differences in test accuracy: grey: seeds; blue: mean and 95 % interval.",
    "disagreements.png": "Test digits that only one of two arms classifies correctly, most seeds first.",
}


def write_report(comparison: Comparison, pictures: Mapping[str, Figure], folder: Path) -> Comparison:
    """Write the report with its pictures, by the names of CAPTIONS; return the comparison with the report's tables."""
    comparison = replace(comparison, markdown=tables(comparison))
    for name, figure in pictures.items():
        write_figure(figure, folder / name, DPI_OF_PAPERS)
    for name in set(CAPTIONS) - set(pictures):  # of an earlier report
        (folder / name).unlink(missing_ok=True)
    write_atomically(folder / "row.tex", (latex_rows(comparison.arms) + "\n").encode())
    write_atomically(folder / "row.md", (markdown_rows(comparison.arms) + "\n").encode())
    write_atomically(folder / REPORT_FILE, json_bytes(comparison.to_json()))
    write_atomically(folder / "report.md", report_text(comparison, list(pictures)).encode())
    return comparison


def report_text(comparison: Comparison, pictures: Sequence[str]) -> str:
    """Return the content of ``report.md``."""
    shown = "\n\n".join(f"![{CAPTIONS[name]}]({name})\n\n{CAPTIONS[name]}" for name in pictures)
    rows = f"{markdown_rows(comparison.arms)}\n\n```latex\n{latex_rows(comparison.arms)}\n```"
    return "\n\n".join(
        [
            f"# Comparison: {', '.join(arm.name for arm in comparison.arms)}",
            comparison.markdown,
            f"## Pictures\n\n{shown}",
            f"## Methods\n\n{methods_paragraph(comparison)}",
            f"## Rows for a paper\n\n{rows}",
            f"## References\n\n```bibtex\n{bibtex(comparison)}\n```\n",
        ]
    )


def markdown_rows(experiments: Iterable[SeededRuns]) -> str:
    """Return a table in Markdown: model, task, parameters, training, test accuracy, seeds."""
    head = ["model", "task", ">parameters", "training", ">test accuracy, %", ">seeds"]
    return markdown_table(
        head, [(f"{_model(one)} `{one.name}`", *_cells(one), one.text, one.seeds_text) for one in experiments]
    )


def latex_rows(experiments: Iterable[SeededRuns], source: str = "") -> str:
    """Return the same rows for a table in LaTeX; ``source`` stands before each name."""
    lines = []
    for one in experiments:
        name = rf"({escape_latex(source)}\texttt{{{escape_latex(one.name)}}})"
        accuracy = one.text.replace("±", r"\pm")
        cells = [
            f"{escape_latex(_model(one))} {name}",
            *map(escape_latex, _cells(one)),
            f"${accuracy}$",
            one.seeds_text,
        ]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join(lines)


def _model(one: SeededRuns) -> str:
    """Return the layer with its units and constants."""
    own = " (own layer)" if ":" in one.config.model.layer else ""
    return f"{layer_name(one.config)}({arguments_text(one.config)}){own}"


def _cells(one: SeededRuns) -> tuple[str, str, str]:
    """Return task, parameters and training."""
    training = f"{one.config.optimizer.name}, {count_of(one.config.train.n_epochs, 'epoch')}"
    return task_name(one.config), f"{one.num_params:,}", training


def tables(comparison: Comparison) -> str:
    """Return the result in sentences and tables, without a heading of its own."""
    parts = [
        "\n".join(f"- {line}" for line in comparison.statements),
        f"## Arms\n\n{_arm_table(comparison.arms)}\n\n{_explain_arms(comparison.arms)}",
    ]
    if comparison.pairs:
        parts.append(f"## Pairs\n\n{_pair_table(comparison.pairs)}\n\n{_explain_pairs(comparison.pairs)}")
        parts += [_seed_section(comparison, pair) for pair in comparison.pairs]
    if differing := _differing_keys(comparison.arms):
        parts.append(f"## What differs between the arms\n\n{differing}")
    if notes := _notes(comparison.arms):
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts)


def _arm_table(arms: Sequence[SeededRuns]) -> str:
    constants = [constants_text(arm.config) for arm in arms]
    head = ["arm", *["constants"] * any(constants), ">units", ">parameters", ">seeds", ">test accuracy, %"]
    head += [">lowest to highest, %", ">95 % interval, %", ">epochs", ">s per epoch"]
    chosen = any(arm.chosen for arm in arms)
    if chosen:
        head += [">epoch chosen on validation", ">test accuracy there, %"]
    rows = []
    for arm, own in zip(arms, constants, strict=True):
        row: list[Any] = [f"`{arm.name}`", *[own] * any(constants), arm.units, f"{arm.num_params:,}"]
        row += [arm.seeds_text, arm.text, percent_range(arm.range if arm.n > 1 else None), percent_range(arm.ci_95)]
        row += [arm.config.train.n_epochs, f"{arm.seconds_per_epoch:.1f}"]
        if chosen:
            row += _chosen_cells(arm)
        rows.append(row)
    return markdown_table(head, rows)


def _chosen_cells(arm: SeededRuns) -> list[str]:
    """Return the epochs that a held-out split chose, and the mean of their test accuracies."""
    if not arm.chosen:
        return ["", ""]
    epochs, shares = zip(*arm.chosen, strict=True)
    span = str(epochs[0]) if len(set(epochs)) == 1 else f"{min(epochs)} to {max(epochs)}"
    return [span, in_percent(sum(shares) / len(shares))]


def _explain_arms(arms: Sequence[SeededRuns]) -> str:
    several = "Mean ± standard deviation over seeds; the interval of the mean is by Student's t. "
    return (
        f"{several if any(arm.n > 1 for arm in arms) else ''}Test accuracy is that of the final epoch on "
        f"{arms[0].total:,} test images."
    )


def _pair_table(pairs: Sequence[PairResult]) -> str:
    head = ["pair", ">seeds", ">difference, points", ">95 % interval, points", "interval by", ">sign-flip p"]
    head += [">p after Holm", ">smallest p possible"]
    rows = [
        (
            f"`{pair.b}` against `{pair.a}`",
            pair.n,
            in_percent(pair.mean_difference, sign=True),
            percent_range(pair.ci_95, sign=True),
            pair.ci_method if pair.ci_95 else "",
            p_text(pair.sign_flip_p),
            p_text(pair.holm_p),
            p_text(smallest_sign_flip_p(pair.unequal) if pair.n > 1 else None),
        )
        for pair in pairs
    ]
    return markdown_table(head, rows)


def _explain_pairs(pairs: Sequence[PairResult]) -> str:
    if all(pair.n < 2 for pair in pairs):
        return "With one seed no test is made."
    narrow = any(pair.ci_method == BCA and pair.n < BOOTSTRAP_IS_NARROW for pair in pairs)
    bootstrap = " With so few seeds a bootstrap interval is too narrow: the p decides."
    short = any(pair.holm_p is None for pair in pairs)
    left_out = " Pairs where it is not below 0.05 are left out of Holm's correction."
    return (
        "Differences are paired by seed: seeds that both arms have. p is two-sided; the smallest p possible is that of "
        f"differences which all have one sign; equal seeds have none.{bootstrap * narrow}{left_out * short}"
    )


def _seed_section(comparison: Comparison, pair: PairResult) -> str:
    accuracies = [
        dict(zip(arm.seeds, arm.test_accuracy, strict=True)) for arm in (comparison.arm(pair.a), comparison.arm(pair.b))
    ]
    head = [">seed", f">`{pair.a}`, %", f">`{pair.b}`, %", ">difference, digits"]
    head += [f">only `{pair.a}` right", f">only `{pair.b}` right", ">McNemar p"]
    rows = [
        (
            m.seed,
            in_percent(accuracies[0][m.seed]),
            in_percent(accuracies[1][m.seed]),
            f"{digits:+d}" if digits else "0",
            m.only_a_right,
            m.only_b_right,
            p_text(m.p),
        )
        for m, digits in zip(pair.mcnemar, pair.digits, strict=True)
    ]
    explained = (
        "McNemar's exact test compares two trained models on the same test images. It says nothing about other seeds."
        if pair.n > 1
        else "With one seed no test is made."
    )
    return f"### {pair.b} against {pair.a}, seed by seed\n\n{markdown_table(head, rows)}\n\n{explained}"


def _differing_keys(arms: Sequence[SeededRuns]) -> str:
    """Return a table of the keys whose values differ between the arms; empty where none does.

    Its last row is for layers of one name whose code differs.
    """
    values = [flatten(arm.config) for arm in arms]
    keys = [key for key in values[0] if of_the_experiment(key) and len({str(v[key]) for v in values}) > 1]
    rows = [(f"`{key}`", *(f"`{value_text(v[key])}`" for v in values)) for key in keys]
    code = [arm.layer_code or "" for arm in arms]
    named = list(zip([arm.config.model.layer for arm in arms], code, strict=True))
    if len(set(named)) > len({layer for layer, _ in named}):
        rows.append(("SHA-256 of the layer's code", *(f"`{sha[:12]}`" if sha else "" for sha in code)))
    if not rows:
        return ""
    return markdown_table(["key", *(f"`{arm.name}`" for arm in arms)], rows)


def _notes(arms: Sequence[SeededRuns]) -> list[str]:
    notes = [note for arm in arms for note in arm.notes]
    if len({arm.computed for arm in arms}) > 1:
        computed = "; ".join(f"{arm.name}: {arm.computed}" for arm in arms)
        notes.append(f"Seconds per epoch do not compare the layers: they were measured with {computed}.")
    return notes


def methods_paragraph(comparison: Comparison) -> str:
    """Return how the numbers of a comparison were made, in LaTeX-free prose."""
    arms = comparison.arms
    parts = [_task(arms), _models(arms), _recipe(arms), _selection(arms)]
    if any(arm.n > 1 for arm in arms):
        parts.append(
            "Accuracies are given as mean ± standard deviation over seeds, with a 95 % interval of the mean by "
            "Student's t, for these test images."
        )
    if any(pair.n > 1 for pair in comparison.pairs):
        parts.append(_tests(comparison))
    commits = sorted({commit for arm in arms for run in arm.runs for commit in run.commits})
    parts.append(f"Code: seqmnist_tf, {'commit' if len(commits) == 1 else 'commits'} {', '.join(commits)}.")
    return " ".join(parts)


def bibtex(comparison: Comparison) -> str:
    """Return the references of a comparison as BibTeX."""
    keys = ["lecun1998", "le2015"]
    for arm in comparison.arms:
        config, optimizer = arm.config, arm.config.optimizer
        keys += [LAYER_REFERENCES.get(config.model.layer, ""), ORDER_REFERENCES.get(config.task.permutation, "")]
        used = {
            "tallec2018": config.model.forget_bias == "chrono",
            "jim1996": arm.noise > 0,
            "kingma2015": optimizer.name == "Adam",
            "pascanu2013": optimizer.grad_clip_norm is not None,
            "loshchilov2017": optimizer.schedule == "cosine",
            "loshchilov2019": optimizer.weight_decay > 0,
            "polyak1992": optimizer.ema_momentum is not None,
            "student1908": arm.n > 1,
        }
        keys += [key for key, is_used in used.items() if is_used]
    if several := [pair for pair in comparison.pairs if pair.n > 1]:
        keys += ["fisher1935", "mcnemar1947"] + ["holm1979"] * (len(tested_pairs(several)) > 1)
        keys += ["efron1987"] * any(pair.ci_method == BCA for pair in comparison.pairs)
        keys += ["tarone1990"] * (len(several) > 1 and any(pair.holm_p is None for pair in several))
    entries = re.findall(r"^@.*?^\}$", REFERENCES.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return "\n".join(entry for entry in entries if entry.partition("{")[2].partition(",")[0] in keys)


def _task(arms: Sequence[SeededRuns]) -> str:
    """Return what the models read, without saying how a layer of its own reads it, which nothing here knows."""
    config = arms[0].config
    order = {"none": "row by row", "bit_reversal": "in bit-reversed order"}.get(
        config.task.permutation, f"in the fixed permuted order {config.task.permutation}"
    )
    scaled = "pixels from 0 to 1; " if config.task.normalization == "unit" else ""
    held_out = f", {config.task.validation_size:,} held out" if config.task.validation_size else ""
    how, source = "one at a time", "its last state"
    if not all(has_stock_layer(arm.config) for arm in arms):
        how, source = "as one sequence", "the output of its layer"
    return (
        f"Each model reads the {NUM_TIMESTEPS} pixels of an MNIST image {how}, {order}, and classifies the digit from "
        f"{source} ({scaled}{config.num_train:,} training images{held_out}; {config.num_test:,} test images)."
    )


def _models(arms: Sequence[SeededRuns]) -> str:
    described = [
        f"{arm.name} ({_with_constants(arm)}, {count_of(arm.units, 'unit')}, {arm.num_params:,} parameters)"
        for arm in arms
    ]
    layer = "recurrent layer" if all(has_stock_layer(arm.config) for arm in arms) else "layer"
    return f"A dense layer with ten outputs follows the {layer}: {', '.join(described)}."


def _with_constants(arm: SeededRuns) -> str:
    constants = constants_text(arm.config)
    return layer_name(arm.config) + (f" with {constants}" if constants else "")


def _recipe(arms: Sequence[SeededRuns]) -> str:
    """Return what the recipes of all arms have in common, and what each has beside it."""
    parts = {arm.name: recipe_parts(arm.config, arm.noise) for arm in arms}
    shared = [part for part in parts[arms[0].name] if all(part in others for others in parts.values())]
    if not shared:
        return " ".join(f"Training of {name}: {', '.join(own)}." for name, own in parts.items())
    by_arms: dict[tuple[str, ...], list[str]] = {}
    for part in dict.fromkeys(part for own in parts.values() for part in own if part not in shared):
        by_arms.setdefault(tuple(name for name, own in parts.items() if part in own), []).append(part)
    only = [f"Only for {' and '.join(names)}: {', '.join(own)}." for names, own in by_arms.items()]
    return " ".join([f"Training: {', '.join(shared)}.", *only])


def _selection(arms: Sequence[SeededRuns]) -> str:
    seeds = sorted({arm.n + len(arm.diverged) for arm in arms})
    several = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else count_of(seeds[0], "seed")
    diverged = ", ".join(f"{len(arm.diverged)} of {arm.name}" for arm in arms if arm.diverged)
    lost = f", of which {diverged} diverged and have no accuracy" if diverged else ""
    looks = max((after_first_looks(arm.config) for arm in arms), key=len)  # one has chrono, too
    known = f" The preset strong has the same {looks}; there they were chosen after looks at test accuracies."
    return (
        f"Each model was trained with {several}{lost}; reported is the test accuracy after the final epoch, not the "
        f"best.{known * bool(looks)}"
    )


def _tests(comparison: Comparison) -> str:
    reference, pairs = comparison.arms[0].name, [pair for pair in comparison.pairs if pair.n > 1]
    sizes = [pair.n for pair in pairs]
    methods = []
    if any(pair.ci_method == BCA for pair in pairs):
        methods.append(f"the BCa bootstrap over seeds ({RESAMPLES:,} resamples)")
    if any(pair.ci_method != BCA for pair in pairs):
        methods.append(f"Student's t{f' (fewer than {BOOTSTRAP_FROM} pairs)' if min(sizes) < BOOTSTRAP_FROM else ''}")
    flips = "all sign flips, enumerated"
    if max(sizes) > ENUMERATED:
        flips = f"{FLIPS:,} random sign flips"
        if min(sizes) <= ENUMERATED:
            flips += f"; up to {ENUMERATED} pairs all sign flips, enumerated"
    tested = tested_pairs(pairs)
    corrected = f", with Holm's correction over {len(tested)} pairs" if len(tested) > 1 else ""
    if corrected and len(tested) < len(pairs):
        corrected += f" of at least {seeds_needed(1)} unequal seeds"
    return (
        f"Differences from {reference} are paired by seed. Their 95 % intervals are by {' or '.join(methods)}; p "
        f"values are of the two-sided sign-flip test ({flips}){corrected}. For each seed McNemar's exact test"
        " compares the two models on the same test images."
    )
