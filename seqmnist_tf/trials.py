"""The trials of a search: running one to its end, and telling of those that have ended."""

from __future__ import annotations

import sys
import time
from typing import Any

from . import config as cfg
from . import search
from .run_dir import RunDirectory
from .search import Search
from .train import resume, train

POLL_SECONDS = 1.0


def run_trial(what: Search, trial_id: str, values: dict[str, Any], threads: int, command: str) -> float:
    """Train a trial to its end, from where it was left, and return its score.

    Raises:
        KeyboardInterrupt: the run was interrupted.
    """
    config = cfg.with_values(what.config(values), {"train.threads": threads} if threads else {})
    path = what.trial_path(trial_id)
    ended = search.outcome(RunDirectory(path)) if path.is_dir() else None
    if ended is None:

        def give_up(history: list[dict[str, Any]]) -> bool:
            return search.at_chance(history, config.train.n_epochs)

        if path.is_dir():
            resume(path, command=command, give_up=give_up)
        else:
            train(config, path, preset=what.preset, command=command, give_up=give_up)
        ended = search.outcome(RunDirectory(path))
        if ended is None:
            raise KeyboardInterrupt
    how, score = ended
    if how != "completed":
        print(f"trial {trial_id}: {how}", file=sys.stderr)
    return score


class Progress:
    """Tells of each trial that has ended: its score, the best so far, and the time left at the pace since the start."""

    def __init__(self, what: Search, max_trials: int) -> None:
        self.what, self.max_trials = what, max_trials
        self.started = time.monotonic()
        self.told = {row["trial"] for row in search.read_trials(what)}
        self.before = len(self.told)

    def say(self) -> int:
        """Tell of the trials that were not told of yet; return how many they are."""
        rows = search.read_trials(self.what)
        new = [row for row in rows if row["trial"] not in self.told]
        if new:
            best = search.best_of(rows)
            pace = (time.monotonic() - self.started) / (len(rows) - self.before)
            minutes = (self.max_trials - len(rows)) * pace / 60
        for row in new:
            self.told.add(row["trial"])
            print(
                f"trial {row['trial']}: validation accuracy {row['score']:.2%}, {row['status']}; best so far "
                f"{best['score']:.2%} (trial {best['trial']}); {len(rows)} of at most {self.max_trials} trials, "
                f"{minutes:.0f} min left",
                flush=True,
            )
        return len(new)

    def keep_saying(self) -> None:
        """Tell of trials as they end, for ever."""
        while True:
            time.sleep(POLL_SECONDS)
            self.say()
