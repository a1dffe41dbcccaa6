"""A run directory that version 0.1.0 left behind, killed in its third epoch: it resumes, evaluates and is described."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.evaluate import main as evaluate_main
from seqmnist_tf.serve import exporter
from seqmnist_tf.train import RunDirectory
from seqmnist_tf.train.__main__ import main as train_main
from tests.conftest import Command

OLD = Path(__file__).parent / "run_of_0.1.0"


def test_a_run_of_version_0_1_0_resumes_evaluates_and_is_described(
    command: Command, in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(OLD, in_tmp / "run")
    run = RunDirectory(in_tmp / "run")
    before, config_id = run.history(), run.environment["config_id"]
    losses = (run.path / "steps.csv").read_text().splitlines()[:7]
    assert (len(before), run.summary, cfg.config_id(run.config)) == (2, None, config_id)

    assert command(train_main, "--run-dir=run", "--resume").status == 0
    summary = run.summary or {}
    assert (summary["status"], summary["epochs"], summary["config_id"]) == ("completed", 3, config_id)
    assert run.history()[:2] == before
    assert (run.path / "steps.csv").read_text().splitlines()[:7] == losses
    lines = (run.path / "steps.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * run.config.steps_per_epoch
    assert {line.count(",") for line in lines} == {1}  # version 0.1.0 had no norms, and its files go on without

    counted = json.loads(command(evaluate_main, "run", "--json").out)
    assert counted["test_correct"] == summary["final"]["test_correct"]

    description = exporter.describe_export(run, run.pixel_order())
    assert description["config_id"] == config_id
    assert description["pixel_order"] == run.pixel_order().tolist()
