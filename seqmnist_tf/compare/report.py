"""The report of a comparison: ``report.md`` with its tables and pictures, and JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..config import arguments_text, value_text
from ..system import in_percent, json_bytes, markdown_table, p_text, percent_range, write_atomically
from ..train import write_figure
from .comparison import Comparison, PairResult, SeededRuns, equivalence_bound, verdict
from .paper import PaperTable, bibliography, csv_table, differing_settings
from .significance import failure_interval, mcnemar_p

DPI_OF_PAPERS = 200
COMPARISON_FILE = "comparison.json"
CAPTIONS = {
    "curves": "Test error by epoch: mean over seeds, and the range from the lowest to the highest seed.",
    "gradients": "Median norm of an epoch's gradients, before clipping: mean over seeds, and the range.",
    "differences": "Differences in test accuracy from the first arm. Grey: seeds; blue: mean and 95 % interval.",
    "disagreements": "Test digits that one of two arms classifies correctly in more seeds than the other.",
}
EXPLAINED = "Intervals are Welch's; p is of a permutation test, two-sided (docs/compare.md explains each column)."


def write_report(comparison: Comparison, pictures: Mapping[str, Figure], folder: Path) -> Comparison:
    """Write the report with its pictures, by the names of CAPTIONS; return the comparison with the report's tables."""
    comparison, paper = (
        replace(comparison, markdown=tables(comparison)),
        PaperTable.of(comparison.arms, comparison.pairs),
    )
    for name in CAPTIONS:
        for suffix in ("png", "pdf"):
            path = folder / f"{name}.{suffix}"
            if name in pictures:
                write_figure(pictures[name], path, DPI_OF_PAPERS)
            else:  # of an earlier report
                path.unlink(missing_ok=True)
    texts = {"row.md": paper.markdown(), "row.tex": paper.latex(), "row.csv": csv_table(comparison)}
    for name, text in {**texts, "cite.bib": bibliography(comparison.arms)}.items():
        write_atomically(folder / name, text.encode())
    shown = "\n\n".join(f"![{CAPTIONS[name]}]({name}.png)\n\n{CAPTIONS[name]}" for name in pictures)
    title = f"# Comparison: {', '.join(arm.name for arm in comparison.arms)}"
    parts = [title, comparison.markdown, f"## Pictures\n\n{shown}\n\nEach is also there as PDF."]
    parts.append(
        f"## Table for a paper\n\n{paper.markdown()}\nAlso in `row.tex` and `row.csv`; references: `cite.bib`.\n"
    )
    write_atomically(folder / COMPARISON_FILE, json_bytes(comparison.to_json()))
    write_atomically(folder / "report.md", "\n\n".join(parts).encode())
    return comparison


def tables(comparison: Comparison) -> str:
    """Return the result in tables, without a heading of its own."""
    arms = comparison.arms
    parts = [f"## Arms\n\n{_table([_arm_row(arm) for arm in arms])}"]
    if comparison.pairs:
        bound = equivalence_bound(arms[0].config)
        pairs = [_pair_row(pair, bound) for pair in comparison.pairs]
        parts.append(f"## Pairs\n\n{_table(pairs)}\n\n{_margin_text(arms[0], bound)} {EXPLAINED}")
    if single := [arm for arm in arms[1:] if 1 in (arm.n, arms[0].n)]:
        parts.append(f"## Models of one seed\n\n{_mcnemar_table(arms[0], single)}")
    if differing := _differing_keys(arms):
        parts.append(f"## What differs between the arms\n\n{differing}")
    if notes := [note for arm in arms for note in arm.notes]:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of rows that have the same columns."""
    return markdown_table(list(rows[0]), [list(row.values()) for row in rows])


def _arm_row(arm: SeededRuns) -> dict[str, Any]:
    low, high = failure_interval(arm.failed, arm.num_seeds)
    return {
        "arm": f"`{arm.name}`",
        ">units, constants": arguments_text(arm.config),
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
        ">memory, MB": f"{arm.peak_mb:,.0f}" if arm.peak_mb else "",
    }


def _pair_row(pair: PairResult, bound: float) -> dict[str, str]:
    return {
        "pair": f"`{pair.b}` against `{pair.a}`",
        ">difference, points": in_percent(pair.mean_difference, sign=True),
        ">95 % interval, points": percent_range(pair.ci_95, sign=True),
        ">p": p_text(pair.permutation_p),
        ">p (Holm)": p_text(pair.holm_p),
        f"verdict (margin {100 * bound:g} points)": verdict(pair, bound),
    }


def _margin_text(first: SeededRuns, bound: float) -> str:
    """Return a sentence that says what the margin of equivalence is in digits."""
    digits, errors = bound * first.total, (1 - first.mean) * first.total
    if digits < 1:
        return f"The margin of {100 * bound:g} points is less than one of {first.total:,} digits."
    share = f", {100 * digits / errors:.0f} % of the errors of `{first.name}`" if errors else ""
    return f"The margin of {100 * bound:g} points is {digits:.4g} of {first.total:,} digits{share}."


def _mcnemar_table(first: SeededRuns, others: Sequence[SeededRuns]) -> str:
    """Return McNemar's exact test of two models: of the seed that an arm has alone, or else of the first seeds."""
    rows = []
    for other in others:
        common = [seed for seed in first.seeds if seed in other.seeds]
        seeds = (common[0], common[0]) if common else (first.seeds[0], other.seeds[0])
        a, b = (arm.predictions[arm.seeds.index(seed)].right for arm, seed in zip((first, other), seeds, strict=True))
        only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
        rows.append(
            {
                "models": f"`{first.name}` seed {seeds[0]}, `{other.name}` seed {seeds[1]}",
                ">only the first right": only_a,
                ">only the second right": only_b,
                ">McNemar p": p_text(mcnemar_p(only_a, only_b)),
            }
        )
    return f"{_table(rows)}\n\nMcNemar's exact test is of these two models: other seeds may disagree."


def _differing_keys(arms: Sequence[SeededRuns]) -> str:
    """Return a table of the settings that differ between the arms, and of their code; empty where none does."""
    rows = {f"`{key}`": values for key, values in differing_settings(arms).items()}
    files = [arm.runs[0].directory.layer_file for arm in arms]
    codes = [file and hashlib.sha256(file.content).hexdigest()[:12] for file in files]
    if len(set(codes)) > 1:
        rows["`SHA-256 of layer.py`"] = codes
    cells = [(key, *(f"`{value_text(value)}`" for value in values)) for key, values in rows.items()]
    return markdown_table(["key", *(f"`{arm.name}`" for arm in arms)], cells) if cells else ""
