"""Publishing a run: it is copied unchanged, recounted and retrained, and what does not fit is refused."""

from __future__ import annotations

import gzip
import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.config import LayerFile
from seqmnist_tf.results.__main__ import main
from seqmnist_tf.results.checks import is_example, recount
from seqmnist_tf.results.publish import public_files, without_folders
from seqmnist_tf.results.records import ResultsFolder, all_trials
from seqmnist_tf.results.store import read_manifest, record_problems
from seqmnist_tf.train import RunDirectory, load_run, train, train_command
from seqmnist_tf.train.__main__ import main as train_main
from tests.changes import change_json, content, put, replace
from tests.conftest import Command
from tests.model.test_layers import GOOD
from tests.results.files import exchange_losses, other_weights
from tests.toy import ROOT, git

RESULTS = Path("results")
COPIED = {"config.json", "environment.json", "history.jsonl", "model.keras", "pixel_order.txt", "summary.json"}


def test_a_run_is_published_unchanged(command: Command, runs: list[Path], clone: Path) -> None:
    assert command(main, "add", str(runs[0]), "--name", "strong").out == "results/strong/seed0\n"
    record = RESULTS / "strong" / "seed0"
    assert {path.name for path in record.iterdir()} == {*COPIED, "steps.csv.gz", "predictions.csv", "record.json"}
    for name in (*COPIED, "predictions.csv"):
        assert (record / name).read_bytes() == (runs[0] / name).read_bytes()
    assert gzip.decompress((record / "steps.csv.gz").read_bytes()) == (runs[0] / "steps.csv").read_bytes()
    (replayed,) = json.loads((record / "record.json").read_text())["replayed"]
    assert (replayed["batches"], replayed["largest_difference"]) == (6, 0)
    listed = {name: digest for name, digest in read_manifest(RESULTS).items() if name.startswith("strong")}
    assert len(listed) == 9  # what is no record is not listed yet
    assert not any("strong" in problem for problem in record_problems(RESULTS, listed))
    assert public_files(RunDirectory(record)) == {n: d for n, d in content(record).items() if n != "record.json"}

    before = content(clone)
    assert command(main, "add", str(runs[0]), "--name", "strong").status == 2
    assert content(clone) == before


@pytest.mark.parametrize("name", ["No Name", "../up", "a" * 41, "full", "baseline"])
def test_a_name_that_is_not_the_runs_is_refused(name: str, command: Command, runs: list[Path], clone: Path) -> None:
    before = content(clone)
    refused = command(main, "add", str(runs[0]), "--name", name)
    assert refused.status == 2 and "--name" in refused.err
    assert content(clone) == before


def test_a_name_stands_for_one_experiment(command: Command, runs: list[Path], published: Path) -> None:
    shutil.copytree(published / "results" / "strong", published / "results" / "mine")
    change_json(RESULTS / "mine" / "seed0" / "config.json", lambda d: d["optimizer"].update(lr=0.5))
    refused = command(main, "add", str(runs[1]), "--name", "mine")
    assert refused.status == 2 and "the name mine" in refused.err


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("summary.json", put("status", value="failed"), "summary.json|failed"),
        ("summary.json", put("final", "test_correct", value=1), "summary.json"),
        ("summary.json", put("final", "test_loss", value=math.nan), "summary.json"),
        ("steps.csv", replace(r"\n3,[^,]*,", "\n3,2.5,"), "train_loss"),
        ("steps.csv", exchange_losses, "batch 1 "),
        ("config.json", put("optimizer", "lr", value=0.5), "config"),
        ("config.json", put("task", "permutation", value="file:x"), "task.permutation"),
        ("config.json", put("test", "enabled", value=False), "summary.json"),
        ("environment.json", put("git", "dirty", value=True), "commit"),
        ("environment.json", put("resumed", value=[{"git": {"commit": None, "dirty": True}}]), "commit"),
        ("model.keras", other_weights, "model.keras"),
        ("model.keras", Path.unlink, "model.keras"),
        ("predictions.csv", replace(r"(?m)^7,(\d),(\d),.*$", "7,1,1,0.777"), "predictions.csv"),
    ],
)  # fmt: skip
def test_a_run_that_does_not_fit_is_refused(
    file: str, change: Callable[[Path], Any], words: str, command: Command, runs: list[Path], clone: Path
) -> None:
    shutil.copytree(runs[0], clone / "run")
    change(clone / "run" / file)
    before = content(clone)
    refused = command(main, "add", "run", "--name", "strong")
    assert refused.status == 2 and any(word in refused.err.splitlines()[-1] for word in words.split("|")), refused.err
    assert content(clone) == before


def test_a_commit_that_was_amended_is_refused(command: Command, runs: list[Path], clone: Path) -> None:
    amended = shutil.copytree(runs[0], clone / "run")
    commit = git(clone, "commit-tree", "-m", "before it was amended", "HEAD^{tree}")
    put("git", "commit", value=commit)(amended / "environment.json")
    refused = command(main, "add", "run", "--name", "strong")
    assert refused.status == 2 and commit in refused.err


def test_a_seed_that_diverged_is_published(command: Command, published: Path) -> None:
    values = {"optimizer.name": "SGD", "optimizer.lr": 1e38, "optimizer.grad_clip_norm": None}
    values["optimizer.grad_clip_value"] = None
    config = cfg.with_values(cfg.preset("strong"), values)
    assert train(config, Path("run"), preset="strong", command=train_command("strong", values))["status"] == "diverged"
    added = command(main, "add", "run", "--name", "wild")
    assert (added.out, added.status) == ("results/wild/seed0\n", 0), added.err
    record = RESULTS / "wild" / "seed0"
    assert not (record / "model.keras").exists() and not (record / "predictions.csv").exists()
    replayed = command(main, "--replay", "full", "wild")
    assert replayed.status == 0 and "bit for bit" in replayed.out
    board = ResultsFolder.read(RESULTS)
    assert list(board.records) == ["strong"] and [record.name for record in board.diverged] == ["wild"]
    put("status", value="diverged")(RESULTS / "strong" / "seed0" / "summary.json")  # a bad seed, hidden
    hidden = command(main, "--replay", "full", "strong/seed0")
    assert hidden.status == 1 and "it does not diverge" in hidden.out


def test_folders_of_the_machine_are_not_published(runs: list[Path], clone: Path) -> None:
    run = RunDirectory(shutil.copytree(runs[0], clone / "run"))
    command = "python -m seqmnist_tf.train strong --data.dir /home/me/data --run-dir=/home/me/runs/x"
    put("data", "dir", value="/home/me/data")(run.path / "config.json")
    again = "python -m seqmnist_tf.train --run-dir '/home/me/x' --resume"
    change_json(run.path / "environment.json", lambda d: d.update(command=command, resumed=[{**d, "command": again}]))
    files = public_files(run)
    assert not [name for name, data in files.items() if b"/home" in data]
    environment = json.loads(files["environment.json"])
    assert environment["command"] == "python -m seqmnist_tf.train strong --data.dir data --run-dir=x"
    assert environment["resumed"][0]["command"] == "python -m seqmnist_tf.train --run-dir 'x' --resume"
    assert without_folders("--run-dir=C:\\me\\x ~/y /home/me/cells.py:Cell") == "--run-dir=x y cells.py:Cell"
    relative = "--task.permutation seed:1 runs/x/y examples/a.py:B"
    assert without_folders(relative) == relative


HELD_OUT = {"task.validation_size": 20, "test.enabled": False, "optimizer.lr": 0.02}


def test_a_trial_is_published_apart_from_runs_and_its_score_is_recounted(command: Command, published: Path) -> None:
    source = train_command("strong", HELD_OUT)
    train(cfg.with_values(cfg.preset("strong"), HELD_OUT), Path("run"), preset="strong", command=source)
    assert command(main, "add", "run", "--name", "mine").status == 2
    assert command(main, "add", "run").status == 0
    assert command(main, "add", "run").status == 2  # published once
    (trial,) = all_trials(RESULTS)
    path, final = trial.directory.path, trial.summary["final"]
    assert path == RESULTS / "trials" / load_run("run").config_id / "seed0"
    assert {file.name for file in path.iterdir()} == {*COPIED, "steps.csv.gz", "record.json"}
    assert list(ResultsFolder.read(RESULTS).records) == ["strong"]
    assert command(main).status == 0 and command(main, "--check").status == 0
    answer = command(main, "--replay", "full", f"trials/{path.parent.name}")
    assert answer.status == 0 and "6 batches agree bit for bit, and the weights bit for bit" in answer.out
    assert recount(trial.directory) == []
    for key, other in (("val_accuracy", 0.95), ("val_loss", final["val_loss"] + 0.1)):
        put("final", value={**final, key: other})(path / "summary.json")
        assert len(recount(trial.directory)) == 1


WORDS = ["--model.layer=own.py:Last", "--model.match-parameters=150", "--task.limit-train=40", "--train.batch-size=16"]
WORDS += ["--train.n-epochs=2", "--wandb.mode=disabled", "--run-dir=run"]
SOURCE = GOOD + "open('executed', 'w').close()\n"


def was_executed() -> bool:
    """Return whether the layer's code ran since the last call; forget that it was imported."""
    for name in [name for name in sys.modules if name.startswith("seqmnist_layer_")]:
        del sys.modules[name]
    ran = Path("executed").exists()
    Path("executed").unlink(missing_ok=True)
    return ran


@pytest.mark.slow
def test_code_of_a_record_runs_only_where_it_is_allowed(command: Command, published: Path) -> None:
    Path("own.py").write_text(SOURCE)
    assert command(train_main, *WORDS).status == 0
    assert was_executed()
    refused = command(main, "add", "run", "--name", "mine")
    assert refused.status == 2 and "run has a custom layer (own.py:Last)" in refused.err
    assert "give --allow-code" in refused.err and not was_executed()
    done = command(main, "add", "run", "--name", "mine", "--allow-code")
    assert (done.status, done.out) == (0, "results/mine/seed0\n") and was_executed()
    (record,) = ResultsFolder.read(RESULTS).records["mine"]
    assert record.config.model.hidden_size == 13
    assert command(main).status == 0 and not was_executed()
    for words in (("--check",), ("--replay", "mine")):
        refused = command(main, *words)
        assert refused.status != 0 and "has a custom layer" in refused.out + refused.err and not was_executed()
        allowed = command(main, *words, "--allow-code")
        assert allowed.status == 0 and was_executed(), allowed


def test_the_code_of_an_unchanged_example_is_no_strangers() -> None:
    path = ROOT / "examples/lem.py"
    example, other = LayerFile(path, path.read_bytes()), LayerFile(path, path.read_bytes() + b"\n")
    former = ROOT / "results/board_lem/seed0/layer.py"  # whose example was changed after its runs
    assert former.read_bytes() != path.read_bytes()
    assert is_example(example) and is_example(LayerFile(path, former.read_bytes()))
    assert not is_example(None) and not is_example(other)
