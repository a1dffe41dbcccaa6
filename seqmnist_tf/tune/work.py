"""The loop of a worker over the jobs of a search."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Protocol

from ..model import LayerError
from ..system import InputError, RunError, first_line, note, say
from ..train import LayerFailedError
from .folder import SearchFolder, on_all_images
from .hparams import log_hparams
from .job import Answer, Job, JobLost, Watcher
from .jobs import Jobs
from .progress import WATCH_SECONDS, TrialReporter
from .trials import require_same_module, run_job

ALONE = "tuner0"  # name of the worker in a search without others


class JobSource(Protocol):
    """Where a worker's jobs come from and their results go to."""

    def take(self) -> Answer:
        """Return the next job."""

    def watch(self, job: Job) -> Watcher:
        """Return what follows a job while it runs."""

    def end(self, job: Job, score: float | None, reason: str = "") -> None:
        """Hand in the result of a job; None where it failed."""


class OwnJobs:
    """The jobs of a search in this process alone."""

    def __init__(self, jobs: Jobs, reporter: TrialReporter) -> None:
        self.jobs, self.reporter = jobs, reporter

    def take(self) -> Answer:
        """Return the next job."""
        return self.jobs.take(ALONE)

    def watch(self, job: Job) -> Watcher:
        """Return a watcher that does nothing: the run reports itself."""
        return Watcher()

    def end(self, job: Job, score: float | None, reason: str = "") -> None:
        """Record a result and report it."""
        self.jobs.end(ALONE, job, score, reason)
        self.reporter.report_new()
        if job.seed is not None and score is not None:
            say(f"{job}: validation accuracy {score:.2%}")


def work(search: SearchFolder, source: JobSource, threads: int = 0, command: str = "") -> None:
    """Run the jobs of a search until none is left.

    Args:
        search: the search.
        source: hands out the jobs.
        threads: ``train.threads``; 0 leaves the configuration's.
        command: the command line, for the record.

    Raises:
        RunError: a job cannot be run for a reason that is not its own, such as a full disk.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns that each trial traces a model again
    reported = False
    while (answer := source.take()) != "end":
        if answer == "wait":
            if not reported:
                note("waiting: other workers are at work on the last trials")
            reported = True
            time.sleep(WATCH_SECONDS)
            continue
        reported = False
        try:
            on_all_images(search.config(answer.values))
        except InputError as error:
            note(f"{answer} cannot be trained: {error}")
            source.end(answer, None, str(error))
            continue
        try:
            replace(search).require_own()  # the file of its layer is read anew for each trial
            require_same_module(search, answer)
            score = run_job(search, answer, threads, command, source.watch(answer))
            log_hparams(search, answer, score)
        except (LayerError, LayerFailedError) as error:  # the values do not suit a layer of one's own
            note(f"{answer} failed: {error}")
            source.end(answer, None, str(error))
        except JobLost:
            note(f"{answer} has been given to another worker")
        except (InputError, RunError, OSError) as error:
            raise RunError(f"the search cannot continue: {first_line(error)} (the same command resumes it)") from error
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            note(f"{answer} failed: {reason}")
            source.end(answer, None, reason)
        else:
            source.end(answer, score)
