"""The report of a comparison: ``report.md`` with its tables, rows for a paper, JSON and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..config import flatten, of_the_experiment, value_text
from ..system import InputError, RunError, markdown_table, warn
from ..train import write_figure
from .comparison import ArmResult, Comparison, PairResult
from .folder import ComparisonFolder
from .methods import bibtex, methods_paragraph
from .pictures import DPI_OF_PAPERS, draw_curves, draw_differences, draw_disagreements
from .rows import PaperRow, latex_rows, markdown_rows
from .statistics import BCA, BOOTSTRAP_IS_NARROW, Interval, smallest_sign_flip_p
from .wording import in_percent, mean_and_std, p_text, statements

CAPTIONS = {
    "curves.png": "Test error by epoch: mean over seeds, and the range from the lowest to the highest seed.",
    "differences.png": "Paired differences in test accuracy: grey: seeds; blue: mean and 95 % interval.",
    "disagreements.png": "Test digits that only one of two arms classifies correctly, most seeds first.",
}


def write_report(comparison: Comparison, folder: ComparisonFolder, data_dir: str | None = None) -> Comparison:
    """Write the report of a comparison and return it with its text.

    Args:
        comparison: arms and pairs.
        folder: where the report is written.
        data_dir: folder of the data, for the pictures of digits.

    Raises:
        OSError: the disk is full.
    """
    comparison = replace(comparison, statements=statements(comparison))
    comparison = replace(comparison, markdown=tables(comparison))
    pictures: dict[str, Any] = {"curves.png": draw_curves(comparison)}
    if comparison.pairs:
        pictures["differences.png"] = draw_differences(comparison)
        try:
            pictures["disagreements.png"] = draw_disagreements(comparison, data_dir)
        except (InputError, RunError) as error:  # runs that exist may be compared where MNIST is not
            warn(f"disagreements.png is left out: {error}")
    for name, figure in pictures.items():
        write_figure(figure, folder.path / name, DPI_OF_PAPERS)
    for name in set(CAPTIONS) - set(pictures):  # of an earlier report
        (folder.path / name).unlink(missing_ok=True)
    rows = _paper_rows(comparison.arms)
    folder.write_text("row.tex", latex_rows(rows) + "\n")
    folder.write_text("row.md", markdown_rows(rows) + "\n")
    folder.write_json("comparison.json", comparison.to_json())
    folder.write_text("report.md", report_text(comparison, list(pictures)))
    return comparison


def report_text(comparison: Comparison, pictures: Sequence[str]) -> str:
    """Return the content of ``report.md``."""
    shown = "\n\n".join(f"![{CAPTIONS[name]}]({name})\n\n{CAPTIONS[name]}" for name in pictures)
    rows = _paper_rows(comparison.arms)
    return "\n\n".join(
        [
            f"# Comparison: {', '.join(arm.name for arm in comparison.arms)}",
            comparison.markdown,
            f"## Pictures\n\n{shown}",
            f"## Methods\n\n{methods_paragraph(comparison)}",
            f"## Rows for a paper\n\n{markdown_rows(rows)}\n\n```latex\n{latex_rows(rows)}\n```",
            f"## References\n\n```bibtex\n{bibtex(comparison)}\n```\n",
        ]
    )


def _paper_rows(arms: Sequence[ArmResult]) -> list[PaperRow]:
    return [PaperRow(arm.name, arm.config, arm.num_params, mean_and_std(arm), arm.n) for arm in arms]


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


def _range_text(interval: Interval | None, sign: bool = False) -> str:
    return "" if interval is None else f"{in_percent(interval[0], sign)} to {in_percent(interval[1], sign)}"


def _arm_table(arms: Sequence[ArmResult]) -> str:
    head = ["arm", ">units", ">parameters", ">seeds", ">test accuracy, %", ">lowest to highest, %"]
    head += [">95 % interval, %", ">epochs", ">s per epoch"]
    chosen = any(arm.chosen_epochs for arm in arms)
    if chosen:
        head += [">epoch chosen on validation", ">test accuracy there, %"]
    rows = []
    for arm in arms:
        row: list[Any] = [f"`{arm.name}`", arm.units, f"{arm.num_params:,}", arm.n, mean_and_std(arm)]
        span = (min(arm.test_accuracy), max(arm.test_accuracy)) if arm.n > 1 else None
        row += [_range_text(span), _range_text(arm.ci_95), arm.epochs, f"{arm.seconds_per_epoch:.1f}"]
        if chosen:
            row += [_span_of(arm.chosen_epochs or ()), _mean_in_percent(arm.chosen_accuracies)]
        rows.append(row)
    return markdown_table(head, rows)


def _span_of(numbers: Sequence[int]) -> str:
    if not numbers:
        return ""
    return str(numbers[0]) if len(set(numbers)) == 1 else f"{min(numbers)} to {max(numbers)}"


def _mean_in_percent(shares: Sequence[float] | None) -> str:
    return in_percent(sum(shares) / len(shares)) if shares else ""


def _explain_arms(arms: Sequence[ArmResult]) -> str:
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
            _range_text(pair.ci_95, sign=True),
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


def _differing_keys(arms: Sequence[ArmResult]) -> str:
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


def _notes(arms: Sequence[ArmResult]) -> list[str]:
    notes = [note for arm in arms for note in arm.notes]
    if len({(arm.kernels, arm.machines) for arm in arms}) > 1:
        computed = "; ".join(f"{arm.name}: {', '.join(arm.kernels)} on {', '.join(arm.machines)}" for arm in arms)
        notes.append(f"Seconds per epoch do not compare the layers: they were measured with {computed}.")
    return notes
