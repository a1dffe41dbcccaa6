"""A search on Ray, with real trainings of toy data, whose processes and command are killed.

python -m tests.tune.test_processes ARGUMENTS OF seqmnist_tf.tune
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf.data import sequences
from seqmnist_tf.engine import job
from seqmnist_tf.system import run_command
from tests.engine.nodes import is_running, trainers
from tests.toy import LONG_SECONDS, ROOT, toy_mnist

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SPACE = {"optimizer.lr": {"low": 1e-3, "high": 1e-1, "scale": "log"}, "optimizer.name": {"choices": ["SGD", "Adam"]}}
TRIALS = 5


def start(folder: Path, *more: str, **environment: str) -> subprocess.Popen[str]:
    """Start a search whose log is beside its folder."""
    (folder.parent / "space.json").write_text(json.dumps(SPACE))
    small = ["--model.hidden-size=4", "--task.limit-train=100", "--task.validation-size=60", "--wandb.mode=disabled"]
    search = ["--tuner=random", f"--max-trials={TRIALS}", "--epochs=6", "--train.batch-size=5", "--train.threads=1"]
    command = [sys.executable, "-m", "tests.tune.test_processes", *search, *small, *more]
    with folder.with_suffix(".log").open("a") as log:
        return subprocess.Popen(
            [*command, f"--dir={folder}", f"--space={folder.parent / 'space.json'}"],
            cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=log, text=True,
        )  # fmt: skip


def end(process: subprocess.Popen[str], folder: Path) -> None:
    """Wait for a search to end, and require that it did so in order."""
    try:
        assert process.wait(LONG_SECONDS) == 0, folder.with_suffix(".log").read_text()
    finally:
        process.kill()


def wait_for_epochs(process: subprocess.Popen[str], folder: Path, epochs: int) -> None:
    """Wait until the trials have so many epochs, all together."""
    until = time.monotonic() + LONG_SECONDS
    while sum(file.read_bytes().count(b"\n") for file in folder.glob("trials/*/history.jsonl")) < epochs:
        assert process.poll() is None and time.monotonic() < until, folder.with_suffix(".log").read_text()
        time.sleep(0.05)


def timeless(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a search's trials.json without their seconds."""
    rows = json.loads((folder / "trials.json").read_text())
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a search whose trials were trained one after the other in the command's process."""
    folder = tmp_path_factory.mktemp("whole") / "search"
    end(start(folder), folder)
    assert len(timeless(folder)) == TRIALS
    return folder


def test_a_training_and_the_command_are_killed(whole: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    folder = tmp_path / "search"
    process = start(folder, "--workers=2", **environment)
    wait_for_epochs(process, folder, 3)
    os.kill(trainers(process.pid)[0], signal.SIGKILL)
    wait_for_epochs(process, folder, 9)
    left = trainers(process.pid)  # Ray ends its own a minute later
    process.kill()
    process.wait()
    assert "its process died (SIGKILL" in folder.with_suffix(".log").read_text()
    until = time.monotonic() + 60
    while any(is_running(pid) for pid in left):
        assert time.monotonic() < until, "a process goes on training without its command"
        time.sleep(0.2)
    ended = {path: path.stat().st_mtime_ns for path in folder.glob("trials/*/summary.json")}
    end(start(folder, "--workers=2", **environment), folder)
    assert timeless(folder) == timeless(whole)
    assert (folder / "best.json").read_bytes() == (whole / "best.json").read_bytes()
    assert {path: path.stat().st_mtime_ns for path in ended} == ended  # not run again
    assert not (folder / "damaged").exists()


if __name__ == "__main__":
    from seqmnist_tf.tune import trials
    from seqmnist_tf.tune.__main__ import main

    sequences.load_mnist, trials.REPEATS = toy_mnist, 1
    job.TRAINER = "tests.compare.commands:train_on_toy_data"
    run_command(main)
