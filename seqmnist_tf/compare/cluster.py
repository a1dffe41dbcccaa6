"""Training of the runs of a comparison on Ray, which no other module imports: several at a time, or on a cluster.

Each run is a Ray task in a process of its own. A task whose node or process dies is started again, on another node
where there is one, and resumes the run directory: at most one epoch is lost.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..config import with_values
from ..system import InputError, RunError, available_cores, first_line, note
from .engine import train_planned
from .folder import ARMS_FILE, ComparisonFolder
from .plan import PlannedRun
from .progress import ComparisonProgress

POLL_SECONDS = 1.0
SMALL_CLUSTER_SECONDS = 60.0  # between notes that no node is large enough
RETRIES = 20  # of a task whose process or node died
SHARED_SECONDS = 90.0  # a shared folder may show what another node has written later
LOCK_SECONDS = 120.0  # a process that died holds its run's lock for a moment longer


def run_on_cluster(
    planned: Sequence[PlannedRun],
    missing: Sequence[PlannedRun],
    folder: ComparisonFolder,
    *,
    workers: int | None,
    address: str | None,
    threads: int,
) -> None:
    """Train runs on Ray and return when all have ended.

    Args:
        planned: all runs that the comparison trains.
        missing: those that have not ended.
        folder: the comparison's folder, which all nodes share.
        workers: number of runs at a time on this machine; None for a cluster.
        address: ``HOST:PORT`` of the cluster; None for this machine.
        threads: ``train.threads``; 0 divides the cores: between the workers of this machine, or one run for each node.

    Raises:
        InputError: the cluster does not answer, or a node lacks the folder.
        RunError: a run failed; those that are running are ended, and resume with the next call.
    """
    with _connected(workers, address, folder):
        _require_shared(folder)
        cores = _cores_of_a_run(workers, threads)
        at_a_time = workers or max(1, sum(_cores(node) // cores for node in _nodes()))
        progress = ComparisonProgress(planned, at_a_time)
        progress.announce(missing)
        task = ray.remote(num_cpus=1 if workers else cores, max_retries=RETRIES, max_calls=1)(train_on_node)
        marker = (folder.path / ARMS_FILE).read_bytes()
        pending, interrupted, remind = {}, collections.Counter[Path](), time.monotonic()
        for run in missing:
            run = _on_shared_paths(run, cores)
            pending[task.remote(run, marker)] = run
        try:
            while pending:
                if not workers and time.monotonic() > remind and max(map(_cores, _nodes()), default=0) < cores:
                    note(f"no node of the cluster has {cores} cores: runs wait until one joins")
                    remind = time.monotonic() + SMALL_CLUSTER_SECONDS
                done, _ = ray.wait(list(pending), num_returns=len(pending), timeout=POLL_SECONDS)
                progress.poll(missing)
                for reference in done:
                    run = pending.pop(reference)
                    status = _require_ended(reference, run)
                    if status == "interrupted" and interrupted[run.path] < RETRIES:
                        interrupted[run.path] += 1  # somebody ended its process, which Ray does not start again then
                        note(f"{run.arm} seed {run.seed} is started again")
                        pending[task.remote(run, marker)] = run
        finally:
            for reference in pending:
                with contextlib.suppress(Exception):
                    ray.cancel(reference, force=True)


def train_on_node(run: PlannedRun, marker: bytes) -> str:
    """Train or resume a run in a worker of Ray and return its status, or ``error: `` and the reason.

    Args:
        run: the run.
        marker: the content of the file that the comparison's folder has on every node.
    """
    if problem := folder_problem(run.path.parent.parent, marker):
        return f"error: {problem}"
    try:
        if (run.path / "config.json").is_file():
            filelock.FileLock(run.path / ".lock").acquire(timeout=LOCK_SECONDS).lock.release()
        return train_planned(run)
    except KeyboardInterrupt:  # after the last batch
        return run.status or "interrupted"
    except (InputError, RunError, OSError) as error:
        return f"error: {' '.join(str(error).split())}"


def folder_problem(folder: Path, marker: bytes) -> str | None:
    """Return a sentence where this node does not see the comparison's folder, else None."""
    try:
        if (folder / ARMS_FILE).read_bytes() == marker:
            return None
    except OSError:
        pass
    return f"node {os.uname().nodename} does not have {folder} (give a --dir on a folder that all nodes share)"


@contextlib.contextmanager
def _connected(workers: int | None, address: str | None, folder: ComparisonFolder) -> Iterator[None]:
    """Start Ray on this machine or connect to a cluster. What Ray says goes to a log, not to the terminal."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "include_dashboard": False}
    if address is not None:
        del quiet["include_dashboard"]  # the cluster decided it
    path = folder.log_path("ray")
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8", errors="backslashreplace") as log:
        on_terminate = signal.getsignal(signal.SIGTERM)
        try:
            with contextlib.redirect_stderr(log):
                if address is None:
                    ray.init(address="local", num_cpus=workers, **quiet)  # also where another Ray runs here
                else:
                    ray.init(address=address, **quiet)
        except Exception as error:
            where = f"the Ray cluster at {address}" if address else "Ray"
            raise RunError(f"cannot use {where}: {first_line(error)}") from None
        finally:
            # Ray has set its own, which ends the process with another status; only the main thread has any.
            if on_terminate is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_terminate)
        try:
            with contextlib.redirect_stdout(log):  # Ray prints there, from a thread, which tasks it starts again
                yield
        finally:
            ray.shutdown()


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _cores_of_a_run(workers: int | None, threads: int) -> int:
    """Return the cores of each run: those asked for, else this machine's divided, else those of the smallest node."""
    if threads:
        return threads
    if workers:
        return max(1, available_cores() // workers)
    cores = [count for node in _nodes() if (count := _cores(node))]
    if not cores:
        raise InputError("no node of the cluster has a core yet (give --train.threads, the cores of a run)")
    return min(cores)


def _cores(node: dict[str, Any]) -> int:
    return int(node["Resources"].get("CPU", 0))


def _on_shared_paths(run: PlannedRun, cores: int) -> PlannedRun:
    """Return a run with absolute paths, which mean the same on every node, and with its threads."""
    config = run.config
    values: dict[str, Any] = {"train.threads": cores}
    if config.data.dir is not None:
        values["data.dir"] = str(Path(config.data.dir).absolute())
    if (order := config.task.permutation).startswith("file:"):
        values["task.permutation"] = f"file:{Path(order.removeprefix('file:')).absolute()}"
    config = with_values(config, values)
    layer = run.layer.absolute() if run.layer else None
    return replace(run, path=run.path.absolute(), log=run.log.absolute(), layer=layer, config=config)


def _require_shared(folder: ComparisonFolder) -> None:
    """Raise InputError where a node does not see the comparison's folder, or has no seqmnist_tf."""
    marker = (folder.path / ARMS_FILE).read_bytes()
    check = ray.remote(num_cpus=0)(folder_problem)
    references = [
        check.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            folder.path.absolute(), marker
        )
        for node in _nodes()
    ]
    for reference in references:
        try:
            problem = ray.get(reference)
        except Exception as error:
            raise RunError(f"a node of the cluster cannot run seqmnist_tf: {_cause(error)}") from None
        if problem:
            raise InputError(problem)


def _require_ended(reference: ray.ObjectRef, run: PlannedRun) -> str:
    """Return a run's status, and say it where it is not completed. Raise RunError where its task failed."""
    try:
        status = str(ray.get(reference))
    except Exception as error:
        raise RunError(f"{run.path} failed: {_cause(error)} (see {run.log}; the same command resumes it)") from None
    if status.startswith("error: "):
        raise RunError(f"{run.path} failed: {status.removeprefix('error: ')}")
    if status != "completed":
        note(f"{run.arm} seed {run.seed}: {status}")
    give_up = time.monotonic() + SHARED_SECONDS
    while run.status != status and time.monotonic() < give_up:
        time.sleep(POLL_SECONDS)
    return status


def _cause(error: Exception) -> str:
    """Return the last line of what a task raised; Ray's messages begin with a traceback."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
