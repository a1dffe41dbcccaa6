"""The report of a comparison: ``report.md`` with its tables and pictures, rows for a paper, and JSON."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..config import NUM_TEST, NUM_TRAIN, Config, arguments_text, constants_text, flatten, of_the_experiment, value_text
from ..system import json_bytes, markdown_table, write_atomically
from ..train import write_figure
from .comparison import Comparison, PairResult, SeededRuns, equivalence_bound
from .statistics import failure_interval, in_percent, mcnemar_p, p_text, percent_range

DPI_OF_PAPERS = 200
REPORT_FILE = "comparison.json"
CAPTIONS = {
    "curves": "Test error by epoch: mean over seeds, and the range from the lowest to the highest seed.",
    "gradients": "Median norm of an epoch's gradients, before clipping: mean over seeds, and the range.",
    "differences": "Differences in test accuracy from the first arm. Grey: seeds; blue: mean and 95 % interval.",
    "disagreements": "Test digits that one of two arms classifies correctly in more seeds than the other.",
}
ROW_HEAD = ["model", "task", ">parameters", "training", ">test accuracy, %", ">seeds"]
EXPLAINED = "Intervals are Welch's; p is of a permutation test, two-sided (docs/compare.md explains each column)."
LATEX = str.maketrans(
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {character: f"\\{character}" for character in "&%$#_{}"}
)
VERDICTS = {None: "", True: "yes", False: "not shown"}


def write_report(comparison: Comparison, pictures: Mapping[str, Figure], folder: Path) -> Comparison:
    """Write the report with its pictures, by the names of CAPTIONS; return the comparison with the report's tables."""
    comparison = replace(comparison, markdown=tables(comparison))
    for name in CAPTIONS:
        for suffix in ("png", "pdf"):
            path = folder / f"{name}.{suffix}"
            if name in pictures:
                write_figure(pictures[name], path, DPI_OF_PAPERS)
            else:  # of an earlier report
                path.unlink(missing_ok=True)
    rows = {"md": markdown_rows, "tex": latex_table, "csv": csv_rows}
    for kind, make in rows.items():
        write_atomically(folder / f"row.{kind}", f"{make(comparison.arms)}\n".encode())
    shown = "\n\n".join(f"![{CAPTIONS[name]}]({name}.png)\n\n{CAPTIONS[name]}" for name in pictures)
    title = f"# Comparison: {', '.join(arm.name for arm in comparison.arms)}"
    parts = [title, comparison.markdown, f"## Pictures\n\n{shown}\n\nEach is also there as PDF."]
    parts.append(f"## Rows for a paper\n\n{markdown_rows(comparison.arms)}\n\nAlso in `row.tex` and `row.csv`.\n")
    write_atomically(folder / REPORT_FILE, json_bytes(comparison.to_json()))
    write_atomically(folder / "report.md", "\n\n".join(parts).encode())
    return comparison


def tables(comparison: Comparison) -> str:
    """Return the result in tables, without a heading of its own."""
    arms = comparison.arms
    parts = [f"## Arms\n\n{arm_table(arms)}"]
    if comparison.pairs:
        pairs = pair_table(comparison.pairs, equivalence_bound(arms[0].config))
        parts.append(f"## Pairs\n\n{pairs}\n\n{EXPLAINED}")
    if single := [arm for arm in arms[1:] if 1 in (arm.n, arms[0].n)]:
        parts.append(f"## Models of one seed\n\n{_mcnemar_table(arms[0], single)}")
    if differing := _differing_keys(arms):
        parts.append(f"## What differs between the arms\n\n{differing}")
    if notes := [note for arm in arms for note in arm.notes]:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts)


def arm_table(arms: Sequence[SeededRuns]) -> str:
    """Return one row per arm."""
    rows: list[dict[str, Any]] = []
    for arm in arms:
        low, high = failure_interval(arm.failed, arm.n + len(arm.diverged))
        constants = {"constants": constants_text(arm.config)} if any(constants_text(a.config) for a in arms) else {}
        rows.append(
            {
                "arm": f"`{arm.name}`",
                **constants,
                ">units": arm.units,
                ">parameters": f"{arm.num_params:,}",
                ">seeds": arm.n,
                ">median, %": in_percent(arm.median),
                ">mean ± SD, %": arm.text,
                ">95 % interval, %": percent_range(arm.ci_95),
                ">worst seed, %": in_percent(arm.worst),
                ">failed": f"{arm.failures} ({100 * low:.0f} to {100 * high:.0f} %)",
                ">epochs": arm.config.train.n_epochs,
                ">s per epoch": f"{arm.seconds_per_epoch:.1f}",
                ">ms per step": f"{arm.step_ms:.1f}" if arm.step_ms else "",
            }
        )
    return markdown_table(list(rows[0]), [list(row.values()) for row in rows])


def pair_table(pairs: Sequence[PairResult], bound: float) -> str:
    """Return one row per pair; ``bound`` is that of equivalence, 0 to 1."""
    head = ["pair", ">difference, points", ">95 % interval, points", ">p", ">p (Holm)"]
    head.append(f"equivalent (± {100 * bound:g} points)")
    rows = [
        (
            f"`{pair.b}` against `{pair.a}`",
            in_percent(pair.mean_difference, sign=True),
            percent_range(pair.ci_95, sign=True),
            p_text(pair.permutation_p),
            p_text(pair.holm_p),
            VERDICTS[pair.equivalent],
        )
        for pair in pairs
    ]
    return markdown_table(head, rows)


def _mcnemar_table(first: SeededRuns, others: Sequence[SeededRuns]) -> str:
    """Return McNemar's exact test of two models: of the seed that an arm has alone, or else of the first seeds."""
    head = ["models", ">only the first right", ">only the second right", ">McNemar p"]
    rows = []
    for other in others:
        common = [seed for seed in first.seeds if seed in other.seeds]
        seeds = (common[0], common[0]) if common else (first.seeds[0], other.seeds[0])
        a, b = (arm.predictions[arm.seeds.index(seed)].right for arm, seed in zip((first, other), seeds, strict=True))
        only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
        models = f"`{first.name}` seed {seeds[0]}, `{other.name}` seed {seeds[1]}"
        rows.append((models, only_a, only_b, p_text(mcnemar_p(only_a, only_b))))
    return f"{markdown_table(head, rows)}\n\nMcNemar's exact test is of these two models: other seeds may disagree."


def _differing_keys(arms: Sequence[SeededRuns]) -> str:
    """Return a table of the keys whose values differ between the arms; empty where none does."""
    values = []
    for arm in arms:
        file = arm.runs[0].run.layer_file
        code = hashlib.sha256(file.content).hexdigest()[:12] if file else None
        values.append({**flatten(arm.config), "SHA-256 of layer.py": code})
    keys = [key for key in values[0] if of_the_experiment(key) and len({str(v[key]) for v in values}) > 1]
    rows = [(f"`{key}`", *(f"`{value_text(v[key])}`" for v in values)) for key in keys]
    return markdown_table(["key", *(f"`{arm.name}`" for arm in arms)], rows) if rows else ""


def markdown_rows(experiments: Iterable[SeededRuns]) -> str:
    """Return a table in Markdown: model, task, parameters, training, test accuracy, seeds."""
    return markdown_table(ROW_HEAD, [(f"{_model(one)} `{one.name}`", *_cells(one)) for one in experiments])


def latex_table(experiments: Iterable[SeededRuns]) -> str:
    """Return the same rows as a ``tabular`` of LaTeX."""
    columns = "".join("r" if column.startswith(">") else "l" for column in ROW_HEAD)
    head = " & ".join(escape_latex(column.removeprefix(">")) for column in ROW_HEAD)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", rf"{head} \\", r"\hline"]
    for one in experiments:
        *cells, accuracy, seeds = _cells(one)
        name = rf"{escape_latex(_model(one))} (\texttt{{{escape_latex(one.name)}}})"
        accuracy = f"${accuracy.replace('±', chr(92) + 'pm')}$"
        lines.append(" & ".join([name, *map(escape_latex, cells), accuracy, seeds]) + r" \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}"])


def csv_rows(experiments: Iterable[SeededRuns]) -> str:
    """Return the same rows as CSV."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["name", *(column.removeprefix(">") for column in ROW_HEAD)])
    writer.writerows((one.name, _model(one), *_cells(one)) for one in experiments)
    return file.getvalue().rstrip("\n")


def _model(one: SeededRuns) -> str:
    """Return the layer with its units and constants."""
    own = " (custom layer)" if ":" in one.config.model.layer else ""
    return f"{layer_name(one.config)}({arguments_text(one.config)}){own}"


def _cells(one: SeededRuns) -> tuple[str, ...]:
    """Return task, parameters, training, accuracy and seeds."""
    epochs = one.config.train.n_epochs
    training = f"{one.config.optimizer.name}, {epochs} epoch{'s' if epochs > 1 else ''}"
    return task_name(one.config), f"{one.num_params:,}", training, one.text, one.seeds_text


def escape_latex(text: str) -> str:
    r"""Return text with the characters that LaTeX treats as commands escaped.

    Example:
        >>> escape_latex("my_layer 50 %")
        'my\\_layer 50 \\%'
    """
    return text.translate(LATEX)


def task_name(config: Config) -> str:
    """Return the task's usual name, with the pixel order where there is one, and with a part of the images.

    Example:
        >>> task_name(Config())
        'sMNIST'
    """
    task = config.task
    parts = ["sMNIST" if task.permutation == "none" else f"psMNIST ({task.permutation})"]
    if config.num_train != NUM_TRAIN - task.validation_size:
        parts.append(f"{config.num_train:,} training images")
    if config.num_test != NUM_TEST:
        parts.append(f"{config.num_test:,} test images")
    return ", ".join(parts)


def layer_name(config: Config) -> str:
    """Return the name of the layer, without its file or module."""
    return config.model.layer.rpartition(":")[2]
