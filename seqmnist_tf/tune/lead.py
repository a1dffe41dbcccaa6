"""The ways to run a search: in this process, as the chief of workers on this machine or elsewhere, and as a worker."""

from __future__ import annotations

from collections.abc import Sequence

from ..system import RunError, note
from ..train import require_trainable as require_trainable
from .chief import Chief
from .folder import SearchFolder
from .jobs import Jobs
from .processes import LocalWorkers, end_with_parent
from .progress import TrialReporter
from .recovery import load_oracle
from .result import finish_search
from .work import OwnJobs, work
from .worker import ChiefJobs


def search_alone(search: SearchFolder, max_trials: int, threads: int, command: str) -> None:
    """Run a search in this process, to its result.

    Raises:
        RunError: trials fail repeatedly, or for a reason that is not their own.
    """
    jobs = Jobs(search, load_oracle(search, max_trials))
    work(search, OwnJobs(jobs, TrialReporter(search, max_trials)), threads, command)
    if jobs.progress.error:
        raise RunError(f"the search cannot continue: {jobs.progress.error}")
    finish_search(search)


def search_with_workers(
    search: SearchFolder, max_trials: int, patience: float, argv: Sequence[str], workers: int
) -> None:
    """Run a search with workers on this machine, to its result.

    Args:
        search: the search.
        max_trials: maximum number of trials.
        patience: seconds after which a worker that hangs is killed.
        argv: the command line of a worker, without its role.
        workers: their number.

    Raises:
        RunError: trials fail repeatedly, or workers die repeatedly.
    """
    chief = Chief(search, load_oracle(search, max_trials), max_trials, patience, lambda name: name)
    if not chief.jobs.over():
        port = chief.listen("127.0.0.1:0")
        chief.workers = LocalWorkers(argv, f"127.0.0.1:{port}", search.path / "logs")
        note(f"starting {workers} workers, whose output is in {chief.workers.logs}")
        _run_chief(chief, [f"worker{n}" for n in range(workers)])
    finish_search(search)


def search_as_chief(search: SearchFolder, max_trials: int, patience: float, oracle: str, worker_command: str) -> None:
    """Run a search as the chief of workers that people start, to its result.

    Args:
        search: the search.
        max_trials: maximum number of trials.
        patience: seconds after which the job of a missing worker is given to another.
        oracle: ``HOST:PORT`` to listen at.
        worker_command: what a person types to start a worker, without its name.

    Raises:
        RunError: trials fail repeatedly.
    """

    def type_for(name: str) -> str:
        return f"{worker_command} --worker-name {name}"

    loaded = load_oracle(search, max_trials, keep_workers=True)
    chief = Chief(search, loaded, max_trials, patience, type_for)
    if not chief.jobs.over():
        chief.listen(oracle)
        note(f"the chief of {search.path} listens at {oracle}; start each worker with: {type_for('NAME')}")
        _run_chief(chief, [])
    finish_search(search)


def _run_chief(chief: Chief, workers: Sequence[str]) -> None:
    """Run a chief and its own workers to the end."""
    try:
        if chief.workers:
            for name in workers:
                chief.workers.start(name)
        chief.run()
        if chief.workers:
            chief.workers.wait()
    finally:
        if chief.workers:
            chief.workers.stop()
        chief.close()


def search_as_worker(search: SearchFolder, jobs: ChiefJobs, threads: int, command: str) -> None:
    """Run jobs of a search for its chief, until none is left.

    Raises:
        RunError: the chief does not answer any more, or jobs fail for a reason that is not their own.
    """
    end_with_parent()
    work(search, jobs, threads, command)
