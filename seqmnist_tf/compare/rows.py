"""Rows to paste into the table of a paper: LaTeX and Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ..config import Config
from ..system import markdown_table
from .wording import count_of

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def escape_latex(text: str) -> str:
    r"""Return text with the characters that LaTeX treats as commands escaped.

    Example:
        >>> escape_latex("my_layer 50 %")
        'my\\_layer 50 \\%'
    """
    return re.sub(r"[\\~^&%$#_{}]", lambda match: SPECIAL[match[0]], text)


def task_name(permutation: str) -> str:
    """Return the task's usual name, with the pixel order where there is one."""
    return "sMNIST" if permutation == "none" else f"psMNIST ({permutation})"


class PaperRow(NamedTuple):
    """What one row of a paper's table says.

    Attributes:
        name: of the arm, or of the published experiment.
        config: its configuration, with the units of the model.
        num_params: number of parameters.
        accuracy: test accuracy in percent, such as ``99.11 ± 0.04``.
        seeds: number of seeds.
    """

    name: str
    config: Config
    num_params: int
    accuracy: str
    seeds: int

    @property
    def model(self) -> str:
        """The layer and its units."""
        own, _, layer = self.config.model.layer.rpartition(":")
        return f"{layer}({self.config.model.hidden_size}){' (own layer)' if own else ''}"

    @property
    def cells(self) -> tuple[str, str, str]:
        """Task, parameters and training."""
        training = f"{self.config.optimizer.name}, {count_of(self.config.train.n_epochs, 'epoch')}"
        return task_name(self.config.task.permutation), f"{self.num_params:,}", training


def markdown_rows(rows: Iterable[PaperRow]) -> str:
    """Return a table in Markdown: model, task, parameters, training, test accuracy, seeds."""
    head = ["model", "task", ">parameters", "training", ">test accuracy, %", ">seeds"]
    return markdown_table(head, [(f"{row.model} `{row.name}`", *row.cells, row.accuracy, row.seeds) for row in rows])


def latex_rows(rows: Iterable[PaperRow], source: str = "") -> str:
    """Return the same rows for a table in LaTeX; ``source`` stands before each name."""
    lines = []
    for row in rows:
        name = rf"({escape_latex(source)}\texttt{{{escape_latex(row.name)}}})"
        accuracy = row.accuracy.replace("±", r"\pm")
        cells = [f"{escape_latex(row.model)} {name}", *map(escape_latex, row.cells), f"${accuracy}$", str(row.seeds)]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join(lines)
