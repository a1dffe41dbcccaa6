"""The options ``--workers`` and ``--address`` of the commands that train many runs. Nothing heavy is imported."""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys

from ..system import InputError, available_cores, host_answers

MAX_WORKERS = 1000
HEALTH_CHECK = "from ray.scripts.scripts import main; print(flush=True); main()"
ANSWER_SECONDS = 10.0  # a cluster that does not answer within them is reported
INSTALL_RAY = "python -m pip install 'seqmnist_tf[cluster]'"
MOST_LINES = 500  # of a command's progress, so that a terminal stays readable


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--workers`` and ``--address`` to the parser of a command that has ``--dir``."""
    parser.add_argument("--workers", type=int, metavar="N", help="train N runs at a time on this machine (needs Ray)")
    parser.add_argument("--address", metavar="HOST:PORT", help="train on a Ray cluster whose nodes share --dir")


def require_engine_options(workers: int | None, address: str | None) -> None:
    """Raise InputError where ``--workers`` or ``--address`` is not allowed, or Ray is not installed."""
    if workers is not None and address is not None:
        raise InputError(f"--workers and --address exclude each other: give one of them (got {workers} and {address})")
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        raise InputError(f"--workers must be 1 to {MAX_WORKERS:,} (got {workers})")
    if address is not None and not re.fullmatch(r"[^:\s/]+:[0-9]{1,5}", address):
        raise InputError(f"--address must be HOST:PORT (got {address!r})")
    if (workers is not None or address is not None) and importlib.util.find_spec("ray") is None:
        flag = "--workers" if workers is not None else "--address"
        raise InputError(f"{flag} needs Ray, which is not installed ({INSTALL_RAY})")


def threads_here(workers: int | None, threads: int) -> int:
    """Return the threads of a run: those asked for, else this machine's cores divided among ``workers``, else 0."""
    return threads or (max(1, available_cores() // workers) if workers else 0)


def require_answer(address: str) -> None:
    """Raise InputError where no Ray cluster answers at an address within ten seconds."""
    problem = f"no Ray cluster answers at {address} within {ANSWER_SECONDS:.0f} s (start one: ray start --head)"
    if not host_answers(f"ray://{address}"):
        raise InputError(problem)
    # In a process of its own, since a connection to something else than Ray has no time limit.
    command = [sys.executable, "-c", HEALTH_CHECK, "health-check", "--address", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        if process.stdout:
            process.stdout.readline()  # Ray is imported, which can take longer than its answer
        try:
            answers = process.wait(ANSWER_SECONDS) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            answers = False
    if not answers:
        raise InputError(problem)


def due(done: int, total: int, new: int = 1) -> bool:
    """Return whether progress prints a line for the last ``new`` of ``done`` events: for each, or at most 500 in all.

    Example:
        >>> [sum(due(done, total) for done in range(1, total + 1)) for total in (40, 500, 100_000)]
        [40, 500, 500]
    """
    lines = min(total, MOST_LINES)
    return done * lines // total > (done - new) * lines // total
