"""The commands ``compare`` and ``tune`` on toy data in a process of their own.

python -m tests.compare.commands {compare,tune} ARGUMENTS
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from seqmnist_tf.engine import Job, JobEnd, job
from tests.toy import LONG_SECONDS, ROOT, SMALL, toy_mnist

TINY = (*SMALL, "--train.n-epochs=2")


def train_on_toy_data(job: Job) -> JobEnd:
    """Train a job in a process of its own, on toy data; after an epoch, wait while ``FOLDER.hold`` is there."""
    from seqmnist_tf.data import sequences
    from seqmnist_tf.engine import train_job

    def wait() -> None:
        while job.path.parents[1].with_suffix(".hold").exists():
            time.sleep(0.1)

    sequences.load_mnist = toy_mnist
    return train_job(job, wait)


@contextlib.contextmanager
def started(log: Path, *words: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command that writes to a log, and kill it where it has not ended."""
    command = [sys.executable, "-m", "tests.compare.commands", *words]
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run(log: Path, *words: str, **environment: str) -> None:
    """Run a command to its end."""
    with started(log, *words, **environment) as process:
        assert process.wait(3 * LONG_SECONDS) == 0, log.read_text()


def wait_until(holds: Callable[[], bool], log: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until something holds, while a process runs."""
    until = time.monotonic() + LONG_SECONDS
    while not holds():
        assert (process is None or process.poll() is None) and time.monotonic() < until, log.read_text()
        time.sleep(0.05)


if __name__ == "__main__":
    from seqmnist_tf.data import sequences
    from seqmnist_tf.system import run_command

    sequences.load_mnist = toy_mnist
    job.TRAINER = "tests.compare.commands:train_on_toy_data"
    command = importlib.import_module(f"seqmnist_tf.{sys.argv[1]}.__main__")
    run_command(command.main, sys.argv[2:])
