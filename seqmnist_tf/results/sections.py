"""Generated sections: the original and papers beside the results, rows to paste, speed, keys, presets and layers."""

from __future__ import annotations

import re
import statistics
from typing import Any

from ..compare import in_percent, latex_rows, markdown_rows
from ..config import LAYER_FILE, NUM_TEST, OPTIONS, PRESETS, value_text
from ..system import markdown_table
from .board import (
    LIKE_THE_ORIGINAL,
    Board,
    epoch_range,
    original_accuracy,
    range_text,
    record_link,
    training_machine,
    wrap_text,
)
from .records import Record

COMPARED_UNITS = (100, 130)  # plain LSTMs of a size near 128 units


def rows_to_paste(board: Board) -> str:
    """One row per experiment, in Markdown and in LaTeX."""
    experiments = [board.experiment(name) for name in board.records]
    latex = latex_rows(experiments, source="seqmnist_tf, ")
    return "\n".join(["```markdown", markdown_rows(experiments), "```", "", "```latex", latex, "```"])


def original_table(board: Board) -> str:
    """The accuracy that the original project prints, the corrected one, and ours."""
    printed = board.literature["upstream"]
    correct, divisor, accuracy = original_accuracy(board.literature)
    printed_percent, printed_loss = f"{printed['printed_accuracy_percent']:.2f}", printed["printed_loss"]
    rows: list[list[Any]] = [
        ["original, as printed", f"{correct:,}", printed_percent, "", printed_loss],
        ["original, inferred", f"{correct:,}", "", f"**{in_percent(accuracy)}**", printed_loss],
    ]
    for record in (record for name in LIKE_THE_ORIGINAL for record in board.records.get(name, [])):
        shares = [in_percent(record.correct / divisor), f"**{in_percent(record.accuracy)}**"]
        loss = f"{record.summary['final']['test_loss']:.5f}"
        rows.append([f"`{record.name}`, seed {record.seed}", f"{record.correct:,}", *shares, loss])
    batches = f"{printed['batches']} batches x {printed['batch_size']:,}"
    head = ["", ">correct", f">correct / {divisor:,} ({batches}), %", f">correct / {NUM_TEST:,}, %", ">test loss"]
    return markdown_table(head, rows)


def literature_table(board: Board) -> str:
    """Published accuracies of the plain LSTM, and how far they differ."""
    head = ["source", ">units", ">parameters", ">sMNIST, %", ">psMNIST, %", ">runs", "training, remarks"]
    head.append("figures taken from")
    published = board.literature["plain_lstm"]
    rows = [
        [
            row["source"],
            row["units"],
            row.get("parameters", ""),
            f"{_or_empty(row['smnist'])} {row.get('spread', '')}".strip(),
            _or_empty(row["psmnist"]),
            row.get("runs", ""),
            "; ".join(filter(None, [row["recipe"], row.get("note", "")])),
            row["read_in"],
        ]
        for row in published
    ]
    least, most = COMPARED_UNITS
    similar = [
        row
        for row in published
        if row["smnist"] is not None and row["units"].isdecimal() and least <= int(row["units"]) <= most
    ]
    accuracies, spreads = [row["smnist"] for row in similar], sum("spread" in row for row in similar)
    text = (
        f"The accuracies on sMNIST of a plain LSTM with one layer of {least} to {most} units range from "
        f"{min(accuracies)} to {max(accuracies)} %. Of these {len(similar)} accuracies, from "
        f"{len({row['source'] for row in similar})} sources, {spreads} {'has' if spreads == 1 else 'have'} a spread "
        "over runs. They differ in training, in the images held out, and in how an epoch or a run was chosen."
    )
    return markdown_table(head, rows) + "\n\n" + wrap_text(text)


def other_cells_table(board: Board) -> str:
    """Published accuracies of other recurrent cells, which are what the LSTM can be compared with."""
    rows = [
        [row["source"], row["parameters"], row["smnist"], _or_empty(row["psmnist"]), row["read_in"]]
        for row in board.literature["other_cells"]
    ]
    return markdown_table(["cell", ">parameters", ">sMNIST, %", ">psMNIST, %", "figures taken from"], rows)


def _or_empty(value: float | None) -> float | str:
    return "" if value is None else value


def cost_table(board: Board) -> str:
    """How long training took: one row per experiment and machine."""
    rows = []
    for name, records in board.records.items():
        by_machine: dict[str, list[Record]] = {}
        for record in records:
            by_machine.setdefault(training_machine(record), []).append(record)
        for machine, same_machine in by_machine.items():
            shortest = min(row["seconds"] for record in same_machine for row in record.history)
            epoch = statistics.median(60 * record.minutes_to(1) for record in same_machine)
            minutes = statistics.median(record.minutes_to(len(record.history)) for record in same_machine)
            seeds = ", ".join(str(record.seed) for record in same_machine)
            per_epoch = f"{epoch:.0f} ({shortest:.0f})"
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
        row: list[Any] = [f"`{name}`", board.experiment(name).seeds_text]
        for target in targets:
            epochs = [record.epochs_to(target) for record in records]
            minutes = [record.minutes_to(epoch) for record, epoch in zip(records, epochs, strict=True) if epoch]
            ends = sum(record.accuracy >= target for record in records)
            row += [epoch_range(epochs), range_text(minutes, "{:.0f}".format), f"{ends} of {len(records)}"]
        rows.append(row)
    return markdown_table(head, rows)


def configuration_table(_: Board) -> str:
    """One row per key of the configuration."""
    rows = [
        [
            f"`{key}`",
            f"`{value_text(option.default)}`",
            option.allowed.replace("\\", "\\\\"),
            option.meaning.replace("\\", "\\\\"),
        ]
        for key, option in OPTIONS.items()
    ]
    return markdown_table(["key", "default", "allowed values", "meaning"], rows)


def presets_list(board: Board) -> str:
    """One list item per preset, with what its published runs reached."""
    return "\n".join(
        wrap_text(f"- `{name}`: {preset.doc} {_published(board, name)}", others="  ")
        for name, preset in PRESETS.items()
    )


def _published(board: Board, name: str) -> str:
    if name not in board.records:
        return "No run is published yet."
    over_seeds = board.experiment(name)
    first = epoch_range([record.summary["escape_epoch"] for record in board.records[name]])
    return f"Test accuracy: **{over_seeds.text} %** ({over_seeds.meaning}); first epoch above 50 %: {first}."


def layers_text(board: Board) -> str:
    """The text of each ``layer.py`` and of what it imports, so that it can be read before it is allowed to run."""
    texts: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for record in board.all_records + board.diverged + board.trials:
        if file := record.run.layer_file:
            files = {name: content.decode() for name, content in file.files.items()}
            link = f"[`{record.name}`, seed {record.seed}]({record_link(record)})"
            texts.setdefault(tuple(files.items()), []).append(link)
    for search in board.searches:
        for source in search.document["layers"].values():
            texts.setdefault(((LAYER_FILE, source),), []).append(f"`{search.name}`")
    if not texts:
        return "No published run has a layer of its own."
    parts = []
    for sources, records in texts.items():
        parts.append(f"{', '.join(records)}:")
        for name, text in sources:
            # A fence that no line of the text can end.
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
            parts += [f"`{name}`:"] * (len(sources) > 1)
            parts.append("\n".join([f"{fence}python", text.rstrip("\n"), fence]))
    return "\n\n".join(parts)
