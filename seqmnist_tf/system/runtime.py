"""What is imported when: the doors of the rooms, and TensorFlow's start.

A room is a subpackage. Where its names need TensorFlow, its ``__init__.pyi`` says which names it hands on and where
they live, for type checkers and for :func:`open_door`; a name is imported when it is first asked for (PEP 562).
TensorFlow starts without chatter on the terminal, and with the threads that a run asks for.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import lazy_loader

from .console import InputError


def open_door(
    room: str, file: str, *, light: Collection[str] = (), rooms: Collection[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a room, whose ``__init__.pyi`` stands beside its ``file``.

    TensorFlow is imported first, without its notes on the terminal, except for names of modules in ``light``, which
    import neither TensorFlow nor Keras. ``rooms`` can be called; the stub declares them as functions.
    """
    load, _, names = lazy_loader.attach_stub(room, file)
    names = sorted([*names, *rooms])
    stub = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    heavy = {name.name for node in imports for name in node.names if (node.module or name.name) not in light}

    def get(name: str) -> Any:
        if name in rooms:
            return importlib.import_module(f"{room}.{name}")
        if name in heavy:
            start_tensorflow()
        return load(name)

    return get, lambda: names, names


def call_room(room: str, function: str) -> None:
    """Let a room be called in place of its function, so that ``seqmnist_tf.train(...)`` is ``train.train(...)``.

    A function could not stand beside the room: Python gives its name to the room when that is imported.
    """

    class CallableRoom(ModuleType):
        """A room that is also a function."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return getattr(self, function)(*args, **kwargs)

    sys.modules[room].__class__ = CallableRoom


def when_imported(name: str, call: Callable[[Any], object]) -> None:
    """Call a function with a module when that has been imported, or at once if it was. (wrapt's imports asyncio.)"""

    class Finder:
        @staticmethod
        def find_spec(asked: str, *_: object) -> Any:
            spec: Any = None  # the other finders have it
            if asked == name:
                sys.meta_path.remove(Finder)
                spec = importlib.util.find_spec(name)
                execute = spec.loader.exec_module
                spec.loader.exec_module = lambda module: (execute(module), call(module))
            return spec

    if name in sys.modules:
        call(sys.modules[name])
    else:
        sys.meta_path.insert(0, Finder)


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


def available_cores() -> int:
    """Return the number of CPU cores that this process was given: by its affinity, a container's quota, or Slurm."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = [len(affinity(0)) if affinity else os.cpu_count() or 1]
    if (quota := _cgroup_quota()) is not None:
        cores.append(max(1, int(quota)))
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if slurm.isdecimal() and int(slurm) > 0:
        cores.append(int(slurm))
    return min(cores)


def _cgroup_quota(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> float | None:
    """Return the CPUs that a container may use, None without a limit (cgroup v2)."""
    try:
        quota, period = file.read_text().split()
        return float(quota) / float(period)
    except (OSError, ValueError):  # no such file, or "max"
        return None


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
