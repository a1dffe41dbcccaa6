"""Generated sections on accuracy: of the published runs, and over the seeds of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..compare import SeededRuns, equivalence_bound, in_percent, pair_runs, pair_table, percent_range, task_name
from ..config import NUM_TEST, NUM_TIMESTEPS, NUM_TRAIN
from ..system import escape_markdown, markdown_table
from ..train import wilson_interval
from .board import (
    BASELINE,
    HEADLINE,
    LIKE_THE_ORIGINAL,
    PERMUTED,
    QUICK_START,
    Board,
    code_of,
    epoch_range,
    headline_record,
    original_accuracy,
    range_text,
    record_link,
    replay_text,
    training_machine,
    wrap_text,
)
from .recipes import chosen_by
from .records import Record

COLLAPSE = 0.05  # a run whose final test accuracy is that far below its highest has lost what it had learned
MAIN_EXPERIMENTS = (BASELINE, HEADLINE, PERMUTED, "sprint_15")  # of the README's table


def headline_text(board: Board) -> str:
    """The paragraph that the README begins with."""
    over_seeds = board.experiment(headline_record(board).name)
    others = ""
    if PERMUTED in board.records:
        order = board.records[PERMUTED][0].config.task.permutation
        others += f"; with permuted pixels (`{order}`, preset `{PERMUTED}`), {_percent_and_seeds(board, PERMUTED)}"
    if BASELINE in board.records:
        others += f"; the untuned preset `{BASELINE}`, the original project's configuration with Keras's defaults, "
        others += f"reaches {_percent_and_seeds(board, BASELINE)}"
    return wrap_text(
        f"The LSTM baseline on sequential MNIST: a plain Keras LSTM(128) reads the {NUM_TIMESTEPS} pixels of a digit "
        f"one at a time. Trained with the tuned preset `{HEADLINE}`, it classifies **{over_seeds.text} %** of the "
        f"{NUM_TEST:,} test digits correctly ({over_seeds.meaning}){others}. Every published run has its "
        "configuration, seed, commit and log, so that anyone can run it again."
    )


def _percent_and_seeds(board: Board, name: str) -> str:
    over_seeds = board.experiment(name)
    seeds = f"{over_seeds.seeds_text} seeds" if over_seeds.n > 1 else over_seeds.meaning
    return f"**{over_seeds.text} %** ({seeds})"


def quick_start_text(board: Board) -> str:
    """What the README's first command does, and how long it took."""
    text = f"Train an LSTM on the {NUM_TRAIN:,} training images of MNIST"
    if QUICK_START in board.records:
        record = board.records[QUICK_START][0]
        minutes = record.summary["seconds_total"] / 60
        text += (
            f" for {record.config.train.n_epochs} epochs. Seed {record.seed} reached "
            f"**{in_percent(record.accuracy)} %** test accuracy after {minutes:.1f} minutes of training "
            f"([record]({record_link(record)}/summary.json): {training_machine(record)})"
        )
    return wrap_text(text + ". Without a C++ compiler, or on Windows, training takes several times as long:")


def main_table(board: Board) -> str:
    """One short row for each experiment that a reader looks for first."""
    head = ("experiment", "task", ">seeds", ">test accuracy, %", ">epochs")
    rows = []
    for name in MAIN_EXPERIMENTS:
        if name in board.records:
            title, task, seeds, accuracy, _, _, epochs, *_ = _summary_row(board, name, 1.0)
            rows.append((title, task, seeds, accuracy, epochs))
    return markdown_table(head, rows)


def summary_table(board: Board) -> str:
    """One row per experiment."""
    target = original_accuracy(board.literature)[2]
    head = ["experiment", "task", ">seeds", ">test accuracy, %", ">lowest to highest, %", ">95 % interval, %"]
    head += [
        ">epochs",
        ">first epoch above 50 %",
        f">first epoch at the original's {in_percent(target)} %",
        "chosen by",
    ]
    rows = [
        [*_summary_row(board, name, target), chosen_by(board, records[0])] for name, records in board.records.items()
    ]
    return markdown_table(head, rows)


def _summary_row(board: Board, name: str, target: float) -> list[Any]:
    records, over_seeds = board.records[name], board.experiment(name)
    permutation = over_seeds.config.task.permutation
    return [
        f"`{name}`",
        task_name(over_seeds.config),
        over_seeds.seeds_text,
        f"**{over_seeds.text}**",
        percent_range(over_seeds.range if over_seeds.n > 1 else None),
        f"{_interval_text(over_seeds)}{' (images)' * (over_seeds.n == 1)}",
        over_seeds.config.train.n_epochs,
        epoch_range([record.summary["escape_epoch"] for record in records]),
        epoch_range([record.epochs_to(target) for record in records]) if permutation == "none" else "",
    ]


def _interval_text(over_seeds: SeededRuns) -> str:
    """Return the 95 % interval in percent, such as ``99.06 to 99.16``.

    Several seeds: for the mean over seeds, and none where all are equal. One seed: Wilson's score interval, where the
    10,000 test digits are the sample.
    """
    if over_seeds.n == 1:
        return percent_range(wilson_interval(over_seeds.correct[0], over_seeds.total))
    return percent_range(over_seeds.ci_95 if len(set(over_seeds.correct)) > 1 else None)


def runs_table(board: Board) -> str:
    """One row per run."""
    head = ["run", ">seed", f">correct of {NUM_TEST:,}", ">test accuracy, % (95 % interval)", ">test loss"]
    head += [">training accuracy, %", ">highest test accuracy, % (epoch)", ">first epoch above 50 %"]
    head += ["commit", "configuration", "trained anew (as its publisher or others say)"]
    return markdown_table(head, [*map(_run_row, board.all_records + board.diverged)])


def _run_row(record: Record) -> list[Any]:
    if record.diverged:
        results = ["", f"diverged: {escape_markdown(record.summary['reason'])}", "", "", "", ""]
    else:
        best = record.highest
        results = [
            f"{record.correct:,}",
            f"{in_percent(record.accuracy)} ({percent_range(wilson_interval(record.correct, NUM_TEST))})",
            f"{record.summary['final']['test_loss']:.4f}",
            in_percent(record.history[-1]["train_accuracy"]),
            f"{in_percent(best['test_accuracy'])} ({best['epoch']})",
            record.summary["escape_epoch"] or "never",
        ]
    return [
        f"[`{record.name}`]({record_link(record)})",
        record.seed,
        *results,
        f"`{code_of(record.environment)}`",
        f"`{record.summary['config_id']}`",
        replay_text(record),
    ]


def exported_text(board: Board) -> str:
    """The run of the exported version that TF Serving calls stable; a test holds it against ``export/``."""
    record = headline_record(board)
    return wrap_text(
        f"The version with the label `stable` is the run `{record.name}`, seed {record.seed} "
        f"([record]({record_link(record)})). It classifies **{record.correct:,}** of the {NUM_TEST:,} test digits "
        "correctly."
    )


def seeds_text(board: Board) -> str:
    """The spread over seeds, when seeds leave the plateau, the original's accuracy among ours, and the tests."""
    several = [name for name, records in board.records.items() if len(records) > 1]
    single = [f"`{name}`" for name in board.records if name not in several]
    lines = [_spread(board, name) for name in several]
    if single:
        lines.append(f"One seed says nothing about the spread: {', '.join(single)}.")
    lines += [_place_of_the_original(board, name) for name in LIKE_THE_ORIGINAL if name in board.records]
    lines += [_collapse(r) for r in board.all_records if r.highest["test_accuracy"] - r.accuracy > COLLAPSE]
    lines += [
        f"`{record.name}`, seed {record.seed}, diverged ({escape_markdown(record.summary['reason'])}): it counts as "
        "failed, and is in no mean."
        for record in board.diverged
    ]
    return "\n".join(wrap_text(line, "- ", "  ") for line in lines) + _tests(board)


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


def _spread(board: Board, name: str) -> str:
    records, over_seeds = board.records[name], board.experiment(name)
    escaped = epoch_range([record.summary["escape_epoch"] for record in records])
    return (
        f"`{name}`, {over_seeds.seeds_text} seeds: {percent_range(over_seeds.range)} %, standard deviation "
        f"{in_percent(over_seeds.std or 0)} points"
        f"{_points(' (of a seed over its last ten epochs: {})', [record.late_deviation for record in records])}, "
        f"{max(over_seeds.correct) - min(over_seeds.correct):,} digits between the best and the worst seed. First "
        f"epoch above 50 %: {escaped}."
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
    text = f"The original's {in_percent(accuracy)} %, inferred from its printed figure, is one run."
    if len(records) == 1:
        side = "below" if below else "equal to" if equal else "above"
        return f"{text} Our one seed of `{name}` is {side} it; one seed cannot say whether it is typical."
    over_seeds = board.experiment(name)
    place = {0: "below all", len(records): "above all"}.get(below, f"above {below}")
    if equal:
        place = f"above {below} and equal to {equal}"
    interval = f" (95 % interval {own} %)" if (own := _interval_text(over_seeds)) else ""
    return (
        f"{text} It is {place} of our {len(records)} seeds of `{name}`, whose mean is {in_percent(over_seeds.mean)} %"
        f"{interval}."
    )


def _tests(board: Board) -> str:
    """Return the experiments with the task of the headline's experiment, each against it."""
    if HEADLINE not in board.records:
        return ""
    task = board.records[HEADLINE][0].config.task
    others = [
        name
        for name, records in board.records.items()
        if records[0].config.task == task and name not in (HEADLINE, *board.cells)  # which are held against their LSTM
    ]
    first, *rest = (board.experiment(name) for name in (HEADLINE, *others))
    return "\n\n" + pair_table(pair_runs([first, *rest]), equivalence_bound(first.config)) if rest else ""
