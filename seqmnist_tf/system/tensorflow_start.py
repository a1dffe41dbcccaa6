"""The start of TensorFlow: without chatter on the terminal, and with the threads that a run asks for."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

from .console import InputError
from .environment import available_cores


def start_tensorflow(threads: int | None = None, operations: int = 0) -> None:
    """Import TensorFlow without its notes on the terminal; where threads are given, start it with them.

    The only place that starts TensorFlow. It may be called again: the first call that gives threads decides. 0 threads
    is all cores. ``operations`` is how many may run at a time, 0 as many as threads: threads that wait for the next
    operation spin on the cores that a running one could use.
    """
    _require_keras_on_tensorflow()
    if threads is None and "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    too_late = False
    with _quiet_stderr():
        import tensorflow as tf  # late: a command that only parses its arguments must not wait for it

        tf.config.list_physical_devices()
        if threads is None:
            return
        threads = threads or available_cores()  # TensorFlow's own 0 knows no quota of a container
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(operations or threads)
        except RuntimeError:
            too_late = threads != (tf.config.threading.get_intra_op_parallelism_threads() or available_cores())
        tf.config.list_logical_devices()
    if too_late:
        warnings.warn(f"TensorFlow is running already: train.threads {threads} has no effect on it", stacklevel=2)


def _require_keras_on_tensorflow() -> None:
    """Choose TensorFlow as the backend of Keras, also against keras.json; InputError if another was chosen."""
    keras = sys.modules.get("keras")
    backend = keras.config.backend() if keras else os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise InputError(f"Keras must run on tensorflow (got {backend}: set KERAS_BACKEND=tensorflow)")


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hold back the output on file descriptor 2, and show it only if the body fails.

    TensorFlow writes notes about oneDNN and missing GPU libraries there from C++, and ignores TF_CPP_MIN_LOG_LEVEL
    while it is being imported.
    """
    if sys.stderr is None:
        yield
        return
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
