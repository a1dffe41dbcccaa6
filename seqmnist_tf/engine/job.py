"""A job, and how it ended: plain values that can be sent to another process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config, LayerFile

TRAINER = "seqmnist_tf.engine:train_job"  # MODULE:NAME of the function that trains a job in a worker of Ray


@dataclass(frozen=True)
class Job:
    """A run that is to be trained, or resumed.

    Attributes:
        path: its run directory.
        name: how lines name it, such as ``MinLSTM seed 3`` or ``trial 12``.
        config: its whole configuration.
        preset: the preset that its command starts from, for its record.
        command, resume_command: the command that trains it, and the one that resumes it, for its record.
        layer: the file of its layer; None reads what the configuration names.
        log: the file of what it prints; None is the terminal. In this process, its bar is on the terminal.
        group: its group in W&B.
        stop_rule: as for ``train``; a function of a module, or a ``functools.partial`` of one.
    """

    path: Path
    name: str
    config: Config
    preset: str | None = None
    command: str = ""
    resume_command: str = ""
    layer: LayerFile | None = None
    log: Path | None = None
    group: str | None = None
    stop_rule: Callable[[list[dict[str, Any]]], str | None] | None = None


@dataclass(frozen=True)
class JobEnd:
    """How a job ended.

    Attributes:
        status: completed, stopped, diverged, interrupted or failed.
        error: the reason of a failure.
        own: whether a failure is the job's own, of its layer or its values; otherwise it is the machine's.
        reason: why a run was stopped.
        trace: the traceback of a failure.
    """

    status: str
    error: str | None = None
    own: bool = True
    reason: str | None = None
    trace: str = ""
