"""Generated sections: the board of cells, the settings, and the searches and trials that chose the recipes."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ..compare import (
    VERDICTS,
    PairResult,
    SeededRuns,
    equivalence_bound,
    in_percent,
    layer_name,
    p_text,
    pair_runs,
    percent_range,
    task_name,
)
from ..config import PRESETS, Config, constants_text, differences, of_the_experiment, preset, value_text
from ..system import escape_markdown, markdown_table
from .board import BASELINE, Board, code_of, record_link, replay_text, wrap_text
from .records import RESULTS_FOLDER, Record
from .searches import ROW_STATUSES, Search

NO_CELL = "No cell of the board has its seeds published yet."
RESULTS = [">median, %", ">mean ± SD, %", ">worst seed, %", ">failed"]
RESULTS += [">difference, points (95 % interval)", ">p (Holm)"]
OWN_COLUMNS = ("task.validation_size", "test.enabled", "train.n_epochs")


def chosen_by(board: Board, record: Record) -> str:
    """Return the published searches that chose the recipe of a record, as links."""
    links = [_search_link(search) for search in board.searches if search.chose(record) and not search.of_settings]
    return ", ".join(links) or "no published search"


def _search_link(search: Search) -> str:
    return f"[`{search.path.stem}`]({(RESULTS_FOLDER / search.name).as_posix()}.json)"


def searches_text(board: Board) -> str:
    """One row per search, then the values that each chose."""
    if not board.searches:
        return "No search is published yet."
    head = ["search", "layer", "task", "tuner", ">seed", ">trials", ">epochs", ">images held out", ">best trial, %"]
    head += [">its other seeds, %", ">hours", "commit", "trained anew (as its publisher or others say)"]
    chosen = [
        wrap_text(f"{_search_link(search)} chose {_best_values(search)}.", "- ", "  ")
        for search in board.searches
        if not search.of_settings
    ]
    return "\n\n".join([markdown_table(head, [_search_row(search) for search in board.searches]), "\n".join(chosen)])


def _search_row(search: Search) -> list[Any]:
    base, trials = search.settings.base, search.of_seed(own=True)
    counts = {status: sum(row["status"] == status for row in trials) for status in ROW_STATUSES}
    repeats = search.of_seed(own=False)
    others = [row["score"] for row in repeats if row["status"] == "completed"]
    left_out = f" of {len(repeats)}" * (len(others) < len(repeats))
    return [
        _search_link(search),
        f"`{search.config(search.best).model.layer}`",
        task_name(base),
        search.settings.tuner,
        base.train.seed,
        f"{len(trials)} ({', '.join(f'{count} {status}' for status, count in counts.items() if count)})",
        base.train.n_epochs,
        f"{base.task.validation_size:,}",
        f"**{in_percent(search.best['score'])}**",
        f"{in_percent(statistics.mean(others))} ({len(others)}{left_out})" if others else "",
        f"{sum(row['seconds'] for row in search.ended) / 3600:.1f}",
        f"`{code_of(search.environment(search.best))}`",
        replay_text(search),
    ]


def _best_values(search: Search) -> str:
    """Return the values of the best trial, and which of them lie at the edge of what was explored."""
    values, texts = search.best["values"], []
    trials = [row["values"] for row in search.of_seed(own=True)]
    for row in search.settings.space:
        if row.applies(values):
            value = values[row.name]
            drawn = [trial[row.name] for trial in trials if row.applies(trial)]
            text = f" (at the {edge} edge of {row.allowed})" if (edge := row.at_edge(value)) else f" of {row.allowed}"
            if not row.choices and len(drawn) > 1 and value in (min(drawn), max(drawn)):
                text += f", the {'highest' if value == max(drawn) else 'lowest'} that was drawn"
            texts.append(f"`{row.name}` {escape_markdown(row.text(value) + text)}")
    return "; ".join(texts)


def trials_text(board: Board) -> str:
    """One row per trial; of those with one pixel order and as many epochs, the best first. Then how far they differ."""
    if not board.trials:
        return "No trial is published yet."
    head = ["recipe", ">seed", ">epochs", ">images held out", ">accuracy on them, %", ">training accuracy, %"]
    head += ["commit", "configuration", "trained anew (as its publisher or others say)"]
    trials = sorted(board.trials, key=_order_of_trials)
    table = markdown_table(head, [_trial_row(trial) for trial in trials])
    groups: dict[tuple[str, int], list[Record]] = {}
    for trial in trials:
        groups.setdefault((task_name(trial.config), trial.config.task.validation_size), []).append(trial)
    spreads = [_near_the_best(task, images, same) for (task, images), same in groups.items() if len(same) > 1]
    return "\n\n".join([table, *spreads])


def _near_the_best(task: str, images: int, trials: Sequence[Record]) -> str:
    """Return how many trials of one task are as good as the best of them, for all that chance alone does to it."""
    accuracies = [_held_out_accuracy(trial) for trial in trials]
    best = max(accuracies)
    error = math.sqrt(best * (1 - best) / images)
    near = sum(accuracy >= best - 2 * error for accuracy in accuracies)
    among = f"{near} of the {len(trials)} trials on {task}, the best included, are"
    subject = among if near > 1 else f"No other trial on {task} is"
    return wrap_text(
        f"{subject} within two standard errors ({round(2 * error * images):,} of {images:,} images) of the best."
    )


def _order_of_trials(trial: Record) -> tuple[Any, ...]:
    config = trial.config
    return config.task.permutation, config.train.n_epochs, -_held_out_accuracy(trial), trial.name, trial.seed


def _held_out_accuracy(trial: Record) -> float:
    return trial.summary["final"]["val_accuracy"]


def _trial_row(trial: Record) -> list[Any]:
    return [
        f"{_recipe(trial)} ([record]({record_link(trial)}))",
        trial.seed,
        trial.config.train.n_epochs,
        f"{trial.config.task.validation_size:,}",
        f"**{in_percent(_held_out_accuracy(trial))}**",
        in_percent(trial.history[-1]["train_accuracy"]),
        f"`{code_of(trial.environment)}`",
        f"`{trial.run.config_id}`",
        replay_text(trial),
    ]


def _recipe(trial: Record) -> str:
    """Return the preset of a trial, and the keys in which it differs from it."""
    name = trial.environment["preset"] if trial.environment["preset"] in PRESETS else "baseline"
    changed = changed_keys(trial.config, PRESETS[name].config)
    if trial.config.model.match_parameters is not None:
        changed.pop("model.hidden_size", None)  # they were found
    return ", ".join([f"`{name}`", *(f"`{key} {value_text(value)}`" for key, value in changed.items())])


def changed_keys(config: Config, base: Config) -> dict[str, Any]:
    """Return the keys of the experiment in which a trial differs from a configuration, and the trial's values."""
    changed = differences(config, base)
    return {key: value for key, value in changed.items() if of_the_experiment(key) and key not in OWN_COLUMNS}


def board_table(board: Board) -> str:
    """One short row per cell, for the README."""
    cells, pairs = _compared(board)
    head = ["cell", *RESULTS]
    rows = [[layer_name(cell.config), *_results(cell, pairs)] for cell in cells]
    return markdown_table(head, rows) if rows else NO_CELL


def board_text(board: Board) -> str:
    """One row per cell with what its authors print."""
    cells, pairs = _compared(board)
    if not cells:
        return NO_CELL
    equivalent = f"equivalent (± {100 * equivalence_bound(cells[0].config):g} points)"
    head = ["cell", ">units", "constants", ">parameters", *RESULTS, equivalent, "chosen by", "printed elsewhere, %"]
    verdicts = ["", *(VERDICTS[pair.equivalent] for pair in pairs)]
    rows = [
        [
            f"{layer_name(cell.config)} `{cell.name}`",
            cell.units,
            escape_markdown(constants_text(cell.config)),
            f"{cell.num_params:,}",
            *_results(cell, pairs),
            verdict,
            chosen_by(board, board.records[cell.name][0]),
            _printed(board, cell.name),
        ]
        for cell, verdict in zip(cells, verdicts, strict=True)
    ]
    return markdown_table(head, rows)


def _compared(board: Board) -> tuple[list[SeededRuns], tuple[PairResult, ...]]:
    """Return the cells whose seeds are published, and each other one against the LSTM."""
    cells = [board.experiment(name) for name in board.cells]
    return cells, pair_runs(cells)


def _results(cell: SeededRuns, pairs: Sequence[PairResult]) -> list[str]:
    """Return the columns RESULTS of a cell; the last two are empty for the LSTM itself."""
    row = [in_percent(cell.median), f"**{cell.text}**", in_percent(cell.worst), cell.failures]
    for pair in pairs:
        if pair.b == cell.name:
            interval = f" ({percent_range(pair.ci_95, sign=True)})" if pair.ci_95 else ""
            return [*row, f"{in_percent(pair.mean_difference, sign=True)}{interval}", p_text(pair.holm_p)]
    return [*row, "", ""]


def _printed(board: Board, name: str) -> str:
    """Return the accuracies of other sources that stand beside a cell's."""
    texts = []
    for row in (*board.literature["plain_lstm"], *board.literature["other_cells"]):
        if row.get("board") == name:
            size = f", {row['parameters']} parameters" if row.get("parameters") else ""
            texts.append(f"{row['smnist']} ({row['source']}{size})")
    return "; ".join(texts)


def settings_text(board: Board) -> str:
    """One row per setting: added to the baseline alone, and taken away from all settings alone."""
    searches = [search for search in board.searches if search.of_settings]
    if not searches:
        return "No search of the settings is published yet."
    scores: defaultdict[frozenset[str], list[float]] = defaultdict(list)  # NaN of a trial that was not completed
    values: dict[str, Any] = {}
    for search in searches:
        for row in search.of_seed(own=True):
            changed = changed_keys(search.config(row), preset(BASELINE))
            values |= changed
            score = row["score"] if row["status"] == "completed" else math.nan
            scores[frozenset(changed)].append(score)
    every = frozenset(values)
    head = ["setting", ">added to the baseline, %", ">change, points", ">taken away from all, %", ">change, points"]
    rows: dict[str, list[str]] = {}
    for found in list(scores):
        keys = min((found, every - found), key=len)  # those of one setting
        added, taken = scores[keys], scores[every - keys]
        name = ", ".join(f"`{key} {value_text(values[key])}`" for key in sorted(keys)) or "none, or all"
        changes = [_change(added, scores[frozenset()]), _change(taken, scores[every])] if keys else ["", ""]
        rows[name] = [name, _percents(added), changes[0], _percents(taken), changes[1]]
    return markdown_table(head, sorted(rows.values(), key=lambda row: row[0] != "none, or all"))


def _percents(shares: Sequence[float]) -> str:
    return ", ".join("no score" if math.isnan(share) else in_percent(share) for share in shares)


def _change(after: Sequence[float], before: Sequence[float]) -> str:
    change = statistics.fmean(after) - statistics.fmean(before) if after and before else math.nan
    return "" if math.isnan(change) else in_percent(change, sign=True)
