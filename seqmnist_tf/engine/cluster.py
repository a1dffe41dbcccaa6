"""Jobs on Ray, which no other module imports: several at a time on this machine, or on a cluster.

Each job is a task that watches over a process of its own. A job whose process or node dies is started again by the
loop, on another node where there is one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..config import read_layer, with_values
from ..system import InputError, RunError, first_line, note
from ..train import RunDirectory
from .job import HANG_SECONDS, POLL_SECONDS, Job, JobEnd, Watch, job_bytes, supervise
from .options import threads_here

SMALL_CLUSTER_SECONDS = 60.0  # between notes that no node is large enough
SHARED_SECONDS = 90.0  # a shared folder may show what another node has written later
OBJECT_STORE_BYTES = 100_000_000  # of Ray on this machine; jobs are a few kilobytes


class RayPlace:
    """Trains jobs as tasks of the Ray that this process is connected to; arguments as ``run_jobs``.

    Raises:
        InputError: a node does not see the folder, or no node has a core.
        RunError: a node cannot run this package.
    """

    def __init__(self, folder: Path, marker: str, workers: int | None, threads: int) -> None:
        self.folder, self.marker = folder.absolute(), (marker, (folder / marker).read_bytes())
        require_shared(self.folder, self.marker)
        self.workers, self.cores = workers, cores_of_a_job(workers, threads)
        self.task = ray.remote(num_cpus=1 if workers else self.cores, max_retries=0)(train_on_node)
        self.running: dict[ray.ObjectRef, tuple[str, Job]] = {}
        self.ended: dict[str, tuple[Job, JobEnd, float]] = {}  # by slot, with the time to wait for its files
        self.remind_at = self.look_at = 0.0
        self.known_slots = 0

    def slots(self) -> int:
        """Return how many jobs the nodes can train at a time, at least one; a note says where no node can."""
        if self.workers:
            return self.workers
        if (now := time.monotonic()) >= self.look_at:
            self.look_at = now + POLL_SECONDS
            cores = [_cores(node) for node in _nodes()]
            self.known_slots = max(1, sum(count // self.cores for count in cores))
            if max(cores, default=0) < self.cores and now >= self.remind_at:
                note(f"no node of the cluster has {self.cores} cores: runs wait until one joins")
                self.remind_at = now + SMALL_CLUSTER_SECONDS
        return self.known_slots

    def start(self, slot: str, job: Job) -> None:
        """Send a job to a node."""
        job, log = on_shared_paths(job, self.folder, self.cores)
        config = job.config
        images = config.num_train + config.task.validation_size + (config.num_test if config.test.enabled else 0)
        watch = Watch(HANG_SECONDS, images / config.train.batch_size)
        content = job_bytes(job, self.folder)
        task = self.task.remote(self.folder, self.marker, content, job.path, log, watch)
        self.running[task] = (slot, job)

    def wait(self) -> list[tuple[str, JobEnd]]:
        """Wait a moment; return the slots whose jobs have ended, and whose files this node sees."""
        tasks = list(self.running)
        done = ray.wait(tasks, timeout=POLL_SECONDS)[0] if tasks else []
        if done:
            done = ray.wait(tasks, num_returns=len(tasks), timeout=0)[0]
        elif not tasks:
            time.sleep(POLL_SECONDS)
        for task in done:
            slot, job = self.running.pop(task)
            self.ended[slot] = (job, _end_of(task), time.monotonic() + SHARED_SECONDS)
        seen = [
            (slot, end) for slot, (job, end, until) in self.ended.items() if _sees(job, end) or time.monotonic() > until
        ]
        for slot, _ in seen:
            del self.ended[slot]
        return seen

    def close(self) -> None:
        """End all jobs that run."""
        for task in self.running:
            with contextlib.suppress(Exception):
                ray.cancel(task, force=True)


def train_on_node(
    folder: Path, marker: tuple[str, bytes], content: bytes, path: Path, log: Path, watch: Watch
) -> JobEnd:
    """Train a job on the node of this worker of Ray, by :func:`~.job.supervise`."""
    if problem := folder_problem(folder, marker):
        return JobEnd("failed", problem, own=False)
    return supervise(content, path, log, watch)


def folder_problem(folder: Path, marker: tuple[str, bytes]) -> str | None:
    """Return a sentence where this node does not see the experiment's folder, else None."""
    name, content = marker
    with contextlib.suppress(OSError):
        if (folder / name).read_bytes() == content:
            return None
    return f"node {platform.node()} does not have {folder} (give a --dir on a folder that all nodes share)"


def on_shared_paths(job: Job, folder: Path, cores: int) -> tuple[Job, Path]:
    """Return a job with absolute paths, which mean the same on every node, and with its threads; and its log."""
    config = job.config
    values: dict[str, Any] = {"train.threads": cores}
    if config.data.dir is not None:
        values["data.dir"] = str(Path(os.path.expanduser(config.data.dir)).absolute())
    if (order := config.task.permutation).startswith("file:"):
        values["task.permutation"] = f"file:{Path(order.removeprefix('file:')).absolute()}"
    log = job.log or folder / "logs" / f"{'-'.join(job.path.absolute().relative_to(folder).parts)}.log"
    layer, log = job.layer or read_layer(config), log.absolute()
    return replace(job, path=job.path.absolute(), log=log, layer=layer, config=with_values(config, values)), log


def cores_of_a_job(workers: int | None, threads: int) -> int:
    """Return the cores of each job: those asked for, else this machine's divided, else those of the smallest node."""
    if here := threads_here(workers, threads):
        return here
    cores = [count for node in _nodes() if (count := _cores(node))]
    if not cores:
        raise InputError("no node of the cluster has a core yet (give --train.threads, the cores of a run)")
    return min(cores)


@contextlib.contextmanager
def connected(workers: int | None, address: str | None, path: Path) -> Iterator[None]:
    """Start Ray on this machine or connect to a cluster. What Ray says goes to a log, not to the terminal.

    Raises:
        RunError: Ray cannot be used.
    """
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
            where = f"the Ray cluster at {address}" if address else "Ray"
            raise RunError(f"cannot use {where}: {first_line(error)}") from None
        finally:
            # Ray has set its own, which ends the process with another status; only the main thread has any.
            if on_terminate is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_terminate)
        try:
            yield
        finally:
            ray.shutdown()


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _cores(node: dict[str, Any]) -> int:
    return int(node["Resources"].get("CPU", 0))


def require_shared(folder: Path, marker: tuple[str, bytes]) -> None:
    """Raise InputError where a node does not see the experiment's folder, or RunError where it has no seqmnist_tf."""
    check = ray.remote(num_cpus=0)(folder_problem)
    tasks = [
        check.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            folder, marker
        )
        for node in _nodes()
    ]
    for task in tasks:
        try:
            problem = ray.get(task)
        except Exception as error:
            raise RunError(f"a node of the cluster cannot run seqmnist_tf: {_cause(error)}") from None
        if problem:
            raise InputError(problem)


def _end_of(task: ray.ObjectRef) -> JobEnd:
    """Return what a task of :func:`train_on_node` returned, or why it is gone."""
    try:
        end: JobEnd = ray.get(task)
    except ray.exceptions.OutOfMemoryError:
        return JobEnd("died", "its node ran out of memory, and Ray ended it")
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.LocalRayletDiedError):
        return JobEnd("died", "its node or its worker of Ray died")
    except Exception as error:
        return JobEnd("failed", _cause(error), own=False)
    return end


def _sees(job: Job, end: JobEnd) -> bool:
    """Return whether this node sees the summary of a run that ended on another one."""
    if end.status in ("died", "failed", "interrupted"):
        return True
    try:
        return (RunDirectory(job.path).summary or {}).get("status") == end.status
    except InputError:
        return False


def _cause(error: Exception) -> str:
    """Return the last line of what a task raised; Ray's messages begin with a traceback."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
