"""What a run records: the loss of every batch, and a row for every epoch."""

from __future__ import annotations

import contextlib
import math
import os
import time
from typing import IO, Any

import keras

from ..config import Config
from ..data import Split, Splits
from ..model import learning_rate
from .interruption import Interruption
from .metrics import Metrics, evaluate_model
from .run_directory import RunDirectory


class BatchLog(keras.callbacks.Callback):
    """Writes each batch's own loss to ``steps.csv``.

    Attributes:
        losses: of the batches of this epoch so far.
        correct: number of training images of this epoch so far that were classified correctly.
    """

    def __init__(self, run: RunDirectory, config: Config) -> None:
        super().__init__()
        self.run, self.config = run, config
        self.losses: list[float] = []
        self.correct = self.step = 0
        self.file: IO[str] | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.file = (self.run.path / "steps.csv").open("a", encoding="ascii", buffering=1)
        self.step = int(self.model.optimizer.iterations)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.losses, self.correct = [], 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        loss = float(logs["loss"])
        self.step += 1
        if self.file:
            self.file.write(f"{self.step},{loss!r}\n")
        self.losses.append(loss)
        size = min(self.config.train.batch_size, self.config.num_train - batch * self.config.train.batch_size)
        self.correct += round(float(logs["accuracy"]) * size)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.file:  # on the disk before the checkpoint, which cannot be resumed without it
            self.file.flush()
            os.fsync(self.file.fileno())

    def close(self) -> None:
        """Close the file. Its lines were written one by one, so that a failed write has nothing more to lose."""
        if self.file:
            with contextlib.suppress(OSError):
                self.file.close()


class Evaluation(keras.callbacks.Callback):
    """Evaluates the model on the test and the validation split after each epoch.

    Attributes:
        metrics: of the last epoch, by ``test`` and ``val``.
    """

    def __init__(self, config: Config, splits: Splits, interruption: Interruption) -> None:
        super().__init__()
        self.config, self.interruption = config, interruption
        named: dict[str, Split | None] = {"test": splits.test, "val": splits.validation}
        self.splits = {name: split for name, split in named.items() if split is not None}
        self.metrics: dict[str, Metrics] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        size = self.config.test.batch_size
        for name, split in self.splits.items():
            self.metrics[name] = evaluate_model(self.model, split, size, [self.interruption])


class EpochLog(keras.callbacks.Callback):
    """Appends each epoch's row to ``history.jsonl``.

    Attributes:
        row: of the last epoch, as in the file.
    """

    def __init__(self, run: RunDirectory, config: Config, batches: BatchLog, evaluation: Evaluation) -> None:
        super().__init__()
        self.run, self.config, self.batches, self.evaluation = run, config, batches, evaluation
        self.row: dict[str, Any] = {}

    @property
    def numbers(self) -> dict[str, float]:
        """The measurements of the last epoch's row, as Keras's callbacks expect their logs."""
        return {key: value for key, value in self.row.items() if value is not None and key != "epoch"}

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.started = time.perf_counter()
        self.learning_rate = learning_rate(self.model)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        losses = self.batches.losses
        self.row = {
            "epoch": epoch + 1,
            "train_loss": math.fsum(losses) / len(losses),
            "train_accuracy": self.batches.correct / self.config.num_train,
            "test_loss": None,
            "test_accuracy": None,
        }
        for name, metrics in self.evaluation.metrics.items():
            self.row |= {f"{name}_loss": metrics.loss, f"{name}_accuracy": metrics.accuracy}
        self.row["learning_rate"] = self.learning_rate
        self.row["seconds"] = round(time.perf_counter() - self.started, 3)
        self.run.append_history(self.row)
