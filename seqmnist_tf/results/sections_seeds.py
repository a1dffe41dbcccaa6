"""Generated sections: what the seeds of an experiment say, and what they cannot say."""

from __future__ import annotations

from collections.abc import Sequence

from ..compare import SeededRuns, in_percent, pair_runs, pair_statement
from ..config import NUM_TEST
from ..train import PREDICTIONS_FILE, Predictions
from .board import HEADLINE, LIKE_THE_ORIGINAL, Board, original_accuracy
from .paragraphs import wrap_text
from .records import Record
from .sections_accuracy import epoch_range
from .seed_statistics import Statistics, range_text

COLLAPSE = 0.05  # a run whose final test accuracy is that far below its highest has lost what it had learned


def seeds_text(board: Board) -> str:
    """The spread over seeds, when seeds leave the plateau, the original's accuracy among ours, and paired tests."""
    several = {name: records for name, records in board.records.items() if len(records) > 1}
    single = [f"`{name}`" for name in board.records if name not in several]
    lines = [_spread(name, records) for name, records in several.items()]
    if single:
        lines.append(f"One seed says nothing about the spread: {', '.join(single)}.")
    lines += [_place_of_the_original(board, name) for name in LIKE_THE_ORIGINAL if name in board.records]
    lines += [_collapse(r) for r in board.all_records if r.highest["test_accuracy"] - r.accuracy > COLLAPSE]
    lines += _paired_tests(board)
    return "\n".join(wrap_text(line, "- ", "  ") for line in lines)


def plateau_text(board: Board) -> str:
    """When the published runs on sMNIST that start without chrono leave the plateau."""
    runs = []
    for name, records in board.records.items():
        model, task = records[0].config.model, records[0].config.task
        if task.permutation == "none" and model.layer == "LSTM" and model.forget_bias != "chrono":
            epochs = epoch_range([record.summary["escape_epoch"] for record in records])
            seeds = f" ({len(records)} seeds)" if len(records) > 1 else f" (seed {records[0].seed})"
            runs.append(f"`{name}` {epochs}{'' if epochs.endswith(')') else seeds}")
    if not runs:
        return "No run without chrono is published yet."
    return wrap_text(f"First epoch above 50 % of the published runs without chrono: {', '.join(runs)}.")


def _spread(name: str, records: Sequence[Record]) -> str:
    over_seeds = Statistics.from_records(records)
    digits = [record.correct for record in records]
    escaped = epoch_range([record.summary["escape_epoch"] for record in records])
    return (
        f"`{name}`, {over_seeds.n} seeds: {in_percent(over_seeds.lowest)} to {in_percent(over_seeds.highest)} %, "
        f"standard deviation {in_percent(over_seeds.deviation or 0)} points"
        f"{_points(' (of a seed over its last ten epochs: {})', [record.late_deviation for record in records])}, "
        f"{max(digits) - min(digits):,} digits between the best and the worst seed. First epoch above 50 %: {escaped}."
        f"{_points(' Largest fall after it: {} points.', [record.largest_fall for record in records])}"
    )


def _points(text: str, of_seeds: Sequence[float | None]) -> str:
    """Return a text with the range over the seeds in points, or nothing where no seed has the number."""
    numbers = [number for number in of_seeds if number is not None]
    return text.format(range_text(numbers, in_percent)) if numbers else ""


def _collapse(record: Record) -> str:
    best = record.highest
    lowest = min(record.history[best["epoch"] :], key=lambda row: row["test_accuracy"])
    return (
        f"`{record.name}`, seed {record.seed}, lost what it had learned: {in_percent(best['test_accuracy'])} % in "
        f"epoch {best['epoch']}, {in_percent(lowest['test_accuracy'])} % in epoch {lowest['epoch']}, "
        f"{in_percent(record.accuracy)} % at its end."
    )


def _place_of_the_original(board: Board, name: str) -> str:
    """Return whether the original's accuracy is typical of our seeds of an experiment."""
    accuracy = original_accuracy(board.literature)[2]
    records = board.records[name]
    below = sum(record.accuracy < accuracy for record in records)
    equal = sum(record.accuracy == accuracy for record in records)
    text = f"The original's {in_percent(accuracy)} % is one run."
    if len(records) == 1:
        side = "below" if below else "equal to" if equal else "above"
        return f"{text} Our one seed of `{name}` is {side} it; one seed cannot say whether it is typical."
    over_seeds = Statistics.from_records(records)
    place = {0: "below all", len(records): "above all"}.get(below, f"above {below}")
    if equal:
        place = f"above {below} and equal to {equal}"
    interval = f" (95 % interval {over_seeds.interval_percent()} %)" if over_seeds.interval else ""
    return (
        f"{text} It is {place} of our {len(records)} seeds of `{name}`, whose mean is {in_percent(over_seeds.mean)} %"
        f"{interval}."
    )


def _paired_tests(board: Board) -> list[str]:
    """Return what the tests of ``compare`` say on the experiments with the task of the headline's experiment."""
    if HEADLINE not in board.records:
        return []
    task = board.records[HEADLINE][0].config.task
    same = {name: records for name, records in board.records.items() if records[0].config.task == task}
    runs = [_seeded_runs(name, same[name]) for name in (HEADLINE, *(name for name in same if name != HEADLINE))]
    pairs = pair_runs(runs, NUM_TEST)
    tested = [pair_statement(pair, pairs) for pair in pairs if pair.n > 1]
    untested = [f"{pair.b} {in_percent(pair.mean_difference, sign=True)}" for pair in pairs if pair.n == 1]
    if untested:
        tested.append(
            f"Differences from `{HEADLINE}` with the one seed that both have, in points: {', '.join(untested)}. One "
            "seed allows no test: other seeds may differ by more or less."
        )
    return tested


def _seeded_runs(name: str, records: Sequence[Record]) -> SeededRuns:
    right = {r.seed: Predictions.from_csv(r.run.path / PREDICTIONS_FILE, NUM_TEST).right for r in records}
    return SeededRuns(f"`{name}`", {record.seed: record.correct for record in records}, right)
