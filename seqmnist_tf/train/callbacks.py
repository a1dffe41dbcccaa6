"""The Keras callbacks of a run: what it records, how it ends; and how its last checkpoint is loaded."""

from __future__ import annotations

import contextlib
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import keras

from ..config import Config
from ..data import Split, Splits
from ..model import learning_rate, swap_averages
from ..system import InputError, reading, replace_atomically
from .metrics import Metrics, evaluate_model, weight_problem
from .run_directory import RunDirectory, is_skipped
from .summary import log_problems
from .terminal import Interruption, ProgressBar

StopRule = Callable[[list[dict[str, Any]]], str | None]
"""Takes the history after each epoch; a reason that it returns stops the run."""


class DivergedError(Exception):
    """A loss or a weight is no longer a finite number."""


class BatchLog(keras.callbacks.Callback):
    """Writes each batch's own loss, and the norm over all its gradients before clipping, to ``steps.csv``.

    ``losses`` and ``correct`` hold the batch losses and the correctly classified images of this epoch so far.
    """

    def __init__(self, run: RunDirectory, config: Config) -> None:
        super().__init__()
        self.config = config
        self.losses: list[float] = []
        self.correct = self.epoch = 0
        self.file = (run.path / "steps.csv").open("a", encoding="ascii", buffering=1)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch, self.losses, self.correct = epoch + 1, [], 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        loss = float(logs["loss"])
        step = (self.epoch - 1) * self.config.steps_per_epoch + batch + 1
        norm = float(logs["gradient_norm"])
        self.file.write(f"{step},{loss!r},{norm!r}\n")
        self.losses.append(loss)
        size = min(self.config.train.batch_size, self.config.num_train - batch * self.config.train.batch_size)
        self.correct += round(float(logs["accuracy"]) * size)
        if not math.isfinite(loss) and not is_skipped(self.config, norm):
            raise DivergedError(f"the training loss is {loss} at step {step:,} (epoch {self.epoch})")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.file.flush()  # on the disk before the checkpoint, which cannot be resumed without it
        os.fsync(self.file.fileno())

    def close(self) -> None:
        """Close the file. Its lines were written one by one, so that a failed write has nothing more to lose."""
        with contextlib.suppress(OSError):
            self.file.close()


class Evaluation(keras.callbacks.Callback):
    """Evaluates the model on the test and the validation split after each epoch; ends a run that has diverged.

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
            if not math.isfinite(loss := self.metrics[name].loss):
                raise DivergedError(f"the {name} loss is {loss} after epoch {epoch + 1}")
        if problem := weight_problem(self.model):  # of the last step, whose loss came before it
            raise DivergedError(f"{problem} after epoch {epoch + 1}")


class EpochLog(keras.callbacks.Callback):
    """Appends each epoch's row to ``history.jsonl``, and puts it into the logs of the callbacks after this one."""

    def __init__(self, run: RunDirectory, config: Config, batches: BatchLog, evaluation: Evaluation) -> None:
        super().__init__()
        self.run, self.config, self.batches, self.evaluation = run, config, batches, evaluation

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.started = time.perf_counter()
        self.learning_rate = learning_rate(self.model)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        losses = [loss for loss in self.batches.losses if math.isfinite(loss)]  # skipped steps may have others
        if not losses:
            raise DivergedError(f"no training loss of epoch {epoch + 1} is finite")
        row: dict[str, Any] = {
            "epoch": epoch + 1,
            "train_loss": math.fsum(losses) / len(losses),
            "train_accuracy": self.batches.correct / self.config.num_train,
            "test_loss": None,
            "test_accuracy": None,
        }
        for name, metrics in self.evaluation.metrics.items():
            row |= {f"{name}_loss": metrics.loss, f"{name}_accuracy": metrics.accuracy}
        row["learning_rate"] = self.learning_rate
        row["seconds"] = round(time.perf_counter() - self.started, 3)
        self.run.append_history(row)
        logs.clear()  # one dictionary for all callbacks
        logs.update({key: value for key, value in row.items() if value is not None and key != "epoch"})


class Checkpoint(keras.callbacks.Callback):
    """Saves the model after each epoch, and in a second file the weights and the optimizer state for resuming.

    Both are ``.keras`` files, which Keras makes in memory and writes in Python. HDF5, which writes ``.weights.h5``
    files itself, crashes the process when the disk is full.
    """

    def __init__(self, run: RunDirectory, stock: keras.Sequential) -> None:
        super().__init__()
        self.run, self.stock = run, stock

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        replace_atomically(self.run.epoch_file(epoch + 1), self.stock.save)
        replace_atomically(self.run.resume_file, self.model.save)


class AveragedWeights(keras.callbacks.Callback):
    """Puts the averages of ``optimizer.ema_momentum`` into the model between the end of an epoch and the next one.

    There the two are exchanged: a checkpoint's weights are the averages, and resuming exchanges them back when the next
    epoch begins.
    """

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch:  # before the first one there are no averages
            swap_averages(self.model.optimizer)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        swap_averages(self.model.optimizer)


class EarlyStop(keras.callbacks.Callback):
    """Stops the run where its stop rule returns a reason.

    Attributes:
        reason: why the run was stopped, or None.
    """

    def __init__(self, run: RunDirectory, stop_rule: StopRule | None) -> None:
        super().__init__()
        self.run, self.stop_rule = run, stop_rule
        self.reason: str | None = None

    def ask_rule(self) -> bool:
        """Ask the stop rule about the history so far; return whether it stops the run."""
        self.reason = self.stop_rule(self.run.history()) if self.stop_rule else None
        return self.reason is not None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.ask_rule():
            self.model.stop_training = True


class RunCallbacks:
    """All callbacks of a run, in their order.

    ``stock`` is the model that is saved, on Keras alone. ``trackers`` copy the numbers of each epoch elsewhere.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: Config,
        splits: Splits,
        stock: keras.Sequential,
        stop_rule: StopRule | None,
        trackers: Iterable[keras.callbacks.Callback],
    ) -> None:
        self.interruption = Interruption()
        self.early_stop = EarlyStop(run, stop_rule)
        self._batches = BatchLog(run, config)
        evaluation = Evaluation(config, splits, self.interruption)
        self._bar = ProgressBar(config)
        # Keras calls them in this order, at the end of a batch and at the end of an epoch.
        self.in_order: list[keras.callbacks.Callback] = [
            self._batches,  # first, so that steps.csv has the loss that ends a run
            AveragedWeights(),  # before all that reads the weights
            evaluation,  # before the epoch log and the checkpoint: an epoch that diverged leaves neither
            EpochLog(run, config, self._batches, evaluation),  # before all that read its row in the logs
            *trackers,
            *([keras.callbacks.TensorBoard(str(run.path / "tensorboard"))] if config.tensorboard.enabled else []),
            Checkpoint(run, stock),  # after the log: a checkpoint without its row could not be resumed exactly
            self._bar,
            self.early_stop,  # after the checkpoint: a stopped run can be resumed
            self.interruption,  # last, so that an interrupted batch or epoch has been recorded
        ]

    def close(self) -> None:
        """Close the log file and remove the bar."""
        self._batches.close()
        self._bar.close()


def restore(run: RunDirectory, config: Config, trained: keras.Model) -> int:
    """Load weights and optimizer state of the last checkpoint; return the number of its optimizer steps, or 0.

    ``trained`` is compiled. InputError is raised where the checkpoint is missing, cannot be read, or does not
    match the logs.
    """
    if not run.resume_file.exists():
        if len(run.history()) > 1:  # a kill can come between the first row and the first checkpoint
            raise InputError(f"{run.path} cannot be resumed: {run.resume_file} is missing")
        return 0
    trained.optimizer.build(trained.trainable_variables)
    with reading(run.resume_file), warnings.catch_warnings():
        # Keras warns, and goes on, where the file has no optimizer state that fits.
        warnings.filterwarnings("error", message=".*Skipping variable loading for optimizer.*")
        trained.load_weights(run.resume_file)
    steps = int(trained.optimizer.iterations)
    if problems := log_problems(run, epochs=steps // config.steps_per_epoch):
        raise InputError(f"{run.path} cannot be resumed: {problems[0]}")
    return steps


def require_same_experiment(run: RunDirectory, config: Config) -> None:
    """Raise InputError where a run's configuration has changed since it began."""
    record = run.environment
    for key, value in {"config_id": run.config_id, "seed": config.train.seed}.items():
        if record.get(key, value) != value:
            raise InputError(f"{run.path} cannot be resumed: it began with {key} {record[key]} (now {value})")
