"""A row for each arm, to paste into the table of a paper: LaTeX and Markdown."""

from __future__ import annotations

import re

from ..system import markdown_table
from .comparison import Comparison
from .wording import mean_and_std

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


def latex_rows(comparison: Comparison) -> str:
    """Return the content of ``row.tex``: a comment with the columns, and a row for each arm."""
    task = task_name(comparison.arms[0].config.task.permutation)
    lines = [f"% model & parameters & {task} test accuracy in percent (mean +- std over seeds) & seeds \\\\"]
    for arm in comparison.arms:
        parameters = f"{arm.num_params:,}".replace(",", "{,}")
        accuracy = mean_and_std(arm, r" $\pm$ ")
        lines.append(rf"{escape_latex(arm.name)} & {parameters} & {accuracy} & {arm.n} \\")
    return "\n".join(lines) + "\n"


def markdown_rows(comparison: Comparison) -> str:
    """Return the content of ``row.md``: a table with a row for each arm."""
    task = task_name(comparison.arms[0].config.task.permutation)
    rows = [(arm.name, f"{arm.num_params:,}", mean_and_std(arm), arm.n) for arm in comparison.arms]
    return markdown_table(["model", ">parameters", f">{task} test accuracy, %", ">seeds"], rows) + "\n"
