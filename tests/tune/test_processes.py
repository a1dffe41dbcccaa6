"""A search on Ray, with real trainings of toy data, whose processes, Ray and command are killed.

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
from tests.engine.nodes import is_running, processes, trainers
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


def end(process: subprocess.Popen[str], folder: Path, status: int = 0) -> str:
    """Wait for a search to end, require its status, and return its log."""
    try:
        ended = process.wait(3 * LONG_SECONDS)  # several starts of TensorFlow
        log = folder.with_suffix(".log").read_text()
        assert ended == status, log
        return log
    finally:
        process.kill()


def wait_for_epochs(process: subprocess.Popen[str], folder: Path, epochs: int) -> None:
    """Wait until the trials have so many epochs, all together."""
    until = time.monotonic() + LONG_SECONDS
    while sum(file.read_bytes().count(b"\n") for file in folder.glob("trials/*/history.jsonl")) < epochs:
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise AssertionError(folder.with_suffix(".log").read_text())
        time.sleep(0.05)


def timeless(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a search's trials.json without their seconds."""
    rows = json.loads((folder / "trials.json").read_text())
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def require_equal(folder: Path, whole: Path) -> None:
    """Require that a search has the result of another one, in its scores and its best configuration."""
    assert timeless(folder) == timeless(whole)
    assert (folder / "best.json").read_bytes() == (whole / "best.json").read_bytes()


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
    left = trainers(process.pid)
    process.kill()
    process.wait()
    until = time.monotonic() + 60
    while any(is_running(pid) for pid in left):
        assert time.monotonic() < until, "a process goes on training without its command"
        time.sleep(0.2)
    ended = {path: path.stat().st_mtime_ns for path in folder.glob("trials/*/summary.json")}
    end(start(folder, "--workers=2", **environment), folder)
    require_equal(folder, whole)
    assert {path: path.stat().st_mtime_ns for path in ended} == ended  # not run again


def test_ray_itself_dies(whole: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    folder = tmp_path / "search"
    process = start(folder, "--workers=2", **environment)
    wait_for_epochs(process, folder, 4)
    os.kill(processes(process.pid, "ray::DashboardAgent")[0], signal.SIGKILL)
    log = end(process, folder, status=1)
    assert log.splitlines()[-1].endswith("(the same command resumes)") and "failed (" not in log
    assert "FAILED" not in (folder / "oracle.json").read_text()
    end(start(folder, "--workers=2", **environment), folder)
    require_equal(folder, whole)


if __name__ == "__main__":
    from seqmnist_tf.tune.__main__ import main

    sequences.load_mnist = toy_mnist
    job.TRAINER = "tests.compare.commands:train_on_toy_data"
    run_command(main)
