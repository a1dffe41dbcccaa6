"""W&B: what is logged offline, one run over a resume, and that nothing it does stops a training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import wandb
from wandb.sdk import wandb_setup

from seqmnist_tf.train import RunDirectory, wandb_run
from seqmnist_tf.train.__main__ import main as train_main
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
    assert "warning: W&B" not in done.err
    run_id = run.environment["wandb_run_id"]
    folders = sorted((run.path / "wandb").glob("offline-run-*"))
    assert [folder.name.rsplit("-", 1)[1] for folder in folders] == [run_id, run_id]
    assert not [p for p in (tmp_path / "home").rglob("*") if "wandb" in p.name]

    values, text = logged(folders[1])
    rows = [line.split(",") for line in (run.path / "steps.csv").read_text().splitlines()[1:]]
    assert len(rows) == 6
    assert values["batch/loss"] == [float(loss) for _, loss, _ in rows[3:]]
    assert values["batch/gradient_norm"] == [float(norm) for _, _, norm in rows[3:]]
    assert values["batch/batch_step"] == [3, 4, 5]
    assert values["resumed_at_step"] == [3]
    for key in ("batch/gradient_norm", "batch/weight_norm", "batch/accuracy", "batch/learning_rate"):
        assert len(values[key]) == 3
    row = run.history()[1]
    for key in ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "learning_rate"):
        assert set(values[f"epoch/{key}"]) == {row[key]}
    for kind in ("weights", "gradients"):
        assert any(f"epoch/{kind}/" in key and "lstm_cell/kernel._type" in key for key in values)
    assert values["_step"] == sorted(set(values["_step"]))
    assert values["_step"][0] > 2 * 3 + 2
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


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_a_failure_of_wandb_is_one_warning(
    where: str, command: Command, in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise wandb.Error("W&B is\nbroken")

    real = wandb.init

    def init(*args: Any, **kwargs: Any) -> Any:
        run = real(*args, **kwargs)
        monkeypatch.setattr(run, where, fail)
        return run

    monkeypatch.setattr(wandb, "init", fail if where == "init" else init)
    if where == "log":
        monkeypatch.setattr(wandb, "log", fail)
    result = command(train_main, *OFFLINE, "--run-dir=run")
    monkeypatch.undo()
    if where != "finish":
        assert wandb.run is None  # else the next run would be tracked as a part of this one
    wandb.finish()
    assert result.status == 0
    assert result.err.count("warning: W&B failed and is off for this run, training continues: W&B is") == 1
    assert (RunDirectory(in_tmp / "run").summary or {})["status"] == "completed"


def test_the_mode_is_online_only_with_key_and_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not wandb_run.host_answers("http://127.0.0.1:9")
    monkeypatch.setattr(wandb_run, "host_answers", lambda url: False)
    assert wandb_run.resolve_mode("auto") == "offline"
    assert capsys.readouterr().err == ""
    assert wandb_run.resolve_mode("online") == "offline"
    assert "wandb.mode is online, but no W&B API key is configured" in capsys.readouterr().err
    cloud = wandb.setup().settings.base_url
    for host in ("api.wandb.ai", urlsplit(cloud).netloc):  # where wandb stores a key, and where it did until 0.30
        (tmp_path / "netrc").write_text(f"machine {host} login user password " + "0" * 40 + "\n")
        monkeypatch.setattr(wandb_run, "host_answers", lambda url: False)
        assert wandb_run.resolve_mode("online") == "offline"
        assert f"{cloud} does not answer within 4 s" in capsys.readouterr().err
        monkeypatch.setattr(wandb_run, "host_answers", lambda url: True)
        assert wandb_run.resolve_mode("auto") == "online"
    for address in ("https://wandb.example.org", "https://api.wandb.ai"):  # wandb itself finds no key for the second
        monkeypatch.setenv("WANDB_BASE_URL", address)
        assert wandb_run.resolve_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert wandb_run.resolve_mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_run.resolve_mode("auto") == "disabled"
    assert wandb_run.resolve_mode("offline") == "offline"


def test_a_key_is_found_where_wandb_login_stores_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb.sdk.lib.wbauth import write_netrc_auth

    monkeypatch.setattr(wandb_run, "host_answers", lambda url: True)
    write_netrc_auth(host=wandb.setup().settings.base_url, api_key="0" * 40)
    assert wandb_run.resolve_mode("online") == "online"
    monkeypatch.setenv("HOME", str(Path(os.environ["NETRC"]).parent))
    Path(os.environ["NETRC"]).rename(Path("~/_netrc").expanduser())
    monkeypatch.delenv("NETRC")
    assert wandb_run.resolve_mode("online") == "online"


@pytest.mark.parametrize(
    ("variable", "settings", "mode"),
    [
        ("dryrun", "", "offline"),
        ("run", "", "online"),
        ("off", "", "disabled"),
        ("OFFLINE", "", "disabled"),  # wandb takes lower case only
        (None, "mode = offline", "offline"),
        (None, "mode = disabled", "disabled"),
        ("online", "mode = offline", "online"),
        (None, "base_url = https://wandb.example.org", "offline"),  # whose key is not there
    ],
)
def test_what_the_user_told_wandb_counts(
    variable: str | None,
    settings: str,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password " + "0" * 40 + "\n")
    monkeypatch.setattr(wandb_run, "host_answers", lambda url: True)
    if variable is not None:
        monkeypatch.setenv("WANDB_MODE", variable)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    (tmp_path / "settings").write_text(f"[default]\n{settings}\n")
    assert wandb_run.resolve_mode("auto") == mode
    warned = f"warning: WANDB_MODE must be online, offline or disabled (got {variable!r}): W&B is off"
    assert (warned in capsys.readouterr().err) is (variable in ("off", "OFFLINE"))
    assert wandb_run.resolve_mode("disabled") == "disabled"


def test_a_run_of_the_user_is_left_alone(command: Command, in_tmp: Path, toy: None) -> None:
    theirs = wandb.init(mode="offline", dir=in_tmp, name="theirs", settings=wandb.Settings(silent=True))
    before = {name: os.environ.get(name) for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR")}
    result = command(train_main, *OFFLINE, "--run-dir=run")
    assert result.status == 0
    assert {name: os.environ.get(name) for name in before} == before
    assert "warning: W&B: the run theirs of this process has not ended, so that this one is not tracked" in result.err
    assert wandb.run is theirs
    theirs.finish()
    assert not list((in_tmp / "run").glob("wandb/offline-run-*"))


def test_a_server_that_answers_and_fails_makes_the_run_offline(
    command: Command, in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, init = [], wandb.init

    def refuse(**settings: Any) -> Any:
        assert settings["group"] == "mine"
        seen.append(os.environ["WANDB_DATA_DIR"])
        if settings["mode"] == "online":
            raise wandb.errors.CommError("the key was refused")
        return init(**settings)

    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_RUN_GROUP", "mine")
    monkeypatch.setattr(wandb_run, "host_answers", lambda url: True)
    monkeypatch.setattr(wandb, "init", refuse)
    monkeypatch.setenv("WANDB_CACHE_DIR", str(in_tmp / "theirs"))
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    result = command(train_main, *SMALL[:-1], "--train.n-epochs=1", "--run-dir=run", "--wandb.mode=online")
    assert result.status == 0
    assert "warning: W&B online failed, tracking offline: the key was refused\n" in result.err
    # The folders of W&B's files are set for the run alone.
    assert seen == ["run/wandb"] * 2 and "WANDB_DATA_DIR" not in os.environ
    assert os.environ["WANDB_CACHE_DIR"] == str(in_tmp / "theirs")
    (folder,) = (in_tmp / "run" / "wandb").glob("offline-run-*")
    assert (
        f"W&B: offline, in {folder.relative_to(in_tmp)} (upload it: wandb sync {folder.relative_to(in_tmp)})"
        in result.out
    )
