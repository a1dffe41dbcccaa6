"""Jobs on Ray, which no other module imports: several at a time on this machine, or on a cluster.

Each job is a task in its own process. Ray starts a task again whose process or node has died, and the run resumes.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import platform
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError, WorkerCrashedError

from ..config import with_values
from ..system import InputError, RunError, first_line
from . import job as jobs
from .job import Job, JobEnd, answers, threads_here

POLL_SECONDS = 1.0
RETRIES = 10  # of a task whose process or node has died
OBJECT_STORE_BYTES = 100_000_000  # of Ray on this machine; jobs are a few kilobytes


class RayPlace:
    """Trains jobs as tasks of the Ray that this process is connected to; arguments as ``run_jobs``.

    Where a node has GPUs, each job has one of them, which Ray makes the only one that its process sees.
    """

    def __init__(self, folder: Path, workers: int | None, threads: int) -> None:
        self.folder, nodes = folder.absolute(), list(_nodes().values())
        self.gpus = 1 if any(gpus for _, gpus in nodes) else 0  # of a job
        shares = [cores // max(1, gpus) for cores, gpus in nodes if gpus >= self.gpus]
        self.cores = threads_here(workers, threads) or min(filter(None, shares), default=1)  # of a job
        most = max(cores for cores, _ in nodes)
        if not workers and self.cores > most:
            raise InputError(f"train.threads: no node of the cluster has {self.cores} cores (got at most {most})")
        self.cpus = 1 if workers else self.cores  # of Ray's; this machine's Ray was told that it has ``workers``
        # max_calls: a process for each job
        options: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_calls": 1, "max_retries": RETRIES}
        self.task = ray.remote(**options)(train_on_node)
        self.slot_of: dict[ray.ObjectRef, str] = {}

    def slots(self) -> int:
        """Return how many jobs the nodes can train at a time, at least one."""
        jobs = [min(cores // self.cpus, gpus) if self.gpus else cores // self.cpus for cores, gpus in _nodes().values()]
        return max(1, sum(jobs))

    def start(self, slot: str, job: Job) -> None:
        job = on_shared_paths(job, self.folder, self.cores)
        paths = [os.path.abspath(path) for path in sys.path]  # a layer's module is where the command finds it
        self.slot_of[self.task.remote(jobs.TRAINER, paths, job, self.folder)] = slot

    def wait(self) -> list[tuple[str, JobEnd]]:
        """Wait a moment; return the slots whose jobs have ended. Raise RunError where Ray has died."""
        done, _ = ray.wait(list(self.slot_of), timeout=POLL_SECONDS)
        _require_alive()  # first: what has died with Ray is no failure of a job
        return [(self.slot_of.pop(task), _end_of(task)) for task in done]


def train_on_node(trainer: str, paths: list[str], job: Job, folder: Path) -> JobEnd:
    """Train a job in this worker of Ray, which has no other task before or after it."""
    if not folder.is_dir():
        error = f"node {platform.node()} has no {folder} (give a --dir that all nodes share)"
        return JobEnd("failed", error, own=False)
    if job.log:
        job.log.parent.mkdir(exist_ok=True)
        with job.log.open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
    sys.path[:0] = [path for path in paths if path not in sys.path]
    module, _, name = trainer.partition(":")
    train = getattr(importlib.import_module(module), name)
    with contextlib.suppress(KeyboardInterrupt):
        end: JobEnd = train(job)
        if end.status != "interrupted":
            return end
    os._exit(1)  # Ray starts it again


def _end_of(task: ray.ObjectRef) -> JobEnd:
    """Return what a task of :func:`train_on_node` returned; RunError where Ray failed."""
    try:
        end: JobEnd = ray.get(task)
    except (WorkerCrashedError, OutOfMemoryError):
        return JobEnd("failed", f"its process died {RETRIES + 1} times")
    except RayError as error:
        raise _failed(str(error).strip().splitlines()[-1]) from None  # before it may be a traceback
    return end


def _require_alive() -> None:
    """Raise RunError where Ray, or its part on this node, has died: tasks would wait for ever."""
    here = ray.get_runtime_context()
    if not answers(here.gcs_address):  # asked first, since Ray itself waits for a minute and then ends this process
        raise _failed("its control store is gone")
    if here.get_node_id() not in _nodes():
        raise _failed("its part on this node is gone")


def _failed(reason: str) -> RunError:
    return RunError(f"Ray failed: {reason} (the same command resumes)")


def on_shared_paths(job: Job, folder: Path, cores: int) -> Job:
    """Return a job with absolute paths, which mean the same on every node, with its threads and its log."""
    config = job.config
    values: dict[str, Any] = {"train.threads": cores}
    if config.data.dir is not None:
        values["data.dir"] = str(Path(os.path.expanduser(config.data.dir)).absolute())
    if (order := config.task.permutation).startswith("file:"):
        values["task.permutation"] = f"file:{Path(order.removeprefix('file:')).absolute()}"
    path = job.path.absolute()
    log = job.log or folder / "logs" / f"{'-'.join(path.relative_to(folder).parts)}.log"
    return replace(job, path=path, log=log.absolute(), config=with_values(config, values))


@contextlib.contextmanager
def connected(workers: int | None, address: str | None, path: Path) -> Iterator[None]:
    """Start Ray on this machine or connect to a cluster. What Ray says goes to a log, not to the terminal."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:  # of a cluster, others have decided it
        settings |= {"num_cpus": workers, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8", errors="backslashreplace") as log:
        on_terminate = signal.getsignal(signal.SIGTERM)
        try:
            with contextlib.redirect_stderr(log):  # where Ray's logger writes from now on
                ray.init(address=address or "local", **settings)  # local: also where another Ray runs here
        except Exception as error:
            raise RunError(f"cannot use the Ray of {address or 'this machine'}: {first_line(error)}") from None
        signal.signal(signal.SIGTERM, on_terminate)  # Ray has set its own, which ends the process with another status
        try:
            yield
        finally:
            ray.shutdown()


def _nodes() -> dict[str, tuple[int, int]]:
    """Return the cores and the GPUs of each node that is alive, by its id."""
    alive = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    return {name: (int(has.get("CPU", 0)), int(has.get("GPU", 0))) for name, has in alive.items()}
