"""The result of a search: its best configuration, repeated with other seeds, and its report."""

from __future__ import annotations

import shlex

from .. import config as cfg
from ..system import RunError, json_bytes, say, write_atomically
from ..train import train_command
from .folder import SearchFolder
from .outcomes import best_config, best_of, failed_trials, read_trials
from .repeats import repeat_score, repeat_seeds
from .report import draw_search, search_report


def finish_search(search: SearchFolder) -> None:
    """Write best.json, trials.json, the report and the picture of a search whose trials and repeats have ended."""
    rows = read_trials(search)
    if not rows:
        raise RunError(f"no trial of {search.path} has ended with a score")
    best = best_of(rows)
    write_atomically(search.path / "best.json", json_bytes(cfg.config_to_dict(best_config(search, best))))
    write_atomically(search.path / "trials.json", json_bytes(rows))
    draw_search(search, rows, search.path / "search.png")
    scores = [repeat_score(search, best, seed) for seed in repeat_seeds(search)]
    repeated = [score for score in scores if score is not None]
    text = search_report(search, rows, repeated, failed_trials(search))
    write_atomically(search.path / "report.md", text.encode())
    say(text)
    say(f"train it: {train_command()} --config {shlex.quote(str(search.path / 'best.json'))}")
