"""W&B: what is logged offline, one run over a resume, and when nothing is tracked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from wandb.sdk import wandb_setup

from seqmnist_tf import config as cfg
from seqmnist_tf.train import RunDirectory
from seqmnist_tf.train.__main__ import main as train_main
from seqmnist_tf.train.wandb_run import Tracker
from tests.conftest import Command
from tests.toy import LONG_SECONDS, SMALL, run_train

OFFLINE = (*SMALL[:-1], "--wandb.mode=offline", "--train.n-epochs=2", "--optimizer.schedule=cosine")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(wandb_setup, "_singleton", None)  # else wandb remembers the environment of an earlier test
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def logged(folder: Path) -> tuple[dict[str, list[Any]], str]:
    """Return the values under each key of an offline W&B run, as wandb's own command reads them, and its whole text."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_SECONDS)
    assert done.returncode == 0, done.stderr
    values: dict[str, list[Any]] = {}
    for line in done.stdout.splitlines():
        for key, value in json.loads(line).get("history", {}).get("item", {}).items():
            values.setdefault(key, []).append(value)
    return values, done.stdout


@pytest.mark.slow
def test_an_offline_run_holds_what_was_measured_and_goes_on_after_a_kill(
    command: Command, tmp_path: Path, toy: None
) -> None:
    run = RunDirectory(tmp_path / "run")
    words = (*OFFLINE, f"--run-dir={run.path}", "--wandb.histograms=true", "--wandb.project=mine", "--wandb.entity=us")
    assert run_train(*words, KILL="write:3").returncode < 0  # before the checkpoint of the second epoch
    done = command(train_main, "--resume", f"--run-dir={run.path}")
    assert done.status == 0, done.err
    run_id = run.environment["wandb_run_id"]
    folders = sorted((run.path / "wandb").glob("offline-run-*"))
    assert [folder.name.rsplit("-", 1)[1] for folder in folders] == [run_id, run_id]
    assert f"W&B: offline, in {folders[1]} (upload it: wandb sync {folders[1]})" in done.out

    values, text = logged(folders[1])
    rows = [line.split(",") for line in (run.path / "steps.csv").read_text().splitlines()[1:]]
    assert len(rows) == 6
    assert values["batch/loss"] == [float(loss) for _, loss, _ in rows[3:]]
    assert values["batch/gradient_norm"] == [float(norm) for _, _, norm in rows[3:]]
    assert values["_step"][:3] == [4, 5, 6]  # the optimizer's steps
    row = run.history()[1]
    for key in ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "learning_rate"):
        assert set(values[f"epoch/{key}"]) == {row[key]}
    for kind in ("weights", "gradients"):
        assert any(f"epoch/{kind}/" in key and "lstm_cell/kernel._type" in key for key in values)
    for part in (
        '"project":"mine"',
        '"entity":"us"',
        f'"run_group":"{run.config_id}"',
        f"model-{run_id}",
        "model.keras",
        '"n_epochs":2',
        "test/misread",
        "test/confusion_matrix",
    ):
        assert part in text


def test_a_run_of_the_user_goes_on(command: Command, in_tmp: Path, toy: None) -> None:
    theirs = wandb.init(mode="offline", dir=in_tmp, name="theirs", settings=wandb.Settings(silent=True))
    assert command(train_main, *OFFLINE, "--run-dir=run").status == 0
    assert wandb.run is theirs
    theirs.finish()
    assert len(list((in_tmp / "run").glob("wandb/offline-run-*"))) == 1


@pytest.mark.parametrize(
    ("mode", "environment", "tried"),
    [
        ("auto", {}, ["offline"]),  # without a key nothing is asked
        ("auto", {"WANDB_API_KEY": "0" * 40}, ["online", "offline"]),
        ("auto", {"WANDB_API_KEY": "0" * 40, "WANDB_MODE": "offline"}, ["offline"]),
        ("online", {}, ["online", "offline"]),
        ("disabled", {"WANDB_API_KEY": "0" * 40}, []),
    ],
)
def test_the_modes(
    mode: str,
    environment: dict[str, str],
    tried: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen, init = [], wandb.init

    def refuse(**words: Any) -> Any:
        seen.append(words["mode"])
        if words["mode"] == "online":
            raise wandb.errors.CommError("the server does not answer")
        return init(**words)

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(wandb, "init", refuse)
    config = cfg.with_values(cfg.Config(), {"wandb.mode": mode})
    Tracker(config, cfg.config_id(config), tmp_path, "12345678").finish({"status": "completed"})
    assert seen == tried
    assert ("warning: W&B failed, tracking offline" in capsys.readouterr().err) is ("online" in tried)
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == len(tried[-1:])


@pytest.mark.parametrize(
    ("given", "environment", "group"), [(None, None, "the id"), ("mine", None, "mine"), ("mine", "theirs", "theirs")]
)
def test_the_group_is_the_environments_else_the_jobs_else_the_experiments(
    given: str | None, environment: str | None, group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: dict[str, Any] = {}
    monkeypatch.setattr(wandb, "init", lambda **more: words.update(more) or SimpleNamespace(offline=False, url=None))
    if environment:
        monkeypatch.setenv("WANDB_RUN_GROUP", environment)
    Tracker(cfg.Config(), "the id", tmp_path, "12345678", given)
    assert words["group"] == group
