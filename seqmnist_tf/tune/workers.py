"""A search in several processes: KerasTuner's chief and workers, and the process that starts them on one machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from ..system import RunError, note
from .folder import SearchFolder
from .progress import POLL_SECONDS, TrialReporter

RESTARTS = 5  # of workers in a row, while no trial ends
PARENT = "SEQMNIST_TUNE_PARENT"  # environment variable of a chief or worker: the process that started it


def set_role(role: str, name: str, oracle: str) -> None:
    """Make this process KerasTuner's chief or one of its workers."""
    host, _, port = oracle.rpartition(":")
    os.environ["KERASTUNER_TUNER_ID"] = "chief" if role == "chief" else name
    os.environ["KERASTUNER_ORACLE_IP"] = host
    os.environ["KERASTUNER_ORACLE_PORT"] = port


def supervise(search: SearchFolder, argv: list[str], workers: int, max_trials: int) -> None:
    """Run a chief and workers on this machine to the end of the search; a worker that dies is restarted.

    Raises:
        RunError: the chief died, or workers died repeatedly.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        oracle = f"127.0.0.1:{probe.getsockname()[1]}"
    logs = search.path / "logs"
    logs.mkdir(exist_ok=True)

    def start(role: str, name: str) -> subprocess.Popen[bytes]:
        words = [*argv, "--role", role, "--oracle", oracle, "--worker-name", name]
        environment = {**os.environ, PARENT: str(os.getpid())}
        with (logs / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", "seqmnist_tf.tune", *words]
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    reporter = TrialReporter(search, max_trials)
    chief = start("chief", "chief")
    running = {f"worker{n}": start("worker", f"worker{n}") for n in range(workers)}
    previous = signal.signal(signal.SIGTERM, stop)
    restarts = 0
    try:
        while running:
            time.sleep(POLL_SECONDS)
            if reporter.report_new():
                restarts = 0
            for name, worker in list(running.items()):
                if worker.poll() is None:
                    continue
                del running[name]
                if worker.returncode:
                    restarts += 1
                    if restarts > RESTARTS:
                        raise RunError(f"workers died repeatedly (see {logs})")
                    note(f"{name} died ({worker.returncode}) and is restarted")
                    running[name] = start("worker", name)
            if chief.poll() is not None and running:
                raise RunError(f"the chief died (see {logs / 'chief.log'}); the same command resumes the search")
    finally:
        for process in (*running.values(), chief):
            process.terminate()
        for process in (*running.values(), chief):
            process.wait()
        signal.signal(signal.SIGTERM, previous)


def end_with_parent() -> None:
    """End this process when the process that started it ends for any reason."""
    parent = int(os.environ.get(PARENT, "0"))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    if parent:
        threading.Thread(target=watch, daemon=True).start()


def without_workers(argv: Sequence[str]) -> list[str]:
    """Return a command line without ``--workers``."""
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        if word == "--workers":
            next(rest, None)
        elif not word.startswith("--workers="):
            words.append(word)
    return words
