"""Damage to a run directory: resuming refuses it, or says that it cannot read it, and changes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf.train.__main__ import main as train_main
from tests.conftest import Result
from tests.toy import SMALL, run_train

WORDS = (*SMALL, "--train.n-epochs=4", "--train.shuffle=true")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs that was killed in its third."""
    path = tmp_path_factory.mktemp("killed") / "run"
    assert run_train(*WORDS, f"--run-dir={path}", KILL="step:7").returncode < 0
    return path


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with another seed."""
    path = tmp_path_factory.mktemp("other") / "run"
    assert run_train(*WORDS, "--train.seed=1", f"--run-dir={path}", KILL="step:7").returncode < 0
    return path


def change(name: str, edit: Callable[[Any], object]) -> Callable[[Path, Path], None]:
    """Return damage that edits a JSON file of the run."""

    def damage(run: Path, other: Path) -> None:
        document = json.loads((run / name).read_text())
        edit(document)
        (run / name).write_text(json.dumps(document))

    return damage


def section(key: str, value: object) -> Callable[[Path, Path], None]:
    """Return damage that changes a key of the configuration."""
    first, _, second = key.partition(".")
    return change("config.json", lambda document: document[first].__setitem__(second, value))


def cut(name: str, lines: int) -> Callable[[Path, Path], None]:
    """Return damage that leaves the first lines of a file."""

    def damage(run: Path, other: Path) -> None:
        kept = (run / name).read_text().splitlines(keepends=True)[:lines]
        (run / name).write_text("".join(kept))

    return damage


def put(name: str, source: str, own: bool = True) -> Callable[[Path, Path], None]:
    """Return damage that replaces a file by another one of the same run, or of another."""

    def damage(run: Path, other: Path) -> None:
        shutil.copy((run if own else other) / source, run / name)

    return damage


def write(name: str, text: str) -> Callable[[Path, Path], None]:
    """Return damage that replaces the text of a file."""

    def damage(run: Path, other: Path) -> None:
        (run / name).write_text(text)

    return damage


DAMAGE: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "history deleted": (lambda run, other: (run / "history.jsonl").unlink(), "history.jsonl must have epochs 1 to 2"),
    "history cut": (cut("history.jsonl", 1), "history.jsonl must have epochs 1 to 2"),
    "history corrupt": (write("history.jsonl", '{"epoch": 1\n'), "history.jsonl: line 1: "),
    "history of numbers": (write("history.jsonl", "3\n"), "history.jsonl: line 1 is not a JSON object"),
    "steps deleted": (lambda run, other: (run / "steps.csv").unlink(), "steps.csv must have steps 1 to 6"),
    "steps cut": (cut("steps.csv", 4), "steps.csv must have steps 1 to 6"),
    "steps corrupt": (write("steps.csv", "step,loss\nx,1\n"), "steps.csv must have steps 1 to 6"),
    "epoch file as checkpoint": (put("checkpoints/resume.keras", "checkpoints/epoch-0002.keras"), "checkpoint"),
    "older epoch file": (put("checkpoints/epoch-0002.keras", "checkpoints/epoch-0001.keras"), "have different weights"),
    "checkpoint of another run": (
        put("checkpoints/resume.keras", "checkpoints/resume.keras", own=False),
        "have different weights",
    ),
    "seed": (section("train.seed", 5), "it began with seed 0, and its files now have 5"),
    "optimizer": (section("optimizer.name", "Adam"), "it began with config_id "),
    "batch size": (section("train.batch_size", 20), "it began with config_id "),
    "epochs": (section("train.n_epochs", 9), "it began with config_id "),
    "learning rate": (section("optimizer.lr", 0.5), "it began with config_id "),
    "pixel order": (
        write("pixel_order.txt", "\n".join(map(str, reversed(range(784)))) + "\n"),
        "it began with pixel order ",
    ),
    "environment cut": (write("environment.json", '{"config_id"'), "cannot read "),
    "environment a list": (write("environment.json", "[]"), "it must be a JSON object (got list)"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_not_resumed(
    name: str, killed: Path, other: Path, command: Callable[..., Result], in_tmp: Path, toy: None
) -> None:
    damage, message = DAMAGE[name]
    shutil.copytree(killed, in_tmp / "run")
    damage(in_tmp / "run", other)
    before = {path: path.read_bytes() for path in (in_tmp / "run").rglob("*") if path.is_file()}
    result = command(train_main, "--run-dir=run", "--resume")
    assert result.status in (1, 2), result
    assert result.err.splitlines()[-1].startswith("error: ") and message in result.err.splitlines()[-1]
    assert {path: path.read_bytes() for path in (in_tmp / "run").rglob("*") if path.is_file()} == before


def test_without_damage_it_is_resumed_and_old_records_may_lack_keys(
    killed: Path, command: Callable[..., Result], in_tmp: Path, toy: None
) -> None:
    shutil.copytree(killed, in_tmp / "run")
    change(
        "environment.json", lambda document: [document.pop(key) for key in ("seed", "pixel_order_sha256", "resumed")]
    )(in_tmp / "run", in_tmp)
    assert command(train_main, "--run-dir=run", "--resume").status == 0


def test_a_commit_that_changed_between_parts_is_warned_of(
    killed: Path, command: Callable[..., Result], in_tmp: Path, toy: None
) -> None:
    shutil.copytree(killed, in_tmp / "run")
    change("environment.json", lambda document: document["git"].__setitem__("commit", "c0ffee"))(in_tmp / "run", in_tmp)
    result = command(train_main, "--run-dir=run", "--resume")
    assert result.status == 0
    assert "warning: the commit was c0ffee and is " in result.err
