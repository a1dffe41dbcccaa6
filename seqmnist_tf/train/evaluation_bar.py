"""The progress of an evaluation on the terminal."""

from __future__ import annotations

import sys
from typing import Any

import keras
import tqdm

from ..system import note


class EvaluationBar(keras.callbacks.Callback):
    """Says what is evaluated, and shows a bar with the time left."""

    def __init__(self, description: str, num_batches: int) -> None:
        super().__init__()
        self.description, self.num_batches = description, num_batches
        self.bar: tqdm.tqdm | None = None

    def on_predict_begin(self, logs: dict[str, Any] | None = None) -> None:
        note(self.description)
        self.bar = tqdm.tqdm(
            total=self.num_batches,
            leave=False,
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
            bar_format="{percentage:3.0f}% |{bar}| [{remaining} left]",
        )

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.bar is not None:
            self.bar.update()

    def on_predict_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.bar is not None:
            self.bar.close()
