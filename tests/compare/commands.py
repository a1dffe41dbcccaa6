"""The commands ``compare`` and ``tune`` on toy data in a process of their own.

python -m tests.compare.commands {compare,tune} ARGUMENTS
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time

from seqmnist_tf.engine import Job, JobEnd, job
from tests.toy import ROOT, SMALL, toy_mnist

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


def run_compare(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``seqmnist_tf.compare`` on the toy data in another process and return it when it has ended."""
    command = [sys.executable, "-m", "tests.compare.commands", "compare", *argv]
    return subprocess.run(
        command, cwd=ROOT, text=True, env={**os.environ, **environment}, capture_output=True, timeout=280
    )


if __name__ == "__main__":
    from seqmnist_tf.data import sequences
    from seqmnist_tf.system import run_command

    sequences.load_mnist = toy_mnist
    job.TRAINER = "tests.compare.commands:train_on_toy_data"
    command = importlib.import_module(f"seqmnist_tf.{sys.argv[1]}.__main__")
    run_command(command.main, sys.argv[2:])
