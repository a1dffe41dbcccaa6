"""A run's end by SIGINT or SIGTERM."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any

import keras


class Interruption(keras.callbacks.Callback):
    """Ends a run at the first SIGINT or SIGTERM, after the batch that is being computed.

    Python would raise KeyboardInterrupt wherever it stands, also in a destructor, where it is lost; a second signal
    does so. To be entered as a context in the main thread; in another thread the context has no effect.
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
        with contextlib.suppress(OSError):  # the same signal may have ended who reads stderr: `2>&1 | tee log`
            os.write(2, b"\ninterrupting after this batch\n")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.requested:
            raise KeyboardInterrupt

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.on_train_batch_end(batch)
