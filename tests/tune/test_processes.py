"""A search on Ray, with real trainings of toy data, whose processes and command are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.nodes import trainers
from tests.toy import LONG_SECONDS, ROOT
from tests.tune.toy_search import trials_of

SPACE = {"optimizer.lr": {"low": 1e-3, "high": 1e-1, "scale": "log"}, "optimizer.name": {"choices": ["SGD", "Adam"]}}
SEARCH = ["--tuner=random", "--max-trials=5", "--epochs=6", "--train.batch-size=5", "--train.threads=1"]
SMALL = ["--model.hidden-size=4", "--task.limit-train=100", "--task.validation-size=60", "--wandb.mode=disabled"]


@contextlib.contextmanager
def started(folder: Path, *more: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a search whose log is beside its folder."""
    (folder.parent / "space.json").write_text(json.dumps(SPACE))
    words = [*SEARCH, *SMALL, f"--dir={folder}", f"--space={folder.parent / 'space.json'}", *more]
    command = [sys.executable, "-m", "tests.compare.commands", "tune", *words]
    with folder.with_suffix(".log").open("a") as log:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_epochs(process: subprocess.Popen[bytes], folder: Path, epochs: int) -> None:
    """Wait until the trials have so many epochs, all together."""
    until = time.monotonic() + LONG_SECONDS
    while sum(file.read_bytes().count(b"\n") for file in folder.glob("trials/*/history.jsonl")) < epochs:
        assert process.poll() is None and time.monotonic() < until, folder.with_suffix(".log").read_text()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_and_the_command_are_killed(tmp_path: Path, environment: dict[str, str]) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "search"
    with started(whole) as process:  # in its own process
        assert process.wait(3 * LONG_SECONDS) == 0, whole.with_suffix(".log").read_text()
    with started(folder, "--workers=2", **environment) as process:
        wait_for_epochs(process, folder, 3)
        os.kill(trainers(process.pid)[0], signal.SIGKILL)
        wait_for_epochs(process, folder, 9)
    with started(folder, "--workers=2", **environment) as process:
        assert process.wait(3 * LONG_SECONDS) == 0, folder.with_suffix(".log").read_text()
    rows, expected = ([{**row, "seconds": 0} for row in trials_of(path)] for path in (folder, whole))
    assert rows == expected and len(rows) == 5
    assert (folder / "best.json").read_bytes() == (whole / "best.json").read_bytes()
