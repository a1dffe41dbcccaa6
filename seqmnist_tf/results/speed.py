"""Generated sections: how long training and classification take."""

from __future__ import annotations

import statistics
from typing import Any

from ..benchmark import cells_report, serving_report, training_report
from ..compare import in_percent
from ..system import markdown_table
from .board import Board, epoch_range, original_accuracy, range_text, training_machine, wrap_text
from .records import Record


def cost_table(board: Board) -> str:
    """How long training took: one row per experiment and machine."""
    rows = []
    for name, records in board.records.items():
        by_machine: dict[str, list[Record]] = {}
        for record in records:
            by_machine.setdefault(training_machine(record), []).append(record)
        for machine, same_machine in by_machine.items():
            seconds = [row["seconds"] for record in same_machine for row in record.history]
            minutes = statistics.mean(record.minutes_to(len(record.history)) for record in same_machine)
            seeds = ", ".join(str(record.seed) for record in same_machine)
            per_epoch = f"{statistics.median(seconds):.0f} ({min(seconds):.0f})"
            rows.append([f"`{name}`", seeds, per_epoch, f"{minutes:.0f}", machine])
    return markdown_table(
        ["experiment", ">seeds", ">seconds per epoch: median (minimum)", ">minutes per run", "machine"], rows
    )


def targets_table(board: Board) -> str:
    """Epochs and minutes of training until the original's accuracy, and until 99 %, of the experiments on sMNIST."""
    targets = (original_accuracy(board.literature)[2], 0.99)
    head = ["experiment", ">seeds"]
    for target in targets:
        head += [f">first epoch at {in_percent(target)} %", ">minutes", ">seeds that end there"]
    rows = []
    for name, records in board.records.items():
        if records[0].config.task.permutation != "none":
            continue
        row: list[Any] = [f"`{name}`", len(records)]
        for target in targets:
            epochs = [record.epochs_to(target) for record in records]
            minutes = [record.minutes_to(epoch) for record, epoch in zip(records, epochs, strict=True) if epoch]
            ends = sum(record.accuracy >= target for record in records)
            row += [epoch_range(epochs), range_text(minutes, "{:.0f}".format), f"{ends} of {len(records)}"]
        rows.append(row)
    return markdown_table(head, rows)


def speed_tables(board: Board) -> str:
    """The native kernel compared with other implementations."""
    return training_report(board.speed)


def cells_tables(board: Board) -> str:
    """The native kernel and stock Keras by cell, for each instruction set that was measured."""
    return "\n\n".join(cells_report(document) for document in board.speed["cells"])


def serving_tables(board: Board) -> str:
    """Latency of the exported model, and of the local server under load."""
    return serving_report(board.serving)


def one_image_text(board: Board) -> str:
    """Latency of one image."""
    row = next(row for row in board.serving["latency"] if row["batch"] == 1 and not row["rest_ms"])
    return wrap_text(
        f"The exported model classifies one image in {row['serving_default_ms']:.1f} ms; exported with Keras's own "
        f"`model.export()`, the same model takes {row['stock_ms']:.1f} ms (`serving_default`, called in one process)."
    )
