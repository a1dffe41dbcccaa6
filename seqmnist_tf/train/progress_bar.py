"""The progress of a run on the terminal."""

from __future__ import annotations

import sys
from typing import Any

import keras
import tqdm

from ..config import KEYS_OF_LAYERS, Config
from ..system import say
from .epoch_log import EpochLog
from .metrics import AT_CHANCE


class ProgressBar(keras.callbacks.Callback):
    """Shows a bar with the time left of the whole run, a line an epoch, and a warning while the run is at chance."""

    def __init__(self, config: Config, epochs: EpochLog) -> None:
        super().__init__()
        self.config, self.epochs = config, epochs
        self.explained = False
        self.bar: tqdm.tqdm | None = None

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
        if self.bar is not None:
            self.bar.set_description_str(f"epoch {epoch + 1}/{self.config.train.n_epochs}", refresh=False)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.bar is not None:
            last = batch + 1 == self.config.steps_per_epoch
            loss = f"loss {float((logs or {})['loss']):.4f}"
            self.bar.set_postfix_str(f"{loss}, evaluating" if last else loss, refresh=False)
            self.bar.update()
            if last:
                self.bar.refresh()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row = self.epochs.row
        parts = [f"epoch {epoch + 1}/{self.config.train.n_epochs}"]
        for name in ("train", "val", "test"):
            if row.get(f"{name}_loss") is not None:
                parts.append(f"{name} loss {row[f'{name}_loss']:.4f} accuracy {row[f'{name}_accuracy']:.2%}")
        parts.append(f"{row['seconds']:.0f} s")
        accuracy = next(
            row[key] for key in ("test_accuracy", "val_accuracy", "train_accuracy") if row.get(key) is not None
        )
        if self.bar is not None:
            self.bar.clear()
        say("  ".join(parts))
        if accuracy < AT_CHANCE:
            say(f"warning: still near chance ({accuracy:.1%}){self._explain(row['train_accuracy'])}")
        if self.bar is not None:
            self.bar.refresh()

    def _explain(self, train_accuracy: float) -> str:
        if self.config.optimizer.ema_momentum is not None and train_accuracy >= AT_CHANCE:
            return f"; the averaged weights lag behind the trained ones ({train_accuracy:.1%})"
        if self.explained:
            return ""
        self.explained = True
        text = "; many recipes are near chance in their first epochs, and some for good"
        model = self.config.model
        without_chrono = model.layer in KEYS_OF_LAYERS["model.forget_bias"] and model.forget_bias != "chrono"
        return text + (" (--model.forget_bias chrono skips it)" if without_chrono else "")

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.leave = False
            self.bar.close()
