"""The loop of a worker over the tasks of a search."""

from __future__ import annotations

import logging
import time
from typing import Protocol

from ..system import InputError, RunError, first_line, note, say
from .folder import SearchFolder
from .hparams import log_hparams
from .progress import POLL_SECONDS, TrialReporter
from .task import Answer, Task, TaskLost, Watcher
from .tasks import Tasks
from .trials import run_task

ALONE = "tuner0"  # name of the worker in a search without others


class TaskSource(Protocol):
    """Where a worker's tasks come from and their results go to."""

    def take(self) -> Answer:
        """Return the next task."""

    def watch(self, task: Task) -> Watcher:
        """Return what follows a task while it runs."""

    def end(self, task: Task, score: float | None, reason: str = "") -> None:
        """Hand in the result of a task; None where it failed."""


class OwnTasks:
    """The tasks of a search in this process alone."""

    def __init__(self, tasks: Tasks, reporter: TrialReporter) -> None:
        self.tasks, self.reporter = tasks, reporter

    def take(self) -> Answer:
        """Return the next task."""
        return self.tasks.take(ALONE)

    def watch(self, task: Task) -> Watcher:
        """Return a watcher that does nothing: the run reports itself."""
        return Watcher()

    def end(self, task: Task, score: float | None, reason: str = "") -> None:
        """Record a result and report it."""
        self.tasks.end(ALONE, task, score, reason)
        self.reporter.report_new()
        if task.seed is not None and score is not None:
            say(f"{task}: validation accuracy {score:.2%}")


def work(search: SearchFolder, source: TaskSource, threads: int = 0, command: str = "") -> None:
    """Run the tasks of a search until none is left.

    Args:
        search: the search.
        source: hands out the tasks.
        threads: ``train.threads``; 0 leaves the configuration's.
        command: the command line, for the record.

    Raises:
        RunError: a task cannot be run for a reason that is not its own, such as a full disk.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns that each trial traces a model again
    told = False
    while (answer := source.take()) != "end":
        if answer == "wait":
            if not told:
                note("waiting: other workers are at work on the last trials")
            told = True
            time.sleep(POLL_SECONDS)
            continue
        told = False
        try:
            score = run_task(search, answer, threads, command, source.watch(answer))
            log_hparams(search, answer, score)
        except TaskLost:
            note(f"{answer} has been given to another worker")
        except (InputError, RunError, OSError) as error:
            raise RunError(f"the search cannot continue: {first_line(error)} (the same command resumes it)") from error
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            note(f"{answer} failed: {reason}")
            source.end(answer, None, reason)
        else:
            source.end(answer, score)
