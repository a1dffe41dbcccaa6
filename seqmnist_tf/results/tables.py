"""The generated tables: each function returns one, as Markdown whose links are relative to the root of the clone."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..compare import PairResult, SeededRuns, cell_name, equivalence_bound, pair_runs, task_name, verdict
from ..config import OPTIONS, PRESETS, Config, constants_text, differences, of_the_experiment, preset, value_text
from ..system import in_percent, markdown_table, p_text, percent_range
from .contents import Board, Row
from .records import BASELINE, Record, ResultsFolder, Search

DIFFERENCE = [">difference, points (95 % interval)", ">p (Holm)"]  # columns of a cell that is compared
SAID_APART = ("task.validation_size", "test.enabled", "train.n_epochs")  # of a trial


class BoardCell(NamedTuple):
    """A row of a board, its runs and, where they are compared, how they differ from the board's first cell."""

    row: Row
    runs: SeededRuns
    pair: PairResult | None = None

    @property
    def title(self) -> str:
        """The cell, its units, its constants and what is said of the row."""
        parts = [
            cell_name(self.runs.config),
            f"{self.runs.units} units",
            constants_text(self.runs.config),
            self.row.note,
        ]
        return ", ".join(filter(None, parts))


def compared_cells(results: ResultsFolder, board: Board) -> list[BoardCell]:
    """Return the cells of a board, the best mean first."""
    runs = [results.experiment(row.records) for row in board.cells]
    pairs = [None, *pair_runs(runs)] if runs else []
    cells = [BoardCell(*of_one) for of_one in zip(board.cells, runs, pairs, strict=True)]
    return sorted(cells, key=lambda cell: -cell.runs.mean)


def ranking_table(results: ResultsFolder) -> str:
    """One short row for each cell of the boards and each preset beside them; of one task, the best first."""
    rows = []
    for board in results.contents.boards:
        beside = [BoardCell(row, results.experiment(row.records)) for row in board.beside]
        cells = sorted([*compared_cells(results, board), *beside], key=lambda cell: -cell.runs.mean)
        for row, runs, pair in cells:
            described = [cell_name(runs.config), f"`{row.records}`", board.task, runs.config.train.n_epochs]
            rows.append([*described, f"**{runs.text}**", runs.falls, *_difference(pair)])
    head = ["cell", "runs", "task", ">epochs", ">test accuracy, %", ">fell", *DIFFERENCE]
    return markdown_table(head, rows)


def _difference(pair: PairResult | None) -> list[str]:
    """Return the columns of DIFFERENCE; empty where nothing was compared."""
    if pair is None:
        return ["", ""]
    difference = in_percent(pair.mean_difference, sign=True)
    return [f"{difference} ({percent_range(pair.ci_95, sign=True)})", p_text(pair.holm_p)]


def runs_table(results: ResultsFolder) -> str:
    """One row per experiment without those of a board, with the correct digits of each seed."""
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
    records = [*results.records[name], *(record for record in results.diverged if record.name == name)]
    links = [
        f"[{'diverged' if record.diverged else f'{record.correct:,}'}](results/{name}/seed{record.seed})"
        for record in sorted(records, key=lambda record: record.seed)
    ]
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
        runs, other = cell.runs, cell.row.other_search
        row = [cell.title, f"{runs.num_params:,}", f"**{runs.text}**", in_percent(runs.median), in_percent(runs.worst)]
        row += [runs.falls, *_difference(cell.pair), verdict(cell.pair, bound) if cell.pair else ""]
        if some_failed:
            row.append(runs.failures)
        if some_searched_twice:
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
            cell = BoardCell(row, results.experiment(row.records))
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
        placed = [(place, one) for one in results.searches if (place := group.place(one.path.stem)) is not None]
        parts = [one for _, one in sorted(placed, key=lambda pair: pair[0])]
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
    hours = sum(row["seconds"] for one in parts for row in one.ended) / 3600
    commits = dict.fromkeys(str(one.environment(one.ended[0])["git"]["commit"])[:7] for one in parts)
    layer = parts[0].settings.base.model.layer.rpartition(":")[2]
    last = [one for one, n in zip(parts, epochs, strict=True) if n == max(epochs)]
    return [name, layer, ", ".join(links), in_percent(best_mean(last)), f"{hours:.1f}", ", ".join(commits)]


def best_mean(searches: Sequence[Search]) -> float:
    """Return the best mean score of a point over searches with one seed each; a point that lacks one does not count."""
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for one in searches:
        for row in one.scored:
            scores[str(row["values"])].append(row["score"])
    seeds = max(map(len, scores.values()))
    return max(statistics.mean(same) for same in scores.values() if len(same) == seeds)


def trials_table(results: ResultsFolder) -> str:
    """One row per trial; of those with one pixel order and as many epochs, the best first."""
    head = ["recipe", ">epochs", ">accuracy on 10,000 held-out images, %", ">training accuracy, %"]

    def place(trial: Record) -> tuple[str, int, float]:
        final = trial.summary["final"]
        return trial.config.task.permutation, trial.config.train.n_epochs, -final["val_accuracy"]

    rows = []
    for trial in sorted(results.trials, key=place):
        name = trial.environment["preset"] if trial.environment["preset"] in PRESETS else BASELINE
        changed = changed_keys(trial.config, PRESETS[name].config)
        recipe = ", ".join([f"`{name}`", *(f"`{key} {value_text(value)}`" for key, value in changed.items())])
        accuracy = in_percent(trial.summary["final"]["val_accuracy"])
        link = f"[**{accuracy}**](results/{trial.name}/seed{trial.seed})"
        rows.append([recipe, trial.config.train.n_epochs, link, in_percent(trial.history[-1]["train_accuracy"])])
    return markdown_table(head, rows)


def changed_keys(config: Config, base: Config) -> dict[str, Any]:
    """Return the keys of the experiment in which a trial differs from a configuration, and the trial's values."""
    changed = differences(config, base)
    return {key: value for key, value in changed.items() if of_the_experiment(key) and key not in SAID_APART}


def settings_table(results: ResultsFolder) -> str:
    """One row per setting: added to the baseline alone, and taken away from all settings alone."""
    scores: defaultdict[frozenset[str], list[float]] = defaultdict(list)
    values: dict[str, Any] = {}
    one_at_a_time = [one for one in results.searches if [row.name for row in one.settings.space] == ["settings"]]
    for search in one_at_a_time:
        for row in search.scored:
            changed = changed_keys(search.config(row), preset(BASELINE))
            values |= changed
            scores[frozenset(changed)].append(row["score"])
    every = frozenset(values)
    rows = []
    for keys in dict.fromkeys(min((keys, every - keys), key=len) for keys in scores):
        cells = [", ".join(f"`{key} {value_text(values[key])}`" for key in sorted(keys)) or "none, or all"]
        for after, before in ((scores[keys], scores[frozenset()]), (scores[every - keys], scores[every])):
            change = in_percent(statistics.fmean(after) - statistics.fmean(before), sign=True) if keys else ""
            cells += [", ".join(map(in_percent, after)), change]
        rows.append(cells)
    head = ["setting", ">added to the baseline, %", ">change, points", ">taken away from all, %", ">change, points"]
    return markdown_table(head, sorted(rows, key=lambda row: row[0] != "none, or all"))


def literature_table(results: ResultsFolder) -> str:
    """Published accuracies of the plain LSTM."""
    head = ["source", ">units", ">sMNIST, %", ">psMNIST, %", ">runs", "training, remarks", "figures taken from"]
    rows = []
    for row in results.literature["plain_lstm"]:
        smnist = f"{row['smnist'] or ''} {row.get('spread', '')}".strip()
        remarks = "; ".join(filter(None, [row["recipe"], row.get("note", "")]))
        numbers = [row["units"], smnist, row["psmnist"] or "", row.get("runs", "")]
        rows.append([row["source"], *numbers, remarks, row["read_in"]])
    return markdown_table(head, rows)


def other_cells_table(results: ResultsFolder) -> str:
    """Published accuracies of other recurrent cells."""
    rows = [
        [row["source"], row["parameters"], row["smnist"], row["psmnist"] or "", row["read_in"]]
        for row in results.literature["other_cells"]
    ]
    return markdown_table(["cell", ">parameters", ">sMNIST, %", ">psMNIST, %", "figures taken from"], rows)


def configuration_table(_: ResultsFolder) -> str:
    """One row per key of the configuration that has more than one value."""
    rows = []
    for key, one in ((key, one) for key, one in OPTIONS.items() if not one.hidden):
        words = [text.replace("\\", "\\\\") for text in (one.allowed, one.meaning)]
        rows.append([f"`{key}`", f"`{value_text(one.default)}`", *words])
    return markdown_table(["key", "default", "allowed values", "meaning"], rows)
