"""The Keras callbacks of a run, and their order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import keras

from ..config import Config
from ..data import Splits
from ..model import swap_averages
from ..system import replace_atomically
from .epoch_log import BatchLog, EpochLog, Evaluation
from .interruption import Interruption
from .progress_bar import ProgressBar
from .run_directory import RunDirectory

StopRule = Callable[[list[dict[str, Any]]], str | None]
"""Asked after each epoch with the history so far; returns the reason to stop the run, or None."""


class DivergedError(Exception):
    """The loss is no longer a finite number."""


class Divergence(keras.callbacks.Callback):
    """Raises DivergedError as soon as a loss is not finite."""

    def __init__(self, evaluation: Evaluation) -> None:
        super().__init__()
        self.evaluation = evaluation
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = float((logs or {})["loss"])
        if not math.isfinite(loss):
            step = int(self.model.optimizer.iterations)
            raise DivergedError(f"the training loss is {loss} at step {step:,} (epoch {self.epoch})")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for name, metrics in self.evaluation.metrics.items():
            if not math.isfinite(metrics.loss):
                raise DivergedError(f"the {name} loss is {metrics.loss} after epoch {self.epoch}")


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

    A checkpoint is written there, so that it has the averages as weights, and the weights as averages.
    """

    def __init__(self) -> None:
        super().__init__()
        self.swapped = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.swapped = int(self.model.optimizer.iterations) > 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.swapped:
            swap_averages(self.model.optimizer)
            self.swapped = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        swap_averages(self.model.optimizer)
        self.swapped = True


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras's callback, with the rows of the epoch log, in the run's ``tensorboard/``."""

    def __init__(self, run: RunDirectory, epochs: EpochLog) -> None:
        super().__init__(str(run.path / "tensorboard"))
        self.epochs = epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, self.epochs.numbers)

    def _collect_learning_rate(self, logs: dict[str, Any]) -> dict[str, Any]:
        return logs  # Keras would put the next epoch's in the place of the row's


class EarlyStop(keras.callbacks.Callback):
    """Stops a run after an epoch whose history gives ``rule`` a reason.

    Attributes:
        reason: why the run was stopped, or None.
        error: what ``rule`` raised, or None.
    """

    def __init__(self, run: RunDirectory, rule: StopRule | None) -> None:
        super().__init__()
        self.run, self.rule = run, rule
        self.reason: str | None = None
        self.error: Exception | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        try:
            self.reason = self.rule(self.run.history()) if self.rule else None
        except Exception as error:
            self.error = error
            raise
        if self.reason:
            self.model.stop_training = True


class RunCallbacks:
    """All callbacks of a run, in their order.

    Args:
        run: the run directory.
        config: its configuration.
        splits: its data.
        stock: the model that is saved, on Keras alone.
        rule: stops the run early; None for never.
        trackers: makes the callbacks that copy the rows of the epoch log elsewhere.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: Config,
        splits: Splits,
        stock: keras.Sequential,
        rule: StopRule | None,
        trackers: Callable[[EpochLog], Iterable[keras.callbacks.Callback]],
    ) -> None:
        self.interruption = Interruption()
        self.early_stop = EarlyStop(run, rule)
        self._batches = BatchLog(run, config)
        evaluation = Evaluation(config, splits, self.interruption)
        epochs = EpochLog(run, config, self._batches, evaluation)
        self._bar = ProgressBar(config, epochs)
        # Keras calls them in this order, at the end of a batch and at the end of an epoch.
        self.in_order: list[keras.callbacks.Callback] = [
            self._batches,  # first, so that steps.csv has the loss that ends a run
            AveragedWeights(),  # before all that reads the weights
            evaluation,
            Divergence(evaluation),  # before the epoch log and the checkpoint: an epoch that diverged leaves neither
            epochs,
            *trackers(epochs),
            *([TensorBoard(run, epochs)] if config.tensorboard.enabled else []),
            Checkpoint(run, stock),  # after the log: a checkpoint without its row could not be resumed exactly
            self._bar,
            self.early_stop,  # after the checkpoint: a stopped run can be resumed
            self.interruption,  # last, so that an interrupted batch or epoch has been recorded
        ]

    def close(self) -> None:
        """Close the log file and remove the bar."""
        self._batches.close()
        self._bar.close()
