"""Generated sections: the accuracy of published runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..compare import count_of, in_percent, task_name
from ..config import NUM_TEST, NUM_TIMESTEPS, NUM_TRAIN
from ..system import escape_markdown, markdown_table
from ..train import wilson_interval
from .board import BASELINE, HEADLINE, PERMUTED, QUICK_START, Board, headline_record, original_accuracy
from .paragraphs import wrap_text
from .records import RESULTS_FOLDER, Record
from .replays import agreement
from .seed_statistics import Statistics


def headline_text(board: Board) -> str:
    """The paragraph that the README begins with."""
    over_seeds = Statistics.from_records(board.records[HEADLINE])
    others = ""
    if PERMUTED in board.records:
        order = board.records[PERMUTED][0].config.task.permutation
        others += f"; with permuted pixels (`{order}`, preset `{PERMUTED}`), {_percent_and_seeds(board, PERMUTED)}"
    if BASELINE in board.records:
        accuracy = _percent_and_seeds(board, BASELINE)
        others += f"; with the original project's configuration and Keras's defaults, `{BASELINE}`, {accuracy}"
    return wrap_text(
        f"The LSTM baseline on sequential MNIST: a plain Keras LSTM(128) reads the {NUM_TIMESTEPS} pixels of a digit "
        f"one at a time. Trained with the preset `{HEADLINE}`, it classifies **{over_seeds.percent()} %** of the "
        f"{NUM_TEST:,} test digits correctly ({over_seeds.meaning}){others}. Every published run has its "
        "configuration, seed, commit and log, so that anyone can run it again."
    )


def _percent_and_seeds(board: Board, name: str) -> str:
    over_seeds = Statistics.from_records(board.records[name])
    seeds = count_of(over_seeds.n, "seed") if over_seeds.n > 1 else over_seeds.meaning
    return f"**{over_seeds.percent()} %** ({seeds})"


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


def summary_table(board: Board) -> str:
    """One row per experiment."""
    target = original_accuracy(board.literature)[2]
    head = [
        "experiment",
        "task",
        ">seeds",
        ">test accuracy, %",
        ">lowest to highest, %",
        ">95 % interval, %",
        ">epochs",
        ">first epoch above 50 %",
        f">first epoch at the original's {in_percent(target)} %",
    ]
    return markdown_table(head, [_summary_row(name, records, target) for name, records in board.records.items()])


def _summary_row(name: str, records: Sequence[Record], target: float) -> list[Any]:
    over_seeds = Statistics.from_records(records)
    permutation = records[0].config.task.permutation
    lowest, highest = in_percent(over_seeds.lowest), in_percent(over_seeds.highest)
    return [
        f"`{name}`",
        task_name(permutation),
        over_seeds.n,
        f"**{over_seeds.percent()}**",
        f"{lowest} to {highest}" if over_seeds.n > 1 else "",
        f"{over_seeds.interval_percent()}{' (images)' * (over_seeds.n == 1)}",
        records[0].config.train.n_epochs,
        epoch_range([record.summary["escape_epoch"] for record in records]),
        epoch_range([record.epochs_to(target) for record in records]) if permutation == "none" else "",
    ]


def runs_table(board: Board) -> str:
    """One row per run."""
    head = [
        "run",
        ">seed",
        f">correct of {NUM_TEST:,}",
        ">test accuracy, % (95 % interval)",
        ">test loss",
        ">training accuracy, %",
        ">highest test accuracy, % (epoch)",
        ">first epoch above 50 %",
        "commit",
        "configuration",
        "trained anew",
    ]
    return markdown_table(head, [_run_row(record) for record in board.all_records])


def _run_row(record: Record) -> list[Any]:
    best = record.highest
    low, high = wilson_interval(record.correct, NUM_TEST)
    return [
        f"[`{record.name}`]({record_link(record)})",
        record.seed,
        f"{record.correct:,}",
        f"{in_percent(record.accuracy)} ({in_percent(low)} to {in_percent(high)})",
        f"{record.summary['final']['test_loss']:.4f}",
        in_percent(record.history[-1]["train_accuracy"]),
        f"{in_percent(best['test_accuracy'])} ({best['epoch']})",
        record.summary["escape_epoch"] or "never",
        f"`{code_of(record)}`",
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


def record_link(record: Record) -> str:
    """Return the path of a record, relative to the root of the clone."""
    return f"{RESULTS_FOLDER.as_posix()}/{record.name}/seed{record.seed}"


def code_of(record: Record) -> str:
    """Return the first digits of a run's commit; of a run from a wheel, which has none, its version."""
    commit = record.environment["git"]["commit"]
    return commit[:7] if commit else f"v{record.environment['versions']['seqmnist_tf']}"


def replay_text(record: Record) -> str:
    """Return what of a run was trained anew, how well it agreed, and where; the longest replay, and of these the last.

    An empty string where none was.
    """
    if not record.replays:
        return ""
    entry = max(record.replays, key=lambda entry: entry["batches"])
    latest = [other for other in record.replays if other["batches"] == entry["batches"]][-1]
    where = escape_markdown(f"{latest['processor']}, {latest['kernel']}, {latest['date'][:10]}")
    return f"{latest['batches']:,} batches {agreement(latest['largest_difference'])} ({where})"


def training_machine(record: Record) -> str:
    """Return what the time of a run depends on: processor, threads and kernel, of resumed parts too."""
    parts = (record.environment, *record.environment["resumed"])
    machines = [
        f"{part['machine']['processor']}, {count_of(part['threads'], 'thread')}, {part['kernel']}" for part in parts
    ]
    return escape_markdown("; ".join(dict.fromkeys(machines)))


def epoch_range(epochs: Sequence[int | None]) -> str:
    """Return the range of the epochs in which seeds reached an accuracy; None is a seed that never did."""
    reached = sorted(epoch for epoch in epochs if epoch is not None)
    missing = len(epochs) - len(reached)
    if not reached:
        return "never"
    span = str(reached[0]) if reached[0] == reached[-1] else f"{reached[0]} to {reached[-1]}"
    return span + (f" ({missing} of {len(epochs)} seeds never)" if missing else "")
