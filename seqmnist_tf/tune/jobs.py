"""What a search has to do next: trials, whose values the oracle chooses, then repeats of the best one."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import keras_tuner

from ..system import first_line, note
from .folder import SearchFolder
from .job import Answer, Job
from .oracle import OBJECTIVE
from .outcomes import best_of, read_trials
from .repeats import repeat_score, repeat_seeds


@dataclass
class Progress:
    """What has ended since the search was opened."""

    ended: int = 0
    error: str | None = None


class Jobs:
    """Hands out the jobs of a search to its workers, and takes their results. Its methods may be called at once.

    Args:
        search: the search.
        oracle: its oracle, loaded.
    """

    def __init__(self, search: SearchFolder, oracle: keras_tuner.Oracle) -> None:
        self.search, self.oracle = search, oracle
        self.progress = Progress()
        self._lock = threading.RLock()
        self._exhausted = False
        self._best: dict[str, Any] = {}  # row of the best trial, once all have ended
        self._repeats: dict[str, Job] = {}  # by worker
        self._failed: set[int] = set()  # seeds

    def take(self, worker: str) -> Answer:
        """Return a worker's job: the one that it has not ended, or a new one."""
        with self._lock:
            if self.progress.error:
                return "end"
            if worker in self._repeats:
                return self._repeats[worker]
            trial = self.oracle.create_trial(worker)
            if trial.status == "RUNNING":
                return Job(trial.trial_id, dict(trial.hyperparameters.values))
            if self.oracle.ongoing_trials or trial.status == "IDLE":
                return "wait"
            return self._take_repeat(worker)

    def held_by(self, worker: str) -> Job | None:
        """Return the job that a worker has; None where it has none.

        It takes no lock: beats must not wait while the oracle chooses values.
        """
        if (repeat := self._repeats.get(worker)) is not None:
            return repeat
        trial = self.oracle.ongoing_trials.get(worker)
        return Job(trial.trial_id, dict(trial.hyperparameters.values)) if trial else None

    def holders(self) -> dict[str, Job]:
        """Return the workers that have a job, each with it."""
        with self._lock:
            names = [*self.oracle.ongoing_trials, *self._repeats]
            return {name: job for name in names if (job := self.held_by(name))}

    def end(self, worker: str, job: Job, score: float | None, reason: str = "") -> bool:
        """Record a result, None for a job that failed; return False where the worker does not have the job."""
        with self._lock:
            if not self.claim(worker, job):
                return False
            if job.seed is None:
                self._end_trial(job, score, reason)
            else:
                del self._repeats[worker]
                if score is None:
                    self._failed.add(job.seed)
            self.progress.ended += 1
            return True

    def release(self, worker: str) -> None:
        """Take a worker's job away and put it back into the queue."""
        with self._lock:
            self._repeats.pop(worker, None)
            self.oracle.tuner_ids.discard(worker)
            if trial := self.oracle.ongoing_trials.pop(worker, None):
                self.oracle._retry_queue.append(trial.trial_id)
                self.oracle.save()

    def claim(self, worker: str, job: Job) -> bool:
        """Return whether a worker that is at work on a job has it, or gets it from the queue, where it waits."""
        with self._lock:
            if (held := self.held_by(worker)) is not None:
                return held == job
            if job.seed is not None:
                free = self._best.get("trial") == job.trial and job.seed in self._open_repeats()
                if free:
                    self._repeats[worker] = job
                return free
            if job.trial not in self.oracle._retry_queue:
                return False
            self.oracle._retry_queue.remove(job.trial)
            self.oracle.ongoing_trials[worker] = self.oracle.trials[job.trial]
            return True

    def over(self) -> bool:
        """Return whether nothing is left to do."""
        with self._lock:
            if self.oracle.ongoing_trials or self.oracle._retry_queue or self._repeats:
                return False
            if not self._exhausted and len(self.oracle.trials) < self.oracle.max_trials:
                return False
            return not (self._find_best() and self._open_repeats())

    def _end_trial(self, job: Job, score: float | None, reason: str) -> None:
        trial = self.oracle.trials[job.trial]
        if score is not None:
            self.oracle.update_trial(job.trial, {OBJECTIVE: score})
        trial.status, trial.message = ("FAILED", reason) if score is None else ("COMPLETED", None)
        try:
            self.oracle.end_trial(trial)
        except RuntimeError as error:  # several trials in a row have failed
            self.progress.error = f"{first_line(error)} {reason}"

    def _take_repeat(self, worker: str) -> Answer:
        self._exhausted = True
        if not self._find_best():
            return "end"
        if free := self._open_repeats():
            self._repeats[worker] = Job(self._best["trial"], self._best["hyperparameters"], free[0])
            return self._repeats[worker]
        return "wait" if self._repeats else "end"

    def _find_best(self) -> bool:
        """Find the best trial of a search whose trials have ended; return False where no trial has a score."""
        if not self._best and (rows := read_trials(self.search)):
            self._best = best_of(rows)
            if left := self._open_repeats():
                seeds = ", ".join(map(str, left))
                note(f"the trials have ended; the best, trial {self._best['trial']}, is repeated with seeds {seeds}")
        return bool(self._best)

    def _open_repeats(self) -> list[int]:
        """Return the seeds of the repeats that nobody works on and that have not ended."""
        taken = {job.seed for job in self._repeats.values()} | self._failed
        free = [seed for seed in repeat_seeds(self.search) if seed not in taken]
        return [seed for seed in free if self._best and repeat_score(self.search, self._best, seed) is None]
