"""A search from its first trial to its result: trials are jobs of the engine, values are the oracle's."""

from __future__ import annotations

import functools
import logging
import shlex
from pathlib import Path
from typing import Any

from keras_tuner.engine.trial import Trial

from .. import config as cfg
from ..config import LayerFile, read_layer
from ..engine import Job, JobEnd, Stopwatch, note_epoch, run_jobs
from ..system import InputError, RunError, json_bytes, note, say, write_atomically
from ..train import AT_CHANCE, RunDirectory, train_command, write_figure
from .oracle import OBJECTIVE, OVER, load_oracle
from .report import draw_search, search_report
from .space import SearchFolder, on_all_images

DIVERGED = 0.0  # score of a trial that diverged
FAILURES = 10  # trials that fail in a row end a search; values that do not suit each other are such failures


def stop_at_chance(n_epochs: int, history: list[dict[str, Any]]) -> str | None:
    """Return why a run of ``n_epochs`` is stopped: it is at chance after half of its epochs. None where it goes on.

    Averaged weights (``optimizer.ema_momentum``) can be at chance long after the trained ones have left it, so the
    accuracy on the training images counts too.
    """
    at_chance = max(history[-1]["val_accuracy"], history[-1]["train_accuracy"]) < AT_CHANCE
    if at_chance and len(history) < n_epochs <= 2 * len(history):
        return f"at chance after {len(history)} of {n_epochs} epochs"
    return None


def run_search(search: SearchFolder, max_trials: int, command: str = "", **where: Any) -> None:
    """Run a search to its result; its folder exists. ``where`` is ``workers``, ``address`` or ``place``."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns that each trial traces a model again
    jobs = SearchJobs(search, max_trials, command, shows_epochs=any(where.values()))
    jobs.require_successes()
    if jobs.oracle.end_order:
        note(f"trials that have ended: {len(jobs.oracle.end_order)}")
    if jobs.running or len(jobs.oracle.trials) < max_trials:
        run_jobs(jobs, search.path, threads=search.base.train.threads, **where)
    jobs.finish()


def read_search(path: Path) -> tuple[SearchFolder, list[dict[str, Any]]]:
    """Return a search that has ended, and its trials.

    Their keys: ``trial`` (its number), ``seed``, ``status`` (completed, stopped, diverged, failed), ``values``
    (KerasTuner's) and, of all but failed ones, ``score`` (held-out accuracy, 0 to 1) and ``path`` (the run directory).
    """
    search = SearchFolder.read(path)
    jobs = SearchJobs(search, 1)
    if jobs.best is None or jobs.running:
        raise InputError(f"{path} is a search that has not ended (the command that began it continues it)")
    rows = []
    for trial_id, trial in jobs.oracle.trials.items():
        row = {"trial": int(trial_id), "seed": search.base.train.seed, "status": "failed"}
        row["values"] = trial.hyperparameters.values
        if ended := jobs.rows.get(trial_id):
            row |= {"status": ended["status"], "score": ended["score"], "path": search.trial_path(trial_id)}
        rows.append(row)
    return search, rows


class SearchJobs:
    """The source of a search's jobs: each is a trial. To KerasTuner, each slot of the engine is a tuner.

    ``command`` is for the record. ``shows_epochs`` prints a line for each epoch, if other processes train the jobs.
    """

    def __init__(self, search: SearchFolder, max_trials: int, command: str = "", shows_epochs: bool = False) -> None:
        self.search, self.max_trials = search, max_trials
        self.command, self.shows_epochs = command, shows_epochs
        self.oracle = load_oracle(search, max_trials)
        self.rows = {
            trial_id: self._read_row(trial)
            for trial_id, trial in self.oracle.trials.items()
            if trial.status == "COMPLETED"
        }
        self.layers: dict[str, LayerFile | None] = {}  # read once: the file may change during the search
        self.stopwatch = Stopwatch()  # its unit of work is a trial

    @property
    def best(self) -> dict[str, Any] | None:
        """The row with the highest score; among equal ones, the first trial's."""
        return max(self.rows.values(), key=lambda row: (row["score"], -int(row["trial"])), default=None)

    @property
    def running(self) -> bool:
        """Whether a trial has begun and not ended."""
        return any(trial.status not in OVER for trial in self.oracle.trials.values())

    def take(self, slot: str) -> Job | None:
        """Return the next trial, or None if there is none for now."""
        while (trial := self.oracle.create_trial(slot)).status == "RUNNING":
            try:
                config = self.search.config(trial.hyperparameters.values)
                on_all_images(config)
            except InputError as error:
                note(f"trial {trial.trial_id}: failed ({error})")
                self._fail(trial, str(error))
                continue
            if config.model.layer not in self.layers:
                self.layers[config.model.layer] = read_layer(config)
            self.stopwatch.slots.add(slot)
            return Job(
                path=self.search.trial_path(trial.trial_id),
                name=f"trial {trial.trial_id}",
                config=config,
                preset=self.search.preset,
                command=self.command,
                resume_command=self.command,
                layer=self.layers[config.model.layer],
                group=f"search-{self.search.path.resolve().name}",
                stop_rule=functools.partial(stop_at_chance, config.train.n_epochs) if self.search.stops else None,
            )
        return None

    def epoch(self, job: Job, history: list[dict[str, Any]]) -> None:
        """Print the last epoch of a job that another process trains."""
        if self.shows_epochs:
            note_epoch(job, history)

    def ended(self, slot: str, job: Job, end: JobEnd) -> None:
        """Record the end of a trial; print its score, the best so far, and the time left at the pace so far."""
        trial = self.oracle.ongoing_trials[slot]
        if end.error:
            self._fail(trial, end.error)
            return
        self.rows[trial.trial_id] = row = self._read_row(trial)
        self.oracle.update_trial(trial.trial_id, {OBJECTIVE: row["score"]})
        trial.status, trial.message = "COMPLETED", None
        self.oracle.end_trial(trial)
        self.stopwatch.add(1, row["seconds"])
        best, done = self.best or row, len(self.oracle.end_order)
        left = max(0, self.max_trials - done)
        reason = f" ({end.reason})" if end.reason else ""
        say(
            f"trial {trial.trial_id}: validation accuracy {row['score']:.2%}, {row['status']}{reason}; "
            f"best so far {best['score']:.2%} (trial {best['trial']}); "
            f"{done} of at most {self.max_trials} trials, {self.stopwatch.left(left, left)}"
        )

    def require_successes(self) -> None:
        """Raise RunError if each of the last trials has failed."""
        last = [self.oracle.trials[trial_id] for trial_id in self.oracle.end_order[-FAILURES:]]
        if len(last) == FAILURES and all(trial.status == "FAILED" for trial in last):
            raise RunError(
                f"the search cannot continue: the last {FAILURES} trials failed, trial {last[-1].trial_id} because "
                f"{last[-1].message} (change the search space, and give a new --dir)"
            )

    def finish(self) -> None:
        """Write best.json, trials.json, the report and the picture of a search that has ended."""
        search, best = self.search, self.best
        if best is None:
            raise RunError(f"no trial of {search.path} has ended with a score")
        rows = sorted(self.rows.values(), key=lambda row: int(row["trial"]))
        config = on_all_images(search.config(best["values"]))
        write_atomically(search.path / "best.json", json_bytes(cfg.config_to_dict(config)))
        write_atomically(search.path / "trials.json", json_bytes(rows))
        write_figure(draw_search(search, rows, best), search.path / "search.png", dpi=110)
        failed = {key: str(trial.message) for key, trial in self.oracle.trials.items() if trial.status == "FAILED"}
        text = search_report(search, rows, best, failed)
        write_atomically(search.path / "report.md", text.encode())
        file = shlex.quote(str(search.path / "best.json"))
        say(text)
        if (done := len(self.oracle.end_order)) < self.max_trials:
            say(f"ended after {done} of at most {self.max_trials} trials: {search.tuner} has no further one")
        epochs = cfg.preset(search.preset or "baseline").train.n_epochs  # a trial mostly has fewer
        say(f"train it: {train_command()} --config {file} --train.n-epochs {epochs}")
        say(f"with other seeds: python -m seqmnist_tf.compare {file} --seeds 1-3")

    def _fail(self, trial: Trial, reason: str) -> None:
        trial.status, trial.message = "FAILED", reason
        self.oracle.end_trial(trial)
        self.require_successes()

    def _read_row(self, trial: Trial) -> dict[str, Any]:
        """Return the row of ``trials.json`` of a trial that has ended; its score is held-out accuracy, 0 to 1."""
        run = RunDirectory(self.search.trial_path(trial.trial_id))
        summary, history = run.summary or {}, run.history()
        values = dict(trial.hyperparameters.values)
        return {
            "trial": trial.trial_id,
            "status": summary["status"],
            "score": DIVERGED if summary["status"] == "diverged" else history[-1]["val_accuracy"],
            "epochs": summary["epochs"],
            "escape_epoch": summary["escape_epoch"],
            "seconds": summary["seconds_total"],
            "values": {key: value for key, value in values.items() if not key.startswith("tuner/")},
            "hyperparameters": values,
        }
