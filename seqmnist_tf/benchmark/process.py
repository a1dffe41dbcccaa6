"""The processes of the training benchmark: each contender runs in its own, so that none disturbs another."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..system import RunError, first_line, warn
from .contenders import CONTENDERS, Workload

WARM_UP_STEPS = 2  # training steps and evaluations of one batch before anything is measured


class ContenderProcess:
    """A contender in a process of its own.

    Attributes:
        name: its key in ``CONTENDERS``.
        version: the version of its package.

    Raises:
        RunError: the contender cannot be started.
    """

    def __init__(self, name: str, workload: Workload) -> None:
        self.name = name
        spawn = multiprocessing.get_context("spawn")
        self.connection, other_end = spawn.Pipe()
        self.process = spawn.Process(target=run_contender, args=(name, workload, other_end), daemon=True)
        self.process.start()
        other_end.close()
        self.version = str(self._answer()["ready"])

    def do(self, action: str) -> dict[str, Any]:
        """Let it ``train`` one step or ``evaluate`` once; return ``ms`` and ``peak_mb``."""
        with contextlib.suppress(BrokenPipeError):
            self.connection.send(action)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _answer(self) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(5)  # the pipe closes before the process has its exit status
            raise RunError(f"contender {self.name} ended without an answer (exit {self.process.exitcode})") from None
        if "error" in answer:
            raise RunError(f"contender {self.name}: {answer['error']}")
        return answer


@contextlib.contextmanager
def contender_processes(names: Sequence[str], workload: Workload) -> Iterator[list[ContenderProcess]]:
    """Start contenders one after the other, and end them; one that cannot start is left out with a warning."""
    started: list[ContenderProcess] = []
    try:
        for name in names:
            try:
                started.append(ContenderProcess(name, workload))
            except RunError as error:
                warn(f"left out: {error}")
        yield started
    finally:
        for process in started:
            process.close()


def run_contender(name: str, workload: Workload, connection: Connection) -> None:
    """Run a contender in this process: send that it is ready, then answer ``train`` and ``evaluate`` until the end.

    An answer is a dictionary: ``ready``, the version of the contender's package; ``ms`` and ``peak_mb`` of an action;
    or ``error``, one line, after which there is no other answer.
    """
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        try:
            _answer_requests(name, workload, connection)
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            # Any exception of a library is reported to the process that waits for this one.
            connection.send({"error": f"{type(error).__name__}: {first_line(error)}"})


def peak_memory_mb() -> float | None:
    """Return the most memory that this process has held so far, in MB; None where Linux does not report it.

    ``getrusage`` is not used: it begins with the size of the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


def _answer_requests(name: str, workload: Workload, connection: Connection) -> None:
    contender = CONTENDERS[name]
    functions = contender.make(workload)
    train, labels, test = workload.sequences("train"), workload.labels(), workload.sequences("test")
    starts = itertools.cycle(range(0, len(train) - workload.batch + 1, workload.batch))

    def train_step() -> None:
        part = slice(start := next(starts), start + workload.batch)
        functions.train_step(train[part], labels[part])

    for _ in range(WARM_UP_STEPS):
        train_step()
        functions.predict(test[: workload.config.test.batch_size])
    actions: dict[str, Callable[[], Any]] = {"train": train_step, "evaluate": lambda: functions.predict(test)}
    connection.send({"ready": importlib.metadata.version(contender.package)})
    while True:
        action = actions[connection.recv()]
        started = time.perf_counter()
        action()
        seconds = time.perf_counter() - started
        connection.send({"ms": 1e3 * seconds, "peak_mb": peak_memory_mb()})
