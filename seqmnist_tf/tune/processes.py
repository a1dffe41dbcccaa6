"""The workers that a chief starts on its own machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from ..system import RunError, note
from .progress import WATCH_SECONDS

COMMAND = [sys.executable, "-m", "seqmnist_tf.tune"]
RESTARTS = 5  # of workers in a row, while no job ends
END_SECONDS, STOP_SECONDS = 5.0, 60.0
PARENT = "SEQMNIST_TUNE_PARENT"  # environment variable of a worker: the process that started it


class LocalWorkers:
    """Starts workers, and starts those again that die.

    Args:
        argv: the command line of the search, without the options of its roles.
        oracle: the chief's address.
        logs: the folder of the workers' output.
    """

    def __init__(self, argv: Sequence[str], oracle: str, logs: Path) -> None:
        self.argv, self.oracle, self.logs = list(argv), oracle, logs
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.restarts, self.ended = 0, 0
        logs.mkdir(exist_ok=True)

    def start(self, name: str) -> None:
        """Start a worker."""
        words = [*self.argv, "--role", "worker", "--oracle", self.oracle, "--worker-name", name]
        command = [*COMMAND, *words]
        with (self.logs / f"{name}.log").open("ab") as log:
            environment = {**os.environ, PARENT: str(os.getpid())}
            self.running[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def look_after(self, ended: int) -> None:
        """Start workers again that have died.

        Args:
            ended: number of jobs that have ended, which shows whether workers get anywhere.

        Raises:
            RunError: workers died repeatedly.
        """
        if ended != self.ended:
            self.restarts, self.ended = 0, ended
        for name, process in list(self.running.items()):
            if process.poll() is None:
                continue
            del self.running[name]
            if process.returncode == 0:
                continue
            self.restarts += 1
            log = self.logs / f"{name}.log"
            if self.restarts > RESTARTS:
                raise RunError(f"workers died repeatedly (see {log}): {_last_line(log)}")
            note(f"{name} died ({_cause(process.returncode)}) and is started again")
            self.start(name)

    def kill(self, name: str) -> None:
        """Kill a worker that hangs; it is started again."""
        if process := self.running.get(name):
            process.kill()

    def wait(self, seconds: float = END_SECONDS) -> None:
        """Wait a moment, for each at most ``seconds``, for workers that know of the search's end."""
        for process in self.running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)

    def stop(self) -> None:
        """End all workers."""
        for process in self.running.values():
            process.terminate()
            if hasattr(signal, "SIGCONT"):  # or a process that was stopped would not end
                process.send_signal(signal.SIGCONT)
        self.wait(STOP_SECONDS)
        for process in self.running.values():
            process.kill()  # what still runs, such as a long call of TensorFlow; its trial can be resumed
            process.wait()


def end_with_parent() -> None:
    """End this process when the process that started it ends for any reason."""
    parent = int(os.environ.get(PARENT, "0"))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    if parent:
        threading.Thread(target=watch, daemon=True).start()


def without_options(argv: Sequence[str], names: Collection[str]) -> list[str]:
    """Return a command line without some options and their values."""
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        name, equals, _ = word.partition("=")
        if not name.startswith("--") or name[2:].replace("_", "-") not in names:
            words.append(word)
        elif not equals:
            next(rest, None)
    return words


def _cause(code: int) -> str:
    return f"exit status {code}" if code > 0 else signal.Signals(-code).name


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line.startswith("error: ")), "").strip()
