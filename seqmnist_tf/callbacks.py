"""The Keras callbacks of a run: its logs, its checkpoints, its progress on the terminal."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any

import keras
import tqdm

from .config import Config
from .data import Split, Splits
from .evaluate import AT_CHANCE, evaluate_model
from .model import learning_rate
from .run_dir import RunDirectory, replace_atomically


class DivergedError(Exception):
    """The loss is no longer a finite number."""


class Interruption(keras.callbacks.Callback):
    """Ends a run at the first SIGINT or SIGTERM, after the batch that is being computed.

    Python would raise KeyboardInterrupt wherever it stands, in a destructor too, where it is lost. A second signal does
    so. To be entered as a context in the main thread; in another thread the context has no effect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requested = False
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _on_signal(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        os.write(2, b"\ninterrupting after this batch\n")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.requested:
            raise KeyboardInterrupt

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.on_train_batch_end(batch)


class GivingUp(keras.callbacks.Callback):
    """Ends a run after an epoch whose history makes ``judge`` say True."""

    def __init__(self, run: RunDirectory, judge: Callable[[list[dict[str, Any]]], bool]) -> None:
        super().__init__()
        self.run, self.judge = run, judge

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.judge(self.run.history()):
            raise KeyboardInterrupt


class Recorder(keras.callbacks.Callback):
    """Writes ``steps.csv`` and ``history.jsonl``, and stops a run whose loss is not finite.

    It puts the epoch's row into the logs, for the callbacks after it.

    Args:
        run: where to write.
        config: the run's configuration.
        splits: what to evaluate on after each epoch.
        interruption: what may end the evaluation.
    """

    def __init__(self, run: RunDirectory, config: Config, splits: Splits, interruption: Interruption) -> None:
        super().__init__()
        self.run, self.config, self.splits, self.interruption = run, config, splits, interruption
        self.step = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.file: IO[str] = (self.run.path / "steps.csv").open("a", encoding="ascii", buffering=1)
        self.step = int(self.model.optimizer.iterations)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.started = time.perf_counter()
        self.losses: list[float] = []
        self.correct = 0
        self.learning_rate = learning_rate(self.model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        loss = float(logs["loss"])
        self.step += 1
        self.file.write(f"{self.step},{loss!r}\n")
        if not math.isfinite(loss):
            raise DivergedError(f"the training loss is {loss} at step {self.step:,} (epoch {self._epoch})")
        self.losses.append(loss)
        size = min(self.config.train.batch_size, self.config.num_train - batch * self.config.train.batch_size)
        self.correct += round(float(logs["accuracy"]) * size)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row: dict[str, Any] = {
            "epoch": epoch + 1,
            "train_loss": math.fsum(self.losses) / len(self.losses),
            "train_accuracy": self.correct / self.config.num_train,
            "test_loss": None,
            "test_accuracy": None,
        }
        for name, split in (("test", self.splits.test), ("val", self.splits.validation)):
            if split is not None:
                row.update(self._evaluate(name, split))
        row["learning_rate"] = self.learning_rate
        row["seconds"] = round(time.perf_counter() - self.started, 3)
        self.run.append_history(row)
        if logs is not None:
            logs.clear()
            logs.update({key: value for key, value in row.items() if value is not None and key != "epoch"})

    def close(self) -> None:
        """Close ``steps.csv``, whose lines are written one by one: after a failed write there is no more to lose."""
        if hasattr(self, "file"):
            with contextlib.suppress(OSError):
                self.file.close()

    @property
    def _epoch(self) -> int:
        return math.ceil(self.step / self.config.steps_per_epoch)

    def _evaluate(self, name: str, split: Split) -> dict[str, float]:
        metrics = evaluate_model(self.model, split, self.config.test.batch_size, [self.interruption])
        if not math.isfinite(metrics.loss):
            raise DivergedError(f"the {name} loss is {metrics.loss} after epoch {self._epoch}")
        return {f"{name}_loss": metrics.loss, f"{name}_accuracy": metrics.accuracy}


class Checkpoint(keras.callbacks.Callback):
    """Saves after each epoch the model, and what resuming needs: weights and optimizer in one file.

    Both as ``.keras`` files, which Keras makes in memory and writes in Python. HDF5, which writes ``.weights.h5`` files
    itself, crashes the process when the disk is full.
    """

    def __init__(self, run: RunDirectory, stock: keras.Sequential) -> None:
        super().__init__()
        self.run, self.stock = run, stock

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        replace_atomically(self.run.epoch_file(epoch + 1), self.stock.save)
        replace_atomically(self.run.resume_file, self.model.save)


class Progress(keras.callbacks.Callback):
    """Shows a bar with the time left of the whole run, a line an epoch, and a warning while the run is at chance."""

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        super().__init__()
        self.config, self.say = config, say
        self.explained = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.bar = tqdm.tqdm(
            total=self.config.train.n_epochs * self.config.steps_per_epoch,
            initial=int(self.model.optimizer.iterations),
            unit="batch",
            smoothing=0.05,
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
            bar_format="{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{remaining} left{postfix}]",
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.bar.set_description_str(f"epoch {epoch + 1}/{self.config.train.n_epochs}", refresh=False)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.bar.set_postfix_str(f"loss {float((logs or {})['loss']):.4f}", refresh=False)
        self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row = logs or {}
        parts = [f"epoch {epoch + 1}/{self.config.train.n_epochs}"]
        for name in ("train", "val", "test"):
            if f"{name}_loss" in row:
                parts.append(f"{name} loss {row[f'{name}_loss']:.4f} accuracy {row[f'{name}_accuracy']:.2%}")
        parts.append(f"{row['seconds']:.0f} s")
        self.bar.clear()
        self.say("  ".join(parts))
        accuracy = row.get("test_accuracy", row.get("val_accuracy", row["train_accuracy"]))
        if accuracy < AT_CHANCE:
            self.say(f"warning: still near chance ({accuracy:.1%}){self._explain_plateau()}")
        self.bar.refresh()

    def _explain_plateau(self) -> str:
        if self.explained:
            return ""
        self.explained = True
        text = "; many recipes stay on this plateau for their first epochs, and some for good"
        return text if self.config.model.forget_bias == "chrono" else text + " (--model.forget_bias chrono skips it)"

    def close(self) -> None:
        """Remove the bar."""
        if hasattr(self, "bar"):
            self.bar.leave = False
            self.bar.close()
