"""Publishing a run: it is copied unchanged, and every contradiction between its files is found."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from seqmnist_tf.results.__main__ import main
from seqmnist_tf.results.records import read_records
from tests.conftest import Result
from tests.results.files import change_json, content


def test_a_run_is_published_unchanged(command: Callable[..., Result], runs: list[Path], clone: Path) -> None:
    assert command(main, "add", str(runs[0]), "--name", "strong").out == "results/strong/seed0\n"
    record = clone / "results" / "strong" / "seed0"
    names = {"config.json", "environment.json", "history.jsonl", "model.keras", "pixel_order.txt", "summary.json"}
    assert {path.name for path in record.iterdir()} == {*names, "steps.csv.gz"}
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
    assert command(main, "add", str(runs[1]), "--name", "strong").status == 0
    assert [record.seed for record in read_records(Path("results"))["strong"]] == [0, 1]


def change_row(path: Path, number: int, **values: Any) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[number].update(values)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def other_weights(path: Path) -> None:
    model = keras.saving.load_model(path, compile=False)
    model.set_weights([-weights for weights in model.get_weights()])
    model.save(path)


def other_layers(path: Path) -> None:
    lstm, dense = keras.layers.LSTM(16), keras.layers.Dense(10)
    keras.Sequential([keras.Input((784, 1)), lstm, keras.layers.ReLU(), dense]).save(path)


def drop_last_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


TAMPERING: list[tuple[str, Callable[[Path], Any], str]] = [
    ("summary.json", lambda p: change_json(p, lambda d: d.update(status="diverged")), "status must be completed"),
    ("summary.json", lambda p: change_json(p, lambda d: d.update(seed=7)), "seed in summary.json does not match"),
    (
        "summary.json",
        lambda p: change_json(p, lambda d: d.update(escape_epoch=9)),
        "escape_epoch in summary.json does not match",
    ),
    (
        "summary.json",
        lambda p: change_json(p, lambda d: d.update(num_params=1)),
        "num_params in summary.json does not match",
    ),
    ("summary.json", lambda p: change_json(p, lambda d: d["final"].update(test_correct=1)), "is not test_correct"),
    (
        "summary.json",
        lambda p: change_json(p, lambda d: d["final"].update(test_loss=9.0)),
        "test_loss in summary.json does not match the last epoch",
    ),
    (
        "summary.json",
        lambda p: change_json(p, lambda d: d.pop("final")),
        "not in the format of a run directory (KeyError: 'final')",
    ),
    (
        "summary.json",
        lambda p: change_json(p, lambda d: d["final"].update(test_correct=5, test_accuracy=0.0005)),
        "summary.json says 5",
    ),
    ("history.jsonl", drop_last_line, "must have epochs 1 to 2"),
    ("history.jsonl", lambda p: change_row(p, 0, train_loss=1.0), "train_loss of epoch 1 is not the mean"),
    ("history.jsonl", lambda p: change_row(p, 0, test_accuracy=0.12345), "is not a whole number of 10,000 images"),
    ("history.jsonl", lambda p: change_row(p, 1, learning_rate=0.01), "learning_rate of epoch 2 must be 0.005"),
    ("history.jsonl", lambda p: change_row(p, 1, seconds=1e4), "seconds_total in summary.json does not match"),
    ("steps.csv", drop_last_line, "must have steps 1 to 6"),
    ("steps.csv", lambda p: p.write_text(re.sub(r"\n3,.*\n", "\n3,2.5\n", p.read_text())), "is not the mean"),
    ("config.json", lambda p: change_json(p, lambda d: d["train"].update(n_epochs=3)), "must have epochs 1 to 3"),
    (
        "config.json",
        lambda p: change_json(p, lambda d: d["optimizer"].update(beta_1=0.8)),
        "config_id in summary.json does not match",
    ),
    ("config.json", lambda p: change_json(p, lambda d: d["test"].update(enabled=False)), "tested on all 10,000"),
    (
        "config.json",
        lambda p: change_json(p, lambda d: d["task"].update(permutation="file:/nowhere")),
        "pixel order must be reproducible",
    ),
    (
        "environment.json",
        lambda p: change_json(p, lambda d: d.update(config_id="0" * 12)),
        "config_id in environment.json does not match",
    ),
    ("environment.json", lambda p: change_json(p, lambda d: d["git"].update(dirty=True)), "trained from a commit"),
    ("environment.json", lambda p: change_json(p, lambda d: d["git"].update(commit=None)), "trained from a commit"),
    (
        "environment.json",
        lambda p: change_json(p, lambda d: d["resumed"].append({"git": {"commit": "ab", "dirty": True}})),
        "trained from a commit",
    ),
    ("model.keras", other_weights, "test digits correctly (summary.json says"),
    ("model.keras", other_layers, "is not the model of its configuration: its layers must be "),
    ("model.keras", lambda p: p.write_bytes(p.read_bytes()[:1000]), "give a whole Keras model"),
    ("model.keras", lambda p: p.unlink(), "has no model.keras"),
    ("steps.csv", lambda p: p.unlink(), "must have steps 1 to 6"),
]


@pytest.mark.parametrize(("name", "tamper", "message"), TAMPERING)
def test_a_run_that_contradicts_itself_is_refused(
    name: str,
    tamper: Callable[[Path], Any],
    message: str,
    command: Callable[..., Result],
    runs: list[Path],
    clone: Path,
) -> None:
    run = clone / "run"
    shutil.copytree(runs[0], run)
    tamper(run / name)
    before = content(clone)
    refused = command(main, "add", "run", "--name", "mine")
    assert (refused.status, refused.err.count("\n"), refused.err[:7]) == (2, 1, "error: ")
    assert message in refused.err
    assert content(clone) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("No Name", "--name must be 1 to 40 of a-z"),
        ("../up", "--name must be 1 to 40 of a-z"),
        ("a" * 41, "--name must be 1 to 40 of a-z"),
        ("baseline", "--name baseline is the name of configuration 44136fa355b3"),
    ],
)
def test_a_name_of_another_experiment_is_refused(
    name: str, message: str, command: Callable[..., Result], runs: list[Path], clone: Path
) -> None:
    before = content(clone)
    refused = command(main, "add", str(runs[0]), "--name", name)
    assert refused.status == 2 and message in refused.err
    assert content(clone) == before


def test_a_name_stands_for_one_experiment(command: Callable[..., Result], runs: list[Path], published: Path) -> None:
    shutil.copytree(published / "results" / "strong", published / "results" / "mine")
    config = published / "results" / "mine" / "seed0" / "config.json"
    change_json(config, lambda d: d["optimizer"].update(lr=0.5))
    refused = command(main, "add", str(runs[1]), "--name", "mine")
    assert refused.status == 2 and "--name mine is the name of configuration" in refused.err


def test_a_missing_run_is_reported(command: Callable[..., Result], clone: Path) -> None:
    refused = command(main, "add", "nowhere", "--name", "mine")
    assert refused.status == 2 and "no run at nowhere" in refused.err
