"""A search on Ray, with real trainings of toy data, whose processes and command are killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.compare.commands import run, started, wait_until
from tests.engine.nodes import trainers
from tests.tune.toy_search import trials_of

SPACE = {"optimizer.lr": {"low": 1e-3, "high": 1e-1, "scale": "log"}, "optimizer.name": {"choices": ["SGD", "Adam"]}}
SEARCH = ["tune", "--tuner=random", "--max-trials=5", "--epochs=6", "--train.batch-size=5", "--train.threads=1"]
SMALL = ["--model.hidden-size=4", "--task.limit-train=100", "--task.validation-size=60", "--wandb.mode=disabled"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_and_the_command_are_killed(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    words = [*SEARCH, *SMALL, f"--space={tmp_path / 'space.json'}"]
    log, whole, folder = tmp_path / "log", tmp_path / "whole", tmp_path / "search"

    def epochs() -> int:
        return sum(file.read_bytes().count(b"\n") for file in folder.glob("trials/*/history.jsonl"))

    run(log, *words, f"--dir={whole}")  # in its own process
    with started(log, *words, f"--dir={folder}", "--workers=2", **environment) as process:
        wait_until(lambda: epochs() >= 3, log, process)
        os.kill(trainers(process.pid)[0], signal.SIGKILL)
        wait_until(lambda: epochs() >= 9, log, process)
    run(log, *words, f"--dir={folder}", "--workers=2", **environment)
    rows, expected = ([{**row, "seconds": 0} for row in trials_of(path)] for path in (folder, whole))
    assert rows == expected and len(rows) == 5
    assert (folder / "best.json").read_bytes() == (whole / "best.json").read_bytes()
