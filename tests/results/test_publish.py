"""Publishing a run: it is copied unchanged, and every contradiction between its files is found."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.results import publish, verify
from seqmnist_tf.results.__main__ import main
from seqmnist_tf.results.board import Board
from seqmnist_tf.results.pages import render_section
from seqmnist_tf.results.publish import public_files
from seqmnist_tf.train import RunDirectory, train, train_command
from tests.changes import change_json, content
from tests.conftest import Command
from tests.results.files import read_records
from tests.toy import git


def test_a_run_is_published_unchanged(command: Command, runs: list[Path], clone: Path) -> None:
    assert command(main, "add", str(runs[0]), "--name", "strong").out == "results/strong/seed0\n"
    record = clone / "results" / "strong" / "seed0"
    names = {"config.json", "environment.json", "history.jsonl", "model.keras", "pixel_order.txt", "summary.json"}
    assert {path.name for path in record.iterdir()} == {*names, "steps.csv.gz", "predictions.csv", "record.json"}
    assert (record / "predictions.csv").read_bytes() == (runs[0] / "predictions.csv").read_bytes()
    document = json.loads((record / "record.json").read_text())
    assert document["schema"] == 1
    (replayed,) = document["replayed"]
    assert (replayed["batches"], replayed["largest_difference"]) == (6, 0)
    assert replayed["kernel"] == json.loads((runs[0] / "environment.json").read_text())["kernel"]
    for name in names:
        assert (record / name).read_bytes() == (runs[0] / name).read_bytes()
    assert gzip.decompress((record / "steps.csv.gz").read_bytes()) == (runs[0] / "steps.csv").read_bytes()
    manifest = (clone / "results" / "SHA256SUMS").read_text().splitlines()
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(record.iterdir())]
    assert manifest == [f"{h}  strong/seed0/{p.name}" for h, p in zip(hashes, sorted(record.iterdir()), strict=True)]

    before = content(clone)
    again = command(main, "add", str(runs[0]), "--name", "strong")
    assert (again.status, again.err.count("already published")) == (2, 1)
    assert content(clone) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("No Name", "--name must be 1 to 40 of a-z"),
        ("../up", "--name must be 1 to 40 of a-z"),
        ("a" * 41, "--name must be 1 to 40 of a-z"),
        ("full", "and not full or plots"),
        ("baseline", "the name baseline is of configuration 44136fa355b3"),
        ("best", "is that of strong (give --name strong, and no setting that differs)"),
    ],
)
def test_a_name_of_another_experiment_is_refused(
    name: str, message: str, command: Command, runs: list[Path], clone: Path
) -> None:
    before = content(clone)
    refused = command(main, "add", str(runs[0]), "--name", name)
    assert refused.status == 2 and message in refused.err
    assert content(clone) == before


def test_a_name_stands_for_one_experiment(command: Command, runs: list[Path], published: Path) -> None:
    shutil.copytree(published / "results" / "strong", published / "results" / "mine")
    config = published / "results" / "mine" / "seed0" / "config.json"
    change_json(config, lambda d: d["optimizer"].update(lr=0.5))
    refused = command(main, "add", str(runs[1]), "--name", "mine")
    assert refused.status == 2 and "the name mine is of configuration" in refused.err


def test_a_seed_that_diverged_is_published_and_shown(command: Command, published: Path) -> None:
    values = {"optimizer.name": "SGD", "optimizer.lr": 1e38, "optimizer.grad_clip_norm": None}
    values["optimizer.grad_clip_value"] = None
    config = cfg.with_values(cfg.preset("strong"), values)
    summary = train(config, Path("run"), preset="strong", command=train_command("strong", values))
    assert summary["status"] == "diverged"
    added = command(main, "add", "run", "--name", "wild")
    assert (added.out, added.status) == ("results/wild/seed0\n", 0), added.err
    record, (first, *_) = published / "results" / "wild" / "seed0", read_records(Path("results"))["strong"]
    assert not (record / "model.keras").exists() and not (record / "predictions.csv").exists()
    assert verify.folder_problems(Path("results")) == []
    replayed = command(main, "--replay", "full", "wild")
    assert replayed.status == 0 and "bit for bit" in replayed.out
    board = Board.read(Path("results"))
    assert list(board.records) == ["strong"]
    assert f"| diverged: {summary['reason']} |  |  |  |  | `" in render_section("runs", board)
    assert "`wild`, seed 0, diverged (" in render_section("seeds", board)
    board.diverged[0] = dataclasses.replace(board.diverged[0], name="strong")
    assert "| `strong` | sMNIST, 40 training images | 2 of 3 | **" in render_section("summary", board)
    assert "of 2 of 3 seeds)" in render_section("headline", board)
    assert "1 of its seeds diverged and are left out" in " ".join(render_section("rows_to_paste", board).split())
    shutil.copy(first.run.path / "model.keras", record)
    assert "model.keras is of a run that diverged" in verify.record_problems(record, published)
    change_json(record / "summary.json", lambda d: d.pop("reason"))
    assert "summary.json has no reason" in verify.record_problems(record, published)
    change_json(first.run.path / "summary.json", lambda d: d.update(status="diverged"))  # a bad seed, hidden
    hidden = command(main, "--replay", "full", "strong/seed0")
    assert hidden.status == 1 and "trained anew, it does not diverge" in hidden.out


def test_a_name_that_is_taken_during_the_checks_is_refused(
    command: Command, runs: list[Path], clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([[], ["its name was taken meanwhile"]])
    monkeypatch.setattr(publish, "name_problems", lambda *_: next(answers))
    monkeypatch.setattr(publish, "_checked_anew", lambda *_: {})
    before = content(clone)
    refused = command(main, "add", str(runs[0]), "--name", "strong")
    assert refused.status == 2 and "is not published: its name was taken meanwhile" in refused.err
    assert {name: data for name, data in content(clone).items() if name != "results/.lock"} == before


def test_a_commit_that_was_amended_is_refused(command: Command, runs: list[Path], clone: Path) -> None:
    amended = shutil.copytree(runs[0], clone / "run")
    commit = git(clone, "commit-tree", "-m", "before it was amended", "HEAD^{tree}")
    change_json(amended / "environment.json", lambda d: d["git"].update(commit=commit))
    before = content(clone)
    refused = command(main, "add", "run", "--name", "strong")
    assert refused.status == 2 and f"its commit {commit[:7]} is not in the history of HEAD (commits" in refused.err
    assert content(clone) == before


def test_a_folder_that_cannot_be_written_is_reported_at_once(
    command: Command, runs: list[Path], clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access

    def deny(path: Any, *mode: Any, **words: Any) -> bool:
        return str(path) != "results" and access(path, *mode, **words)

    monkeypatch.setattr(os, "access", deny)
    refused = command(main, "add", str(runs[0]), "--name", "strong")
    assert refused.status == 2
    assert refused.err == "error: nothing can be published in results: results is not a writable folder\n"


def test_a_file_that_cannot_be_read_is_reported(
    command: Command, runs: list[Path], clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_bytes = Path.read_bytes

    def deny(path: Path) -> bytes:
        if path.name == "model.keras":
            raise PermissionError(13, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", deny)
    refused = command(main, "add", str(runs[0]), "--name", "strong")
    assert refused.status == 2
    assert refused.err.endswith(f"is not published: cannot read {runs[0] / 'model.keras'}: Permission denied\n")


def test_a_record_is_added_like_a_run(command: Command, published: Path) -> None:
    again = command(main, "add", "results/strong/seed1", "--name", "strong")
    assert (again.status, again.err.count("already published")) == (2, 1), again.err
    record = published / "results" / "strong" / "seed1"
    files = public_files(RunDirectory(record))
    assert files == {name: data for name, data in content(record).items() if name != "record.json"}


def test_a_missing_run_is_reported(command: Command, clone: Path) -> None:
    refused = command(main, "add", "nowhere", "--name", "mine")
    assert refused.status == 2 and "no run at nowhere" in refused.err
    refused = command(main, "add", 300 * "x", "--name", "mine")
    assert refused.status == 2 and "File name too long" in refused.err
