"""A search from its first trial to its result: trials and repeats are jobs of the engine, values are the oracle's."""

from __future__ import annotations

import functools
import logging
import shlex
import time
from pathlib import Path
from typing import Any

from keras_tuner.engine.trial import Trial

from .. import config as cfg
from ..config import Config
from ..engine import Job, JobEnd, due, run_jobs
from ..model import build_model, module_code, recurrent_weights
from ..system import InputError, RunError, json_bytes, note, say, write_atomically
from ..train import RunDirectory, train_command
from .folder import SETTINGS, SearchFolder, best_of, on_all_images
from .oracle import OBJECTIVE, OVER, load_oracle
from .report import draw_search, log_hparams, search_report
from .space import apply_values
from .trials import (
    REPEATS,
    outcome,
    read_row,
    repeat_config,
    repeat_path,
    repeat_score,
    repeat_seeds,
    require_same_modules,
    stop_at_chance,
)

FAILURES = 10  # trials that fail in a row end a search; values that do not suit each other are such failures


def noise_acts(config: Config) -> bool:
    """Return whether ``train.recurrent_noise`` acts on the layer of a configuration."""
    return cfg.has_stock_layer(config) or bool(recurrent_weights(build_model(config).layers[0]))


def run_search(search: SearchFolder, max_trials: int, command: str = "", **where: Any) -> None:
    """Run a search, whose folder is there, to its result: its trials, then the repeats of the best one.

    ``where`` are ``workers`` and ``address`` of :func:`~seqmnist_tf.engine.run_jobs`, or its ``place``. InputError is
    raised where the search's state or the cluster cannot be used, RunError where trials fail in a row.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns that each trial traces a model again
    require_same_modules(search)
    jobs = SearchJobs(search, max_trials, command, shows_epochs=any(where.values()))
    jobs.require_successes()
    if jobs.left():
        run_jobs(jobs, search.path, marker=SETTINGS, threads=search.base.train.threads, **where)
    jobs.finish()


def read_search(path: Path) -> tuple[SearchFolder, list[dict[str, Any]]]:
    """Return a search that has ended, and its trials and the repeats of the best one.

    Their keys: ``trial`` (its number), ``seed``, ``status`` (completed, stopped, diverged, failed), ``values``
    (KerasTuner's) and, of all but failed ones, ``score`` (held-out accuracy, 0 to 1) and ``path`` (the run directory).

    Raises:
        InputError: there is no search, it has not ended, or a file of it cannot be read.

    Example::

        search, rows = read_search(Path("runs/search"))
        print(search.tuner, max(row["score"] for row in rows if "score" in row))
    """
    search = SearchFolder.read(path)
    jobs = SearchJobs(search, 1)
    if jobs.best is None or jobs.left():
        raise InputError(
            f"{path} is a search that has not ended, or lacks a repeat of its best trial (the command that began it "
            "continues it)"
        )
    seed = search.base.train.seed
    failed = [
        {"trial": int(trial_id), "seed": seed, "status": "failed", "values": trial.hyperparameters.values}
        for trial_id, trial in jobs.oracle.trials.items()
        if trial.status == "FAILED"
    ]
    ended = [
        {
            **{key: row[key] for key in ("status", "score")},
            "trial": int(row["trial"]),
            "seed": seed,
            "values": row["hyperparameters"],
            "path": search.trial_path(row["trial"]),
        }
        for row in jobs.rows.values()
    ]
    (best,) = (row for row in ended if row["trial"] == int(jobs.best["trial"]))
    repeats = []
    for other in repeat_seeds(search):
        run = repeat_path(search, jobs.best, repeat_config(search, jobs.best, other))
        status, score = outcome(RunDirectory(run)) or ("", 0.0)  # ``left`` has found all of them
        repeats.append({**best, "seed": other, "status": status, "score": score, "path": run})
    return search, [*sorted([*failed, *ended], key=lambda row: row["trial"]), *repeats]


class SearchJobs:
    """The jobs of a search, for the engine.

    The engine's slots are KerasTuner's tuners, so that an oracle knows what is running.

    Args:
        search: the search.
        max_trials: maximum number of trials.
        command: the command line, for the record.
        shows_epochs: print a line for epochs; a run in this process shows its own.
    """

    def __init__(self, search: SearchFolder, max_trials: int, command: str = "", shows_epochs: bool = False) -> None:
        self.search, self.max_trials, self.command, self.shows_epochs = search, max_trials, command, shows_epochs
        self.rows: dict[str, dict[str, Any]] = {}
        self.oracle = load_oracle(search, max_trials, self._has_result)
        self.best = best_of(self.rows.values()) if self.rows else None
        self.repeats: dict[int, float | None] = {}  # by seed, once the trials have ended; None without a score
        self.announced = False  # whether a line has named the repeats
        self.started, self.before, self.epochs = time.monotonic(), len(self.rows), 0

    def _has_result(self, trial_id: str, state: dict[str, Any]) -> bool:
        """Read the row of a trial that has a score; return whether that is possible."""
        try:
            self.rows[trial_id] = read_row(self.search, trial_id, state["values"], state["score"])
        except InputError as error:
            note(f"trial {trial_id} has lost its result: {error}")
            return False
        return True

    def take(self, slot: str) -> Job | None:
        """Return the next trial, or where all have ended the next repeat; None while others run that decide it.

        Raises:
            RunError: the file of a layer has changed, or trials fail in a row.
        """
        while (trial := self.oracle.create_trial(slot)).status == "RUNNING":
            try:
                config = self.search.config(trial.hyperparameters.values)
                on_all_images(config)
            except InputError as error:
                if due(len(self.oracle.end_order) + 1, self.max_trials):
                    note(f"trial {trial.trial_id}: failed ({error})")
                self._fail(trial, str(error))
                continue
            return self._job(f"trial {trial.trial_id}", self.search.trial_path(trial.trial_id), config)
        if self.oracle.ongoing_trials or self.best is None:
            return None
        return self._take_repeat(self.best)

    def epoch(self, job: Job, history: list[dict[str, Any]]) -> None:
        """Print how far a job is that another process trains."""
        self.epochs += 1
        total = (self.max_trials + REPEATS) * self.search.base.train.n_epochs
        if self.shows_epochs and due(self.epochs, total):
            accuracy, epochs = history[-1]["val_accuracy"], f"{len(history)}/{job.config.train.n_epochs}"
            note(f"{job.name}: epoch {epochs}, validation accuracy {accuracy:.2%}")

    def ended(self, slot: str, job: Job, end: JobEnd) -> None:
        """Record the end of a job, and print it.

        Raises:
            RunError: trials fail in a row.
        """
        seed = job.config.train.seed
        if seed != self.search.base.train.seed and self.best is not None:
            score = None if end.error else repeat_score(self.search, self.best, seed)
            self.repeats[seed] = score
            say(f"{job.name}: {end.error or 'no score' if score is None else f'validation accuracy {score:.2%}'}")
        elif end.error:
            self._fail(self.oracle.ongoing_trials[slot], end.error)
        else:
            self._score(self.oracle.ongoing_trials[slot], end.reason)

    def require_successes(self) -> None:
        """Raise RunError where the last trials have failed, all of them."""
        last = [self.oracle.trials[trial_id] for trial_id in self.oracle.end_order[-FAILURES:]]
        if len(last) == FAILURES and all(trial.status == "FAILED" for trial in last):
            raise RunError(
                f"the search cannot continue: the last {FAILURES} trials failed, trial {last[-1].trial_id} because "
                f"{last[-1].message} (change the search space, and give a new --dir)"
            )

    def left(self) -> bool:
        """Return whether there may be something to do."""
        all_ended = all(trial.status in OVER for trial in self.oracle.trials.values())
        if not all_ended or len(self.oracle.trials) < self.max_trials:
            return True
        return self.best is not None and bool(self._seeds_left(self.best))

    def finish(self) -> None:
        """Write best.json, trials.json, the report and the picture of a search that has ended.

        Raises:
            RunError: no trial has a score.
        """
        search, best = self.search, self.best
        if best is None:
            raise RunError(f"no trial of {search.path} has ended with a score")
        rows = sorted(self.rows.values(), key=lambda row: int(row["trial"]))
        config = on_all_images(apply_values(search.space, best["values"], search.base))
        write_atomically(search.path / "best.json", json_bytes(cfg.config_to_dict(config)))
        write_atomically(search.path / "trials.json", json_bytes(rows))
        draw_search(search, rows, search.path / "search.png")
        repeats = [score for seed in repeat_seeds(search) if (score := self.repeats.get(seed)) is not None]
        failed = {key: str(trial.message) for key, trial in self.oracle.trials.items() if trial.status == "FAILED"}
        text = search_report(search, rows, best, repeats, dict(sorted(failed.items(), key=lambda item: int(item[0]))))
        write_atomically(search.path / "report.md", text.encode())
        say(text)
        say(f"train it: {train_command()} --config {shlex.quote(str(search.path / 'best.json'))}")

    def _job(self, name: str, path: Path, config: Config) -> Job:
        try:
            self.search.require_own()  # reads the files of layers anew: one may have changed
        except InputError as error:
            raise RunError(f"the search cannot continue: {error}") from None
        return Job(
            path=path,
            name=name,
            config=config,
            preset=self.search.preset,
            command=self.command,
            resume_command=self.command,
            group=f"search-{self.search.path.resolve().name}",
            code=module_code(config),
            stop_rule=functools.partial(stop_at_chance, config.train.n_epochs) if self.search.stops else None,
        )

    def _take_repeat(self, best: dict[str, Any]) -> Job | None:
        """Return the next repeat of the best trial; None where none is left."""
        if not (seeds := self._seeds_left(best)):
            return None
        if not self.announced:
            listed = ", ".join(map(str, seeds))
            note(f"the trials have ended; the best, trial {best['trial']}, is repeated with seeds {listed}")
            self.announced = True
        seed = seeds[0]
        self.repeats[seed] = None
        config = repeat_config(self.search, best, seed)
        name = f"repeat of trial {best['trial']} with seed {seed}"
        return self._job(name, repeat_path(self.search, best, config), config)

    def _seeds_left(self, best: dict[str, Any]) -> list[int]:
        """Return the seeds of the repeats that are to be trained; those that have ended before are read."""
        for seed in repeat_seeds(self.search):
            if seed not in self.repeats and (score := repeat_score(self.search, best, seed)) is not None:
                self.repeats[seed] = score
        return [seed for seed in repeat_seeds(self.search) if seed not in self.repeats]

    def _fail(self, trial: Trial, reason: str) -> None:
        """Record that a trial has failed."""
        trial.status, trial.message = "FAILED", reason
        self.oracle.end_trial(trial)
        self.require_successes()

    def _score(self, trial: Trial, reason: str | None) -> None:
        """Record the score of a trial; print it, the best so far, and the time left at the pace since the start."""
        try:
            row = read_row(self.search, trial.trial_id, dict(trial.hyperparameters.values))
        except InputError as error:
            raise RunError(f"{error} (the same command resumes it)") from None
        self.rows[trial.trial_id] = row
        log_hparams(self.search, row)  # before the oracle's note, after which the trial is not looked at again
        self.oracle.update_trial(trial.trial_id, {OBJECTIVE: row["score"]})
        trial.status, trial.message = "COMPLETED", None
        self.oracle.end_trial(trial)
        former, self.best = self.best, best_of([*([self.best] if self.best else []), row])
        ended = len(self.oracle.end_order)
        if self.best is former and not due(ended, self.max_trials):
            return
        pace = (time.monotonic() - self.started) / (len(self.rows) - self.before)
        say(
            f"trial {trial.trial_id}: validation accuracy {row['score']:.2%}, {row['status']}"
            f"{f' ({reason})' if reason else ''}; best so far {self.best['score']:.2%} (trial {self.best['trial']}); "
            f"{ended} of at most {self.max_trials} trials, {max(0, self.max_trials - ended) * pace / 60:.0f} min left"
        )
