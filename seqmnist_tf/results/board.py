"""Everything that documents and pictures are made from, and how they speak of a record."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..compare import SeededRuns, count_of
from ..config import NUM_TEST
from ..system import InputError, escape_markdown, read_json_object
from .records import RESULTS_FOLDER, Record, agreement, all_records, all_trials, completed_by_name
from .searches import Search, read_searches

HEADLINE = "strong"  # name of the experiment that this project is judged by
PERMUTED = "strong_permuted"  # name of the experiment on permuted pixels that stands beside it
BASELINE = "baseline"  # name of the original's recipe with Keras's defaults
LIKE_THE_ORIGINAL = ("original", BASELINE)  # names of the experiments that the original's accuracy is held against
QUICK_START = "quickstart"  # name of the experiment that the README's first command runs
OF_THE_CELLS = "board_"  # how the names of the board of cells begin, see docs/board.md
CELLS_LSTM = "board_lstm"  # name of the experiment that the other cells are held to


@dataclass(frozen=True)
class Board:
    """The content of a results folder.

    Attributes:
        records: lists of records by name, see :func:`completed_by_name`.
        literature: ``literature.json``: the results of the original project and of papers.
        speed: ``benchmark.json``.
        trials: the trials.
        searches: the searches.
        diverged: the records of runs that diverged: their seeds belong to an experiment, and have no results.
    """

    records: dict[str, list[Record]]
    literature: dict[str, Any]
    speed: dict[str, Any]
    trials: list[Record] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    diverged: list[Record] = field(default_factory=list)

    @property
    def all_records(self) -> list[Record]:
        """The completed records of all names."""
        return [record for same in self.records.values() for record in same]

    @property
    def cells(self) -> list[str]:
        """The names of the board of cells with the task of its LSTM, which comes first, then by date."""
        lstm = self.records.get(CELLS_LSTM, ())
        started = {
            name: ("" if name == CELLS_LSTM else str(same[0].environment["started"]))
            for name, same in self.records.items()
            if name.startswith(OF_THE_CELLS) and lstm and same[0].config.task == lstm[0].config.task
        }
        return sorted(started, key=started.__getitem__)

    def experiment(self, name: str) -> SeededRuns:
        """Return the completed runs of an experiment, and which of its seeds diverged."""
        diverged = tuple(record.seed for record in self.diverged if record.name == name)
        return SeededRuns(name, self.records[name], diverged=diverged)

    @classmethod
    def read(cls, folder: Path) -> Board:
        """Read a results folder.

        Raises:
            InputError: a file is missing or cannot be read.
        """
        literature, speed = (read_json_object(folder / f"{name}.json") for name in ("literature", "benchmark"))
        records = all_records(folder)
        others = all_trials(folder), read_searches(folder), [record for record in records if record.diverged]
        return cls(completed_by_name(records), literature, speed, *others)


def headline_record(board: Board) -> Record:
    """Return the record of the exported model, which the pictures show, or raise InputError: HEADLINE's lowest seed."""
    if HEADLINE not in board.records:
        raise InputError(f"no record of {HEADLINE}, which the pictures show (results add RUN_DIR --name {HEADLINE})")
    return board.records[HEADLINE][0]


def original_accuracy(literature: dict[str, Any]) -> tuple[int, int, float]:
    """Return the original project's correct digits, the divisor of its printed accuracy, and its accuracy (0 to 1).

    Its printed accuracy is the number of correct test digits divided by the size of all batches, although the last
    batch is smaller.
    """
    original = literature["upstream"]
    divisor = original["batches"] * original["batch_size"]
    correct = round(original["printed_accuracy_percent"] / 100 * divisor)
    return correct, divisor, correct / NUM_TEST


def record_link(record: Record) -> str:
    """Return the path of a record, relative to the root of the clone."""
    return f"{RESULTS_FOLDER.as_posix()}/{record.name}/seed{record.seed}"


def code_of(environment: dict[str, Any]) -> str:
    """Return the first digits of a run's commit; of a run from a wheel, which has none, its version."""
    commit = environment["git"]["commit"]
    return commit[:7] if commit else f"v{environment['versions']['seqmnist_tf']}"


def replay_text(record: Record | Search) -> str:
    """Return what of a run was trained anew, how well it agreed, and where, in the words of who noted it.

    The longest replay counts, and of these the last.

    An empty string where none was.
    """
    if not record.replays:
        return ""
    ended = {"weights", "scores"}  # of a replay to the end
    entry = max(record.replays, key=lambda entry: (entry["batches"], bool(ended & entry.keys()), entry["date"]))
    where = escape_markdown(f"{entry['processor']}, {entry['kernel']}, {entry['date'][:10]}")
    weights = f", the weights {agreement(entry['weights'])}" if "weights" in entry else ""
    batches, scores = f"{entry['batches']:,} batches", ", and their scores" * ("scores" in entry)
    if isinstance(record, Search):
        batches = f"the first batches of {len(record.ended)} runs"
    return f"{batches} {agreement(entry['largest_difference'])}{scores}{weights} ({where})"


def training_machine(record: Record) -> str:
    """Return what the time of a run depends on: processor, threads and kernel, of resumed parts too."""
    machines = [
        f"{part['machine']['processor']}, {count_of(part['threads'], 'thread')}, {part['kernel']}"
        for part in record.parts
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


def range_text(numbers: Sequence[float], form: Callable[[float], str]) -> str:
    """Return the lowest and the highest of some numbers, one number where they read alike, nothing of none."""
    if not numbers:
        return ""
    least, most = form(min(numbers)), form(max(numbers))
    return least if least == most else f"{least} to {most}"


def wrap_text(text: str, first: str = "", others: str = "") -> str:
    """Return a paragraph in lines of at most 120 characters, without a break inside of ``99.11 ± 0.04 %``.

    ``first`` and ``others`` are the indents of its lines.
    """
    glued = re.sub(r" (?=[±%])|(?<=±) ", "\0", text)
    filled = textwrap.fill(
        glued, 120, initial_indent=first, subsequent_indent=others, break_on_hyphens=False, break_long_words=False
    )
    return filled.replace("\0", " ")
