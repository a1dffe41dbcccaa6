"""Generated sections: how long training and classification take."""

from __future__ import annotations

import statistics

from ..benchmark import serving_report, training_report
from ..system import markdown_table
from .board import Board
from .records import Record
from .sections import document_section, wrap_text
from .sections_accuracy import training_machine


@document_section("cost")
def cost_table(board: Board) -> str:
    """How long training took: one row per experiment and machine."""
    rows = []
    for name, records in board.records.items():
        by_machine: dict[str, list[Record]] = {}
        for record in records:
            by_machine.setdefault(training_machine(record), []).append(record)
        for machine, same_machine in by_machine.items():
            seconds = [row["seconds"] for record in same_machine for row in record.history]
            minutes = statistics.mean(record.summary["seconds_total"] for record in same_machine) / 60
            seeds = ", ".join(str(record.seed) for record in same_machine)
            per_epoch = f"{statistics.median(seconds):.0f} ({min(seconds):.0f})"
            rows.append([f"`{name}`", seeds, per_epoch, f"{minutes:.0f}", machine])
    return markdown_table(
        ["run", ">seeds", ">seconds per epoch: median (minimum)", ">minutes per run", "machine"], rows
    )


@document_section("speed")
def speed_tables(board: Board) -> str:
    """The native kernel compared with other implementations."""
    return training_report(board.speed)


@document_section("serving")
def serving_tables(board: Board) -> str:
    """Latency of the exported model, and of the local server under load."""
    return serving_report(board.serving)


@document_section("one_image")
def one_image_text(board: Board) -> str:
    """Latency of one image."""
    row = next(row for row in board.serving["latency"] if row["batch"] == 1 and not row["rest_ms"])
    return wrap_text(
        f"The exported model classifies one image in {row['serving_default_ms']:.1f} ms; exported with Keras's own "
        f"`model.export()`, the same model takes {row['stock_ms']:.1f} ms (`serving_default`, called in one process)."
    )
