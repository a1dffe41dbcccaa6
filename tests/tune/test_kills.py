"""A search that is killed with SIGKILL at each of its files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toy import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("tuner", ["random", "hyperband"])
def test_a_search_killed_at_every_file_ends_with_the_same_result(tmp_path: Path, toy_space: str, tuner: str) -> None:
    def search(folder: str, *first: str) -> dict[str, int]:
        argv = [f"--tuner={tuner}", "--max-trials=4", "--epochs=4", f"--dir={tmp_path / folder}"]
        command = [sys.executable, "-m", "tests.tune.toy_search", *first, *argv, f"--space={toy_space}"]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout.splitlines()[-1]) if first else {}

    search("whole")
    ended = search("killed", "--kill-at-each-file")
    assert ended["status"] == 0 and ended["kills"] > 20
    for name in ("trials.json", "best.json", "report.md"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text(), name
