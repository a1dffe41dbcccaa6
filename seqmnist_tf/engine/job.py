"""A job and how it ended, and the options of commands that train many runs. Nothing heavy is imported."""

from __future__ import annotations

import argparse
import importlib.util
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config, LayerFile
from ..system import InputError, available_cores

TRAINER = "seqmnist_tf.engine:train_job"  # MODULE:NAME of the function that trains a job in a worker of Ray
ANSWER_SECONDS = 10.0  # for a connection to a cluster


@dataclass(frozen=True)
class Job:
    """A run that is to be trained, or resumed."""

    path: Path  # of the run directory
    name: str  # in lines, such as ``MinLSTM seed 3`` or ``trial 12``
    config: Config
    preset: str | None = None  # that its command starts from; this and the commands are for its record
    command: str = ""
    resume_command: str = ""
    layer: LayerFile | None = None  # None reads what the configuration names
    log: Path | None = None  # of what it prints; None is the terminal, where the bar of this process always is
    group: str | None = None  # in W&B, which the runs of an experiment share
    stop_rule: Callable[[list[dict[str, Any]]], str | None] | None = None  # can be pickled: of a module, or a partial


@dataclass(frozen=True)
class JobEnd:
    """How a job ended."""

    status: str  # completed, stopped, diverged, interrupted or failed
    error: str | None = None
    own: bool = True  # whether a failure is the job's own, of its layer or its values, or the machine's
    reason: str | None = None  # why a run was stopped
    trace: str = ""  # of a failure


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--workers`` and ``--address`` to the parser of a command that has ``--dir``."""
    parser.add_argument("--workers", type=int, metavar="N", help="train N runs at a time on this machine (needs Ray)")
    parser.add_argument("--address", metavar="HOST:PORT", help="train on a Ray cluster whose nodes share --dir")


def require_engine_options(workers: int | None, address: str | None) -> None:
    """Raise InputError where ``--workers`` or ``--address`` is not allowed, or Ray is not installed."""
    if workers is not None and (workers < 1 or address is not None):
        raise InputError(f"--workers must be at least 1, and not together with --address (got {workers}, {address})")
    if (workers or address) and importlib.util.find_spec("ray") is None:
        raise InputError("--workers and --address need Ray (python -m pip install 'seqmnist_tf[cluster]')")


def threads_here(workers: int | None, threads: int) -> int:
    """Return the threads of a run: those asked for, else this machine's cores divided among ``workers``, else 0."""
    return threads or (max(1, available_cores() // workers) if workers else 0)


def answers(address: str) -> bool:
    """Return whether something accepts a connection at ``HOST:PORT``."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def require_answer(address: str) -> None:
    """Raise InputError where no Ray cluster answers at an address."""
    if not answers(address):
        raise InputError(f"--address: no Ray cluster answers at {address} (HOST:PORT; start one: ray start --head)")
