"""What a paper takes from a comparison: a table in LaTeX and Markdown, its numbers as CSV, and the references."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from ..config import NUM_TEST, NUM_TRAIN, Config, constants_text, flatten, layer_name, of_the_experiment, value_text
from ..system import markdown_table, p_text, package_versions, percent_range
from .comparison import Comparison, PairResult, SeededRuns

PAPERS, TABLE = (Path(__file__).with_name(name) for name in ("papers.bib", "row.tex"))
PROJECT = "seqmnist_tf"  # the key of this project in papers.bib
# By the name of a layer: its name in papers, and the key of its paper in papers.bib.
PUBLISHED = {
    "LSTM": ("LSTM", "hochreiter1997"),
    "GRU": ("GRU", "cho2014"),
    "SimpleRNN": ("simple RNN", "elman1990"),
    "LEM": ("LEM", "rusch2022"),
    "CoRNN": ("coRNN", "rusch2021"),
    "MinGRU": ("minGRU", "feng2024"),
    "MinLSTM": ("minLSTM", "feng2024"),
    "URLSTM": ("UR-LSTM", "gu2020"),
    "MGU": ("MGU", "zhou2016"),
    "StackedLSTM": ("stacked LSTM", "graves2013"),
}
# Keys that a row tells by its cell, its parameters and its epochs.
KEYS_OF_ROWS = {"model.layer", "model.hidden_size", "model.layer_options", "model.match_parameters", "train.n_epochs"}
DIFFERENCE, HOLM = "difference, points (95 % interval)", "p (Holm)"
LATEX = str.maketrans(
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": "$<$"}
    | {character: f"\\{character}" for character in "&%$#_{}"}
)


@dataclass(frozen=True)
class PaperTable:
    """A table with a row for each arm. Columns whose cells are all equal are in the caption instead."""

    caption: str
    head: Sequence[str]  # the first column is the cell
    rows: Sequence[Sequence[str]]
    keys: Sequence[str]  # of each row's paper; empty where it is not known

    @classmethod
    def of(cls, arms: Sequence[SeededRuns], pairs: Sequence[PairResult]) -> PaperTable:
        """Return the table of arms, and of the pairs of each other one with the first."""
        numbers = [_numbers(arm, pair) for arm, pair in zip(arms, (None, *pairs), strict=True)]
        shown, equal = [], []
        for column in numbers[0]:
            cells = {row[column] for row in numbers}
            if len(cells) > 1 or (len(arms) == 1 and cells != {""}):
                shown.append(column)
            elif cells != {""}:
                equal.append(f"{column} {numbers[0][column]}")
        names = zip(cell_names(arms), numbers, strict=True)
        rows = [[name, *(row[column] for column in shown)] for name, row in names]
        keys = [_paper_key(arm.config) for arm in arms]
        return cls(_caption(arms, pairs, shown, equal), ["cell", *_titles(pairs, shown)], rows, keys)

    def table(self) -> str:
        """Return the table in Markdown, without its caption."""
        return markdown_table([self.head[0], *(f">{column}" for column in self.head[1:])], self.rows)

    def markdown(self) -> str:
        return f"{self.table()}\n\n{self.caption}\n"

    def latex(self) -> str:
        """Return a ``table`` for the package booktabs, which cites the entries of ``cite.bib``."""
        rows = []
        for (cell, *numbers), key in zip(self.rows, self.keys, strict=True):
            cited = rf"{_latex(cell)}~\cite{{{key}}}" if key else _latex(cell)
            rows.append(" & ".join([cited, *map(_latex, numbers)]) + r" \\")
        head = " & ".join(map(_latex_head, self.head))
        columns = "r" * (len(self.head) - 1)
        table = Template(TABLE.read_text(encoding="utf-8"))
        return table.substitute(caption=_latex(self.caption), columns=columns, head=head, rows="\n".join(rows))


def _numbers(arm: SeededRuns, pair: PairResult | None) -> dict[str, str]:
    """Return the cells of an arm; ``pair`` is None for the first."""
    return {
        "parameters": f"{arm.num_params:,}",
        "epochs": str(arm.config.train.n_epochs),
        "n": arm.seeds_text,
        "mean ± SD, %": arm.text,
        "95 % interval, %": percent_range(arm.ci_95),
        DIFFERENCE: pair.text if pair else "",
        HOLM: p_text(pair.holm_p) if pair else "",
        "failed": str(arm.failed),
    }


def _titles(pairs: Sequence[PairResult], columns: Sequence[str]) -> list[str]:
    """Return the titles of columns: without intervals (two seeds have none) or a correction where there is none."""
    plain = {}
    if not any(pair.ci_95 for pair in pairs):
        plain[DIFFERENCE] = "difference, points"
    if len(pairs) == 1:
        plain[HOLM] = "p"
    return [plain.get(column, column) for column in columns]


def _caption(arms: Sequence[SeededRuns], pairs: Sequence[PairResult], head: Sequence[str], equal: Sequence[str]) -> str:
    text = f"Test accuracy after the last epoch on {task_name(arms[0].config)}: mean and SD over n seeds"
    text += ", 95 % interval by Student's t." if any(arm.ci_95 for arm in arms) else "."
    if DIFFERENCE in head:
        text += " Differences are from the first row"
        text += ", with Welch's 95 % interval." if any(pair.ci_95 for pair in pairs) else "."
    if HOLM in head:
        count = len([pair for pair in pairs if pair.holm_p is not None])
        text += " p: studentised permutation test of the means, two-sided"
        text += f", after Holm's correction over {count} pairs." if count > 1 else "; one pair, so no correction."
    text += f" Equal in all rows: {'; '.join(equal)}." if equal else ""
    text += _settings(arms) if len(arms) > 1 else ""
    return f"{text} Runs of {_commits(arms)}."


def _settings(arms: Sequence[SeededRuns]) -> str:
    """Return sentences with the settings in which recipes differ: a reader must see a row that was tuned apart."""
    differing = {key: values for key, values in differing_settings(arms).items() if key not in KEYS_OF_ROWS}
    if not differing:
        return " All rows have the same recipe."
    texts = [f"{key} {', '.join(map(value_text, values))}" for key, values in differing.items()]
    return f" Settings that differ, row by row: {'; '.join(texts)}. All other settings are equal."


def differing_settings(arms: Sequence[SeededRuns]) -> dict[str, list[Any]]:
    """Return the settings of the experiment whose values differ between arms, with the value of each arm."""
    values = [flatten(arm.config) for arm in arms]
    rows = {key: [value[key] for value in values] for key in values[0] if of_the_experiment(key)}
    return {key: row for key, row in rows.items() if len(set(map(value_text, row))) > 1}


def _commits(arms: Iterable[SeededRuns]) -> str:
    """Return the commits of all runs, with seven digits, and whether a run's code differed from its commit."""
    states = [run.environment["git"] for arm in arms for run in arm.runs]
    names = [f"{(git['commit'] or 'unknown')[:7]}{' with changes' if git.get('dirty') else ''}" for git in states]
    unique = list(dict.fromkeys(names))
    return f"{'commits' if len(unique) > 1 else 'commit'} {', '.join(unique)}"


def _latex(text: str) -> str:
    """Return text for LaTeX, with signs of numbers as in formulas."""
    return re.sub(r"(?<!\w)([+-])(?=\d)", r"$\1$", text.translate(LATEX))


def _latex_head(text: str) -> str:
    """Return the name of a column in two lines, where it is long: columns are as narrow as their numbers."""
    first, bracket, rest = _latex(text).partition(" (95")
    return rf"\shortstack[r]{{{first}\\(95{rest}}}" if bracket else first


def csv_table(comparison: Comparison) -> str:
    """Return a row for each arm as CSV: a number a column, accuracies as shares of 1, empty where there is none."""
    lists = ("seeds", "test_accuracy", "ci_95")
    rows = []
    for arm, pair in zip(comparison.arms, [None, *comparison.pairs], strict=True):
        row = {key: value for key, value in arm.to_json().items() if key not in lists}
        row |= {"layer": layer_name(arm.config.model.layer), "constants": constants_text(arm.config)}
        row |= {"permutation": arm.config.task.permutation, "train_images": arm.config.num_train}
        row |= {"test_images": arm.total, "epochs": arm.config.train.n_epochs, "seeds": arm.num_seeds}
        row["ci_95_low"], row["ci_95_high"] = arm.ci_95 or (None, None)
        if pair:
            row |= {"difference": pair.mean_difference, "permutation_p": pair.permutation_p, "holm_p": pair.holm_p}
            row["difference_low"], row["difference_high"] = pair.ci_95 or (None, None)
        rows.append(row)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[-1]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def bibliography(arms: Sequence[SeededRuns]) -> str:
    """Return BibTeX of this project and of the papers of published cells."""
    keys = [PROJECT, *(key for arm in arms if (key := _paper_key(arm.config)))]
    entries = PAPERS.read_text(encoding="utf-8").strip().split("\n\n")
    own, *others = [entry for entry in entries if any(f"{{{key}," in entry for key in keys)]
    own = Template(own).substitute(version=package_versions()["seqmnist_tf"], commits=_commits(arms))
    return "\n\n".join([own, *others]) + "\n"


def cell_names(arms: Sequence[SeededRuns]) -> list[str]:
    """Return the cell of each arm with its constants; where two arms have the same, with their names."""
    names = []
    for arm in arms:
        constants = constants_text(arm.config)
        names.append(cell_name(arm.config) + (f" ({constants})" if constants else ""))
    counts = Counter(names)
    return [f"{name}, {arm.name}" if counts[name] > 1 else name for name, arm in zip(names, arms, strict=True)]


def cell_name(config: Config) -> str:
    """Return the name of a cell in papers, such as ``UR-LSTM``; of a new one, that of its layer."""
    return _published(config)[0]


def _paper_key(config: Config) -> str:
    """Return the key of a cell's paper in papers.bib; empty for a new cell."""
    return _published(config)[1]


def _published(config: Config) -> tuple[str, str]:
    """Return a cell's row of PUBLISHED: its name and its paper's key. A new cell has its layer's name and no key."""
    name = layer_name(config.model.layer)
    return PUBLISHED.get(name, (name, ""))


def task_name(config: Config) -> str:
    """Return the task's usual name, such as ``sMNIST``, with the pixel order and the part of the images, if any."""
    task = config.task
    parts = ["sMNIST" if task.permutation == "none" else f"psMNIST ({task.permutation})"]
    if config.num_train != NUM_TRAIN - task.validation_size:
        parts.append(f"{config.num_train:,} training images")
    if config.num_test != NUM_TEST:
        parts.append(f"{config.num_test:,} test images")
    return ", ".join(parts)
