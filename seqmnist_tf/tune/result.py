"""The result of a search: its best configuration, repeated with other seeds, and its report."""

from __future__ import annotations

import dataclasses
import json

from .. import config as cfg
from ..system import RunError, say, write_atomically
from .folder import SearchFolder, best_config, best_of, read_trials
from .report import draw_search, search_report
from .trials import run_trial

REPEATS = 3  # other seeds of the best trial


def finish_search(search: SearchFolder, command: str) -> None:
    """Repeat the best trial with other seeds; write best.json, trials.json, the report and the picture."""
    rows = read_trials(search)
    if not rows:
        raise RunError(f"no trial of {search.path} has ended with a score")
    best = best_of(rows)
    write_atomically(search.path / "best.json", (cfg.config_to_json(best_config(search, best)) + "\n").encode())
    write_atomically(search.path / "trials.json", (json.dumps(rows, indent=1) + "\n").encode())
    draw_search(search, rows, search.path / "search.png")
    repeats: list[float] = []
    for n in range(1, REPEATS + 1):
        seed = (search.base.train.seed + n) % 2**32
        again = dataclasses.replace(
            search, path=search.path / "repeats", base=cfg.with_values(search.base, {"train.seed": seed})
        )
        repeats.append(run_trial(again, f"seed{seed}", best["hyperparameters"], 0, command))
    text = search_report(search, rows, repeats)
    write_atomically(search.path / "report.md", text.encode())
    say(text)
    say(f"train it: python -m seqmnist_tf.train --config {search.path / 'best.json'}")
