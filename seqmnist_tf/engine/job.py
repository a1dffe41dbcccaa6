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
    """A run that is to be trained, or resumed."""

    path: Path  # of the run directory
    name: str  # in lines, such as ``MinLSTM seed 3`` or ``trial 12``
    config: Config
    preset: str | None = None  # that its command starts from; this and the commands are for its record
    command: str = ""
    resume_command: str = ""
    layer: LayerFile | None = None  # None reads what the configuration names
    log: Path | None = None  # of what it prints; None is the terminal, where the bar of this process always is
    group: str | None = None  # in W&B
    stop_rule: Callable[[list[dict[str, Any]]], str | None] | None = None  # can be pickled: of a module, or a partial


@dataclass(frozen=True)
class JobEnd:
    """How a job ended."""

    status: str  # completed, stopped, diverged, interrupted or failed
    error: str | None = None
    own: bool = True  # whether a failure is the job's own, of its layer or its values, or the machine's
    reason: str | None = None  # why a run was stopped
    trace: str = ""  # of a failure
