"""Generated sections: comparison with the original project and with papers, and rows to paste into a paper."""

from __future__ import annotations

from typing import Any

from ..compare import SeededRuns, describe_recipe, in_percent, latex_rows, markdown_rows
from ..config import NUM_TEST
from ..system import markdown_table
from .board import LIKE_THE_ORIGINAL, Board, original_accuracy, wrap_text
from .recipes import choice_text

COMPARED_UNITS = (100, 130)  # plain LSTMs of a size near 128 units


def rows_to_paste(board: Board) -> str:
    """One row per experiment, in Markdown and in LaTeX, and the recipes in words."""
    experiments = [SeededRuns(name, records) for name, records in board.records.items()]
    recipes = [
        wrap_text(f"`{name}`: {describe_recipe(records[0].config)}; {choice_text(board, name)}.", "- ", "  ")
        for name, records in board.records.items()
    ]
    latex = latex_rows(experiments, source="seqmnist_tf, ")
    tables = ["```markdown", markdown_rows(experiments), "```", "", "```latex", latex, "```"]
    return "\n".join([*tables, "", "The recipes, for a caption:", "", *recipes])


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
