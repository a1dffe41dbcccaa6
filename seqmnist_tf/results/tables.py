"""The generated tables: each function returns one, as Markdown whose links are relative to the root of the clone."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from typing import NamedTuple

from ..compare import PairResult, PaperTable, SeededRuns, cell_name, equivalence_bound, pair_runs, task_name, verdict
from ..config import OPTIONS, constants_text, layer_name, value_text
from ..system import in_percent, markdown_table, p_text, percent_range
from .contents import Board, Row
from .records import ResultsFolder, Search

DIFFERENCE = [">difference, points (95 % interval)", ">p (Holm)"]  # columns of a cell that is compared


class Cell(NamedTuple):
    """A row of a board, its runs and, where it is compared, how it differs from the board's first cell."""

    row: Row
    runs: SeededRuns
    pair: PairResult | None = None

    @property
    def title(self) -> str:
        """The cell, its units, its constants and the note of the row."""
        config = self.runs.config
        parts = [cell_name(config), f"{self.runs.units} units", constants_text(config), self.row.note]
        return ", ".join(filter(None, parts))

    @property
    def difference(self) -> list[str]:
        """The columns of DIFFERENCE."""
        return [self.pair.text, p_text(self.pair.holm_p)] if self.pair else ["", ""]


def compared_cells(results: ResultsFolder, board: Board) -> list[Cell]:
    """Return the cells of a board, the best mean first."""
    runs = [results.experiment(row.records) for row in board.cells]
    pairs = [None, *pair_runs(runs)] if runs else []
    return _ranked(Cell(*parts) for parts in zip(board.cells, runs, pairs, strict=True))


def _ranked(cells: Iterable[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda cell: -cell.runs.mean)


def ranking_table(results: ResultsFolder) -> str:
    """One short row for each cell of the boards and each preset beside them; of one task, the best first."""
    rows = []
    for board in results.contents.boards:
        beside = [Cell(row, results.experiment(row.records)) for row in board.beside]
        for cell in _ranked([*compared_cells(results, board), *beside]):
            runs, config = cell.runs, cell.runs.config
            described = [cell_name(config), f"`{cell.row.records}`", board.task, config.train.n_epochs]
            rows.append([*described, f"**{runs.text}**", runs.falls, *cell.difference])
    head = ["cell", "runs", "task", ">epochs", ">test accuracy, %", ">fell", *DIFFERENCE]
    return markdown_table(head, rows)


def comparison_table(results: ResultsFolder) -> str:
    """The table that ``compare`` writes for papers, of the experiments that the README compares."""
    arms = [results.experiment(name) for name in results.contents.comparison]
    return PaperTable.of(arms, pair_runs(arms)).table()


def runs_table(results: ResultsFolder) -> str:
    """One row for each experiment that is on no board, with the correct digits of each seed."""
    head = ["experiment", "task", "training", ">test accuracy, %", ">95 % interval, %", ">first epoch above 50 %"]
    head += [">minutes", "correct of 10,000 by seed, from 0", "configuration"]
    rows = []
    for name, records in results.records.items():
        if results.contents.is_elsewhere(name) or results.contents.of_a_board(name):
            continue
        one = results.experiment(name)
        escaped = [record.summary["escape_epoch"] or math.inf for record in records]
        ends = ["never" if epoch == math.inf else str(epoch) for epoch in (min(escaped), max(escaped))]
        training = f"{one.config.optimizer.name}, {one.config.train.n_epochs} epochs"
        row = [f"`{name}`", task_name(one.config), training, f"**{one.text}**", percent_range(one.ci_95)]
        row += [" to ".join(dict.fromkeys(ends)), f"{statistics.median(record.minutes for record in records):.0f}"]
        rows.append([*row, seeds_links(results, name), f"`{one.config_id}`"])
    return markdown_table(head, rows)


def seeds_links(results: ResultsFolder, name: str) -> str:
    """Return the correct digits of each seed, as links to the records."""
    links = []
    records = [*results.records[name], *(record for record in results.diverged if record.name == name)]
    for record in sorted(records, key=lambda record: record.seed):
        text = "diverged" if record.diverged else f"{record.correct:,}"
        links.append(f"[{text}](results/{name}/seed{record.seed})")
    return ", ".join(links)


def board_tables(results: ResultsFolder) -> str:
    """One table for each board whose cells have been run, with a row for each cell."""
    shown = [board for board in results.contents.boards if board.cells]
    return "\n\n".join(f"**{board.task}**\n\n{_board_table(results, board)}" for board in shown)


def _board_table(results: ResultsFolder, board: Board) -> str:
    cells = compared_cells(results, board)
    bound = equivalence_bound(cells[0].runs.config)
    head = ["cell", ">parameters", ">mean ± SD, %", ">median, %", ">worst seed, %", ">fell", *DIFFERENCE]
    head.append(f"verdict (margin {100 * bound:g} points)")
    some_failed = any(cell.runs.failed for cell in cells)
    some_searched_twice = any(cell.row.other_search for cell in cells)
    if some_failed:
        head.append(">failed")
    if some_searched_twice:
        head.append(">other search, %")
    rows = []
    for cell in cells:
        runs = cell.runs
        row = [cell.title, f"{runs.num_params:,}", f"**{runs.text}**", in_percent(runs.median), in_percent(runs.worst)]
        row += [runs.falls, *cell.difference, verdict(cell.pair, bound) if cell.pair else ""]
        if some_failed:
            row.append(runs.failures)
        if some_searched_twice:
            other = cell.row.other_search
            row.append(results.experiment(other).text if other else "")
        rows.append(row)
    return markdown_table(head, rows)


def board_runs_table(results: ResultsFolder) -> str:
    """One row for each experiment of the boards: its recipe, and the correct digits of each seed."""
    head = ["cell", "task", ">epochs", ">mean ± SD, %", "rate, clip, decay, noise"]
    head += ["correct of 10,000 by seed, from 0", "trained on"]
    rows = []
    for board in results.contents.boards:
        for row in (*board.cells, *board.further):
            cell = Cell(row, results.experiment(row.records))
            optimizer, train = cell.runs.config.optimizer, cell.runs.config.train
            noise = train.recurrent_noise_relative or train.recurrent_noise
            recipe = [optimizer.lr, optimizer.grad_clip_norm, optimizer.weight_decay, noise]
            absolute = " absolute" if train.recurrent_noise else ""
            kernels = sorted({kernel for record in results.records[row.records] for kernel in record.kernels})
            shown = [cell.title, board.task, train.n_epochs, f"**{cell.runs.text}**"]
            shown += [", ".join(map(value_text, recipe)) + absolute, seeds_links(results, row.records)]
            rows.append([*shown, ", ".join(kernels)])
    return markdown_table(head, rows)


def searches_table(results: ResultsFolder) -> str:
    """One row for each search; the rungs of one search of a cell are one row."""
    rows, grouped = [], set()
    for group in results.contents.searches:
        parts = [one for pattern in group.parts for one in results.searches if fnmatch(one.path.stem, pattern)]
        grouped |= {one.name for one in parts}
        if parts:
            rows.append(_search_row(group.name, parts))
    for one in results.searches:
        if one.name not in grouped and not results.contents.is_elsewhere(one.path.stem):
            rows.append(_search_row(f"`{one.path.stem}`", [one]))
    return markdown_table(["search", "layer", "trials x epochs", ">best, %", ">hours", "commit"], rows)


def _search_row(name: str, parts: Sequence[Search]) -> list[str]:
    epochs = [one.settings.base.train.n_epochs for one in parts]
    links = [f"[{len(one.trials)} x {n}](results/{one.name}.json)" for one, n in zip(parts, epochs, strict=True)]
    hours = sum(row["seconds"] for one in parts for row in one.rows_with_score) / 3600
    commits = dict.fromkeys(str(one.environment(one.rows_with_score[0])["git"]["commit"])[:7] for one in parts)
    layer = layer_name(parts[0].settings.base.model.layer)
    last = [one for one, n in zip(parts, epochs, strict=True) if n == max(epochs)]
    return [name, layer, ", ".join(links), in_percent(best_mean(last)), f"{hours:.1f}", ", ".join(commits)]


def best_mean(searches: Sequence[Search]) -> float:
    """Return the best mean score over searches of the same points, each with another seed.

    A point that one of them lacks does not count.
    """
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for one in searches:
        for row in one.trials_with_score:
            scores[str(row["values"])].append(row["score"])
    seeds = max(map(len, scores.values()))
    return max(statistics.mean(same) for same in scores.values() if len(same) == seeds)


def configuration_table(_: ResultsFolder) -> str:
    """One row for each key of the configuration that has more than one value."""
    rows = []
    for key, option in OPTIONS.items():
        if not option.hidden:
            words = [text.replace("\\", "\\\\") for text in (option.allowed, option.meaning)]
            rows.append([f"`{key}`", f"`{value_text(option.default)}`", *words])
    return markdown_table(["key", "default", "allowed values", "meaning"], rows)
