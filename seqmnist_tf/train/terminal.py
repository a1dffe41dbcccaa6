"""What a run prints: its first lines and its progress; and how a signal ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import Any

import keras
import tqdm

from ..config import Config, layer_name
from ..data import Splits
from ..model import Kernel, recurrent_weights
from ..system import say
from .run_directory import RunDirectory

AT_CHANCE = 0.2  # accuracy below it is chance: guessing ten digits gives 0.1, and the plateau wanders a little above


def announce(
    run: RunDirectory, config: Config, preset: str | None, model: keras.Sequential, kernel: Kernel, splits: Splits
) -> None:
    """Print the kernel, the units if they were matched, the run's folder and its data."""
    if kernel.isa:
        say(f"{layer_name(config.model.layer)} on the native kernel ({kernel.isa})")
    else:
        reason = kernel.reason or "train.kernel is keras"
        say(f"on stock Keras, on a CPU several times slower than the native kernel: {reason}")
    if target := config.model.match_parameters:
        parameters = model.count_params()
        say(
            f"{config.model.hidden_size} units of {config.model.layer}: {parameters:,} parameters, "
            f"{parameters - target:+,} against model.match_parameters {target:,}"
        )
    if config.recurrent_noise and not recurrent_weights(model.layers[0]):
        say(f"train.recurrent_noise has no effect: {config.model.layer} names no recurrent weights (docs/compare.md)")
    parts = [f"{len(splits.train):,} training images"]
    if splits.validation is not None:
        parts.append(f"{len(splits.validation):,} held out")
    parts.append(f"{len(splits.test):,} test images" if splits.test is not None else "the test set is not read")
    order = "" if config.task.permutation == "none" else f", pixel order {config.task.permutation}"
    say(f"run {run.path}: preset {preset or 'none'}, seed {config.train.seed}, {', '.join(parts)}{order}")


def note_above_bar(text: str) -> None:
    """Print a line on stderr, above the bar of a run that is trained in this process."""
    tqdm.tqdm.write(text, file=sys.stderr)


class LogLines:
    """Stderr for a bar in a log: each state of the bar is a line, without carriage returns."""

    def write(self, text: str) -> None:
        if shown := text.strip("\r\n "):
            sys.stderr.write(f"{shown}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def bar_settings() -> dict[str, Any]:
    """Return tqdm's settings of a bar: where it is written and how often, in a log each 20 seconds."""
    if sys.stderr.isatty():
        return {"file": sys.stderr, "mininterval": 0.5}
    return {"file": LogLines(), "mininterval": 20.0}


class ProgressBar(keras.callbacks.Callback):
    """Shows a bar with the time left of the whole run, and a line an epoch."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.bar = tqdm.tqdm(disable=True)  # until it begins

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.bar = tqdm.tqdm(
            total=self.config.train.n_epochs * self.config.steps_per_epoch,
            initial=int(self.model.optimizer.iterations),
            unit="batch",
            smoothing=0.05,
            **bar_settings(),
            bar_format="{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{remaining} left{postfix}]",
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.bar.set_description_str(f"epoch {epoch + 1}/{self.config.train.n_epochs}", refresh=False)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        last = batch + 1 == self.config.steps_per_epoch
        loss = f"loss {float(logs['loss']):.4f}"
        self.bar.set_postfix_str(f"{loss}, evaluating" if last else loss, refresh=False)
        self.bar.update()
        if last:
            self.bar.refresh()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        parts = [f"epoch {epoch + 1}/{self.config.train.n_epochs}"]
        for name in ("train", "val", "test"):
            if logs.get(f"{name}_loss") is not None:
                parts.append(f"{name} loss {logs[f'{name}_loss']:.4f} accuracy {logs[f'{name}_accuracy']:.2%}")
        parts.append(f"{logs['seconds']:.0f} s")
        accuracies = [logs.get(f"{name}_accuracy") for name in ("test", "val", "train")]
        if next(accuracy for accuracy in accuracies if accuracy is not None) < AT_CHANCE:
            parts.append("(near chance)")
        self.bar.clear()
        say("  ".join(parts))
        self.bar.refresh()

    def close(self) -> None:
        """Remove the bar."""
        self.bar.leave = False
        self.bar.close()


class Interruption(keras.callbacks.Callback):
    """Ends a run at the first SIGINT or SIGTERM, after the batch that is being computed.

    Python alone raises KeyboardInterrupt wherever the program is, even in a destructor, where it is lost; a second
    signal does so. Enter it as a context in the main thread; in other threads it has no effect.
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
        with contextlib.suppress(OSError):  # the same signal may have ended the reader of stderr: `2>&1 | tee log`
            os.write(2, b"\ninterrupting after this batch\n")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.requested:
            raise KeyboardInterrupt

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.on_train_batch_end(batch)
