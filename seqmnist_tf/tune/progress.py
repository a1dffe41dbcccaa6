"""Reports of trials as they end."""

from __future__ import annotations

import time

from ..system import say
from .folder import SearchFolder
from .outcomes import best_of, failed_trials, read_trials

WATCH_SECONDS = 1.0


class TrialReporter:
    """Reports each trial that has ended: its score, the best so far, and the time left at the pace since the start."""

    def __init__(self, search: SearchFolder, max_trials: int) -> None:
        self.search, self.max_trials = search, max_trials
        self.started = time.monotonic()
        self.reported = {row["trial"] for row in read_trials(search)}
        self.before = len(self.reported)

    def report_new(self) -> int:
        """Report the trials that have not been reported yet; return their number."""
        rows = read_trials(self.search)
        new = [row for row in rows if row["trial"] not in self.reported]
        if new:
            best, ended = best_of(rows), len(rows) + len(failed_trials(self.search))
            pace = (time.monotonic() - self.started) / max(1, len(rows) - self.before)
            minutes = max(0, self.max_trials - ended) * pace / 60
        for row in new:
            self.reported.add(row["trial"])
            say(
                f"trial {row['trial']}: validation accuracy {row['score']:.2%}, {row['status']}; best so far "
                f"{best['score']:.2%} (trial {best['trial']}); {ended} of at most {self.max_trials} trials, "
                f"{minutes:.0f} min left"
            )
        return len(new)
