"""The run directory: the files of one run, written so that a kill at any moment leaves them whole."""

from __future__ import annotations

import gzip
import json
import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock
import msgspec
import numpy as np

from .. import config as cfg
from ..config import LAYER_FILE, Config, LayerFile
from ..data import read_pixel_order
from ..system import (
    InputError,
    folder_atomically,
    json_bytes,
    read_json_object,
    reading,
    write_atomically,
    write_problem,
)

PREDICTIONS_FILE, PACKED_STEPS_FILE = "predictions.csv", "steps.csv.gz"
STEPS_HEAD = b"step,loss,gradient_norm"  # records of version 0.1.0 have no gradient_norm


@dataclass(frozen=True)
class RunDirectory:
    """A run directory with its configuration and environment; InputError is raised where a file cannot be read."""

    path: Path

    @staticmethod
    def refuse_existing(path: Path) -> None:
        """Raise InputError where a new run directory cannot be made at ``path``."""
        if path.exists() or path.is_symlink():
            raise InputError(f"run directory {path} exists already (give a new one, or --resume to resume its run)")
        if problem := write_problem(path):
            raise InputError(f"run directory {path} cannot be made: {problem}")

    @classmethod
    def create(
        cls, path: Path, config: Config, environment: dict[str, Any], order: np.ndarray, layer: LayerFile | None = None
    ) -> RunDirectory:
        """Make a run directory, which appears whole: with configuration, environment, pixel order and layer."""
        cls.refuse_existing(path)
        with folder_atomically(path) as new:
            (new / "checkpoints").mkdir()
            (new / "config.json").write_bytes(json_bytes(cfg.config_to_dict(config)))
            (new / "environment.json").write_bytes(json_bytes(environment))
            (new / "pixel_order.txt").write_text("".join(f"{pixel}\n" for pixel in order))
            if layer:
                (new / LAYER_FILE).write_bytes(layer.content)
        return cls(path)

    @cached_property
    def config(self) -> Config:
        """The run's whole configuration, which never changes: it is read once."""
        return cfg.read_config(self.path / "config.json")

    @property
    def environment(self) -> dict[str, Any]:
        """The content of ``environment.json``."""
        return read_json_object(self.path / "environment.json")

    @property
    def config_id(self) -> str:
        """The id of the run's experiment. Where its pixel order is from a file, the recorded hash of that counts."""
        return cfg.config_id(self.config, self.layer_file, order_sha256=self.environment.get("permutation_sha256"))

    @property
    def layer_file(self) -> LayerFile | None:
        """The run's own copy of the file of ``model.layer``; None without one."""
        path = self.path / LAYER_FILE
        with reading(path):
            return LayerFile(path, path.read_bytes()) if path.is_file() else None

    def require_code_allowed(self, allow_code: bool) -> None:
        """Raise InputError where the layer is custom and ``allow_code`` is false, or its ``layer.py`` is missing.

        Without ``layer.py``, the file at the path of an untrusted configuration would be run.
        """
        if cfg.layer_file(self.config) and not self.layer_file:
            raise InputError(f"{self.path} has no {LAYER_FILE}, and its layer is from a file (restore it)")
        if not allow_code and not cfg.has_stock_layer(self.config):
            raise InputError(
                f"{self.path} has a custom layer ({self.config.model.layer}): reading its model would run that "
                "code (read the code, then give --allow-code)"
            )

    @property
    def summary(self) -> dict[str, Any] | None:
        """The content of ``summary.json``; None while the run is trained, and after it was killed."""
        return read_json_object(self.path / "summary.json") if (self.path / "summary.json").exists() else None

    @property
    def resume_file(self) -> Path:
        """Weights and optimizer state after the last whole epoch."""
        return self.path / "checkpoints" / "resume.keras"

    def epoch_file(self, epoch: int) -> Path:
        """The file of the model after an epoch; 1 is the first."""
        return self.path / "checkpoints" / f"epoch-{epoch:04d}.keras"

    def pixel_order(self) -> np.ndarray:
        """Return the order in which the run reads the pixels, int64 (784,)."""
        return read_pixel_order(self.path / "pixel_order.txt")

    def history(self) -> list[dict[str, Any]]:
        """Return the rows of ``history.jsonl``, without a last row that a kill cut off.

        Raises:
            InputError: a row is not a JSON object.
        """
        path = self.path / "history.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        with reading(path):
            return [dict(msgspec.json.decode(line)) for line in lines if line.endswith(b"\n")]

    def steps(self) -> list[tuple[int, float, float]]:
        """Return step, loss and gradient norm (0 in old files) of each batch, from :meth:`steps_csv`.

        A last row that a kill cut off is left out.
        """
        rows = [line.split(b",") for line in self.steps_csv().splitlines(keepends=True)[1:] if line.endswith(b"\n")]
        with reading(self._steps_file):
            return [(int(step), float(loss), float(norm[0]) if norm else 0.0) for step, loss, *norm in rows]

    def step_losses(self) -> list[float]:
        """Return the loss of each batch, as :meth:`steps`; an empty list where there is no such file."""
        return [loss for _, loss, _ in self.steps()] if self._steps_file.exists() else []

    def skipped_steps(self) -> list[int]:
        """Return the steps that ``optimizer.nonfinite skip`` skipped; the first of a run is 1."""
        config = self.config
        if config.optimizer.nonfinite != "skip":
            return []
        return [step for step, _, norm in self.steps() if is_skipped(config, norm)]

    def steps_csv(self) -> bytes:
        """Return the content of ``steps.csv``, or of the ``steps.csv.gz`` that a published record has in its place."""
        path = self._steps_file
        with reading(path):
            return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()

    @property
    def _steps_file(self) -> Path:
        packed = self.path / PACKED_STEPS_FILE
        return packed if packed.exists() else self.path / "steps.csv"

    def begin_logs_at(self, epochs: int, steps: int) -> None:
        """Cut the logs back to the checkpoint, of so many epochs and steps; in a new run, begin ``steps.csv``."""
        for name, rows, empty in (("history.jsonl", epochs, b""), ("steps.csv", 1 + steps, STEPS_HEAD + b"\n")):
            path = self.path / name
            lines = path.read_bytes().splitlines(keepends=True)[:rows] if path.exists() else []
            write_atomically(path, b"".join(lines) or empty)
        (self.path / "summary.json").unlink(missing_ok=True)

    def append_history(self, row: dict[str, Any]) -> None:
        """Add one epoch to ``history.jsonl``."""
        with open(self.path / "history.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def write_json(self, name: str, document: dict[str, Any]) -> None:
        """Write a JSON document of the run directory."""
        write_atomically(self.path / name, json_bytes(document))

    @property
    def status(self) -> str:
        """The status in ``summary.json``; without that file, ``not finished``."""
        return str((self.summary or {}).get("status", "not finished"))

    def require_model(self) -> Path:
        """Return the path of ``model.keras``, or raise InputError where the run has none."""
        path = self.path / "model.keras"
        if not path.is_file():
            raise InputError(f"{self.path} has no model.keras: the run is {self.status}")
        return path

    def lock(self, timeout: float = 0.0) -> filelock.AcquireReturnProxy:
        """Lock the run as :func:`lock_folder`."""
        return lock_folder(self.path, f"run directory {self.path}", timeout)


def lock_folder(path: Path, name: str, timeout: float = 0.0) -> filelock.AcquireReturnProxy:
    """Make a folder if it is missing, and lock it for this process until the context or the process ends.

    ``name`` is its name in messages. ``timeout`` is in seconds; -1 waits for ever. InputError is raised where another
    process has locked it, or it cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(path / ".lock").acquire(timeout=timeout)
    except filelock.Timeout:
        raise InputError(f"{name} is in use by another process (wait for it to end)") from None
    except OSError as error:
        raise InputError(f"{name} cannot be written: {error.strerror}") from None


def is_skipped(config: Config, gradient_norm: float) -> bool:
    """Return whether a step was skipped: ``steps.csv`` then has NaN as the norm of its gradients."""
    return config.optimizer.nonfinite == "skip" and math.isnan(gradient_norm)


def load_run(path: str | os.PathLike[str]) -> RunDirectory:
    """Return the run at ``path``: a run directory, or a published record. InputError is raised where there is none.

    Example::

        run = load_run("results/strong/seed0")
        print(run.config.optimizer.lr, run.summary["final"]["test_accuracy"], len(run.history()))
    """
    path = Path(path)
    if not (path / "config.json").exists():
        raise InputError(f"no run at {path} (give a run directory of seqmnist_tf.train: it holds config.json)")
    return RunDirectory(path)
