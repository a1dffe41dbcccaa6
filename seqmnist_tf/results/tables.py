"""The generated tables: each function returns one, as Markdown whose links are relative to the root of the clone."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ..compare import (
    SeededRuns,
    equivalence_bound,
    in_percent,
    layer_name,
    p_text,
    pair_runs,
    percent_range,
    task_name,
    verdict,
)
from ..config import OPTIONS, PRESETS, Config, constants_text, differences, of_the_experiment, preset, value_text
from ..system import markdown_table
from .records import (
    BASELINE,
    BOARD,
    CELLS_PICTURE,
    FIRST_BOARD,
    HEADLINE,
    PERMUTED,
    PICTURE_FOLDER,
    Board,
    Record,
    Search,
)

MAIN = (BASELINE, HEADLINE, PERMUTED, "sprint_15")  # of the README
SAID_APART = ("task.validation_size", "test.enabled", "train.n_epochs")  # of a trial
ACCURACIES = [">median, %", ">mean ± SD, %", ">worst seed, %", ">failed"]
DIFFERENCES = [">difference, points (95 % interval)", ">p (Holm)"]


def main_table(board: Board) -> str:
    """One short row for each experiment that a reader looks for first."""
    rows = []
    for name in filter(board.records.get, MAIN):
        one = board.experiment(name)
        hours = statistics.median(record.minutes for record in board.records[name]) / 60
        row = [f"`{name}`", task_name(one.config), one.seeds_text, f"**{one.text}**", one.config.train.n_epochs]
        rows.append([*row, f"{hours:.1f}"])
    return markdown_table(["preset", "task", ">seeds", ">test accuracy, %", ">epochs", ">hours a run"], rows)


def runs_table(board: Board) -> str:
    """One row per experiment without those of the boards, with the correct digits of each seed."""
    head = ["experiment", "task", "training", ">test accuracy, %", ">95 % interval, %", ">first epoch above 50 %"]
    head += [">minutes", "correct of 10,000 by seed, from 0", "configuration"]
    rows = []
    for name, records in board.records.items():
        if name.startswith((FIRST_BOARD, BOARD)):
            continue
        one = board.experiment(name)
        escaped = [record.summary["escape_epoch"] or math.inf for record in records]
        ends = ["never" if epoch == math.inf else str(epoch) for epoch in (min(escaped), max(escaped))]
        training = f"{one.config.optimizer.name}, {one.config.train.n_epochs} epochs"
        row = [f"`{name}`", task_name(one.config), training, f"**{one.text}**", percent_range(one.ci_95)]
        row += [" to ".join(dict.fromkeys(ends)), f"{statistics.median(record.minutes for record in records):.0f}"]
        rows.append([*row, seeds_links(board, name), f"`{one.config_id}`"])
    return markdown_table(head, rows)


def seeds_links(board: Board, name: str) -> str:
    """Return the correct digits of each seed, as links to the records."""
    records = [*board.records[name], *(record for record in board.diverged if record.name == name)]
    links = [
        f"[{'diverged' if record.diverged else f'{record.correct:,}'}](results/{name}/seed{record.seed})"
        for record in sorted(records, key=lambda record: record.seed)
    ]
    return ", ".join(links)


def board_table(board: Board) -> str:
    """One row per cell of the board that has all its seeds, the picture of their curves, and what is still to come."""
    cells, parts = board.cells(), []
    if cells:
        bound = 100 * equivalence_bound(cells[0].config)
        head = ["cell", ">parameters", *ACCURACIES, *DIFFERENCES, f"verdict (margin {bound:g} points)"]
        head += ["rate, clip, decay, noise", "correct of 10,000 by seed, from 0", "trained on"]
        rows = []
        for cell, compared in zip(cells, _differences(cells), strict=True):
            kernels = sorted({kernel for record in board.records[cell.name] for kernel in record.kernels})
            optimizer, noise = cell.config.optimizer, cell.config.train.recurrent_noise_relative
            recipe = optimizer.lr, optimizer.grad_clip_norm, optimizer.weight_decay, noise
            row = [_cell_name(cell), f"{cell.num_params:,}", *_accuracies(cell), *compared]
            row += [", ".join(map(value_text, recipe)), seeds_links(board, cell.name)]
            rows.append([*row, ", ".join(kernels)])
        picture = f"results/{PICTURE_FOLDER}/{CELLS_PICTURE}"
        parts = [markdown_table(head, rows), f"![Test accuracy by epoch, one panel for each cell]({picture})"]
    if unfinished := board.unfinished():
        states = ", ".join(f"`{cell}` ({state})" for cell, state in unfinished.items())
        parts += [f"Still to come: {states}.", "p is corrected for the cells that are shown."]
    return "\n\n".join(parts)


def board_summary(board: Board) -> str:
    """One short row per cell of the board, once all of them have all their seeds."""
    if unfinished := board.unfinished():
        return f"*Not all cells have their eight seeds yet; still to come: {', '.join(unfinished)}.*"
    cells = board.cells()
    pairs = zip(cells, _differences(cells), strict=True)
    rows = [[layer_name(cell.config), *_accuracies(cell), *row[: len(DIFFERENCES)]] for cell, row in pairs]
    return markdown_table(["cell", *ACCURACIES, *DIFFERENCES], rows)


def _differences(cells: Sequence[SeededRuns]) -> list[list[str]]:
    """Return difference from the LSTM, p and verdict of each cell; empty for the LSTM, which is the first."""
    rows, bound = [["", "", ""]], equivalence_bound(cells[0].config)
    for pair in pair_runs(cells):
        difference = f"{in_percent(pair.mean_difference, sign=True)} ({percent_range(pair.ci_95, sign=True)})"
        rows.append([difference, p_text(pair.holm_p), verdict(pair, bound)])
    return rows


def first_board_table(board: Board) -> str:
    """One row per cell of the first board."""
    head = ["cell", ">parameters", *ACCURACIES, "correct of 10,000 by seed, from 0"]
    rows = [
        [_cell_name(cell), f"{cell.num_params:,}", *_accuracies(cell), seeds_links(board, cell.name)]
        for cell in board.cells(FIRST_BOARD)
    ]
    return markdown_table(head, rows)


def _cell_name(cell: SeededRuns) -> str:
    constants = constants_text(cell.config)
    return f"{layer_name(cell.config)}, {cell.units} units" + (f", {constants}" if constants else "")


def _accuracies(cell: SeededRuns) -> list[str]:
    return [in_percent(cell.median), f"**{cell.text}**", in_percent(cell.worst), cell.failures]


def searches_table(board: Board) -> str:
    """One row per search; the rungs of a cell of the board are one, whose best is a mean over the last rung's seeds."""
    groups: defaultdict[str, list[Search]] = defaultdict(list)
    for search in sorted(board.searches, key=lambda one: "_more" in one.name):  # an extension comes last
        groups[re.sub(r"_(rung|more)\d.*", "", search.path.stem)].append(search)
    rows = []
    for name, searches in groups.items():
        epochs = [one.settings.base.train.n_epochs for one in searches]
        rungs = [f"[{len(one.trials)} x {n}](results/{one.name}.json)" for one, n in zip(searches, epochs, strict=True)]
        scores: defaultdict[str, list[float]] = defaultdict(list)
        for one, n in zip(searches, epochs, strict=True):
            for row in one.scored if n == max(epochs) else ():
                scores[str(row["values"])].append(row["score"])
        hours = sum(row["seconds"] for one in searches for row in one.ended) / 3600
        commits = dict.fromkeys(str(one.environment(one.ended[0])["git"]["commit"])[:7] for one in searches)
        layer = searches[0].settings.base.model.layer.rpartition(":")[2]
        seeds = max(map(len, scores.values()))  # a point that has not all of them yet does not count
        best = in_percent(max(statistics.mean(same) for same in scores.values() if len(same) == seeds))
        rows.append([f"`{name}`", layer, ", ".join(rungs), best, f"{hours:.1f}", ", ".join(commits)])
    head = ["search", "layer", "trials x epochs", ">best, %", ">hours", "commit"]
    return markdown_table(head, rows)


def trials_table(board: Board) -> str:
    """One row per trial; of those with one pixel order and as many epochs, the best first."""
    head = ["recipe", ">epochs", ">accuracy on 10,000 held-out images, %", ">training accuracy, %"]

    def place(trial: Record) -> tuple[str, int, float]:
        final = trial.summary["final"]
        return trial.config.task.permutation, trial.config.train.n_epochs, -final["val_accuracy"]

    rows = []
    for trial in sorted(board.trials, key=place):
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


def settings_table(board: Board) -> str:
    """One row per setting: added to the baseline alone, and taken away from all settings alone."""
    scores: defaultdict[frozenset[str], list[float]] = defaultdict(list)
    values: dict[str, Any] = {}
    one_at_a_time = [one for one in board.searches if [row.name for row in one.settings.space] == ["settings"]]
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


def literature_table(board: Board) -> str:
    """Published accuracies of the plain LSTM."""
    head = ["source", ">units", ">sMNIST, %", ">psMNIST, %", ">runs", "training, remarks", "figures taken from"]
    rows = []
    for row in board.literature["plain_lstm"]:
        smnist = f"{row['smnist'] or ''} {row.get('spread', '')}".strip()
        remarks = "; ".join(filter(None, [row["recipe"], row.get("note", "")]))
        numbers = [row["units"], smnist, row["psmnist"] or "", row.get("runs", "")]
        rows.append([row["source"], *numbers, remarks, row["read_in"]])
    return markdown_table(head, rows)


def other_cells_table(board: Board) -> str:
    """Published accuracies of other recurrent cells."""
    rows = [
        [row["source"], row["parameters"], row["smnist"], row["psmnist"] or "", row["read_in"]]
        for row in board.literature["other_cells"]
    ]
    return markdown_table(["cell", ">parameters", ">sMNIST, %", ">psMNIST, %", "figures taken from"], rows)


def configuration_table(_: Board) -> str:
    """One row per key of the configuration that has more than one value."""
    rows = []
    for key, one in ((key, one) for key, one in OPTIONS.items() if not one.hidden):
        words = [text.replace("\\", "\\\\") for text in (one.allowed, one.meaning)]
        rows.append([f"`{key}`", f"`{value_text(one.default)}`", *words])
    return markdown_table(["key", "default", "allowed values", "meaning"], rows)
