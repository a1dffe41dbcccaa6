"""Forged records are refused, each with one line, before they are published and after."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from seqmnist_tf.results import model_check, replay, verify
from seqmnist_tf.results.__main__ import main
from seqmnist_tf.results.records import Record
from seqmnist_tf.results.store import read_manifest, write_manifest
from seqmnist_tf.train import load_run
from tests.changes import change_json, content, row
from tests.conftest import Command
from tests.results.files import list_record, read_records
from tests.results.forgeries import FORGERIES, Forgery

RESULTS = Path("results")


def name(forgery: Forgery) -> str:
    return f"{forgery.file}-{forgery.name}".replace(" ", "-")


def says(line: str, forgery: Forgery) -> bool:
    return any(words in line for words in forgery.message.split("|")) or forgery.message in line


@pytest.mark.parametrize("forgery", [case for case in FORGERIES if case.added], ids=name)
def test_a_forged_run_is_not_published(forgery: Forgery, command: Command, runs: list[Path], clone: Path) -> None:
    shutil.copytree(runs[0], clone / "run")
    forgery.change(clone / "run" / forgery.file)
    before = content(clone)
    refused = command(main, "add", "run", "--name", "strong")
    errors = [line for line in refused.err.splitlines() if "error: " in line]
    assert refused.status == 2 and len(errors) == 1 and errors[0].startswith("error: "), refused
    assert says(errors[0], forgery), errors
    assert "/tmp" not in errors[0].replace(str(clone), "")
    assert content(clone) == before


def forge(record: Path, forgery: Forgery) -> None:
    """Change a file of a published record, which has ``steps.csv`` compressed."""
    packed, steps = record / "steps.csv.gz", record / "steps.csv"
    steps.write_bytes(gzip.decompress(packed.read_bytes()))
    forgery.change(record / forgery.file)
    packed.write_bytes(gzip.compress(steps.read_bytes(), mtime=0))
    steps.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("forgery", [case for case in FORGERIES if case.replayed], ids=name)
def test_a_forgery_that_nothing_else_finds_is_found_by_a_whole_replay(
    forgery: Forgery, command: Command, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "REPLAYED_BATCHES", 2)
    record = RESULTS / "strong" / "seed1"
    forge(record, forgery)
    list_record(record)
    before = (record / "record.json").read_bytes()
    answer = command(main, "--replay", "full", "strong/seed1", "--write")
    assert answer.status == 1 and says(answer.out, forgery), answer
    assert (record / "record.json").read_bytes() == before


CHECKED = [case for case in FORGERIES if (case.checked or not case.added) and not case.replayed]


@pytest.mark.parametrize("forgery", CHECKED, ids=name)
def test_a_forged_record_is_found_though_the_manifest_agrees(forgery: Forgery, published: Path) -> None:
    record = RESULTS / "strong" / "seed1"
    forge(record, forgery)
    link = next((path for path in record.iterdir() if path.is_symlink()), None)
    if link is None:
        list_record(record)
        problems = verify.folder_problems(RESULTS)
    else:
        problems = verify.record_problems(record, Path())  # the manifest would follow it
    problems = problems or verify.all_model_problems(read_records(RESULTS)["strong"])
    assert any(says(problem, forgery) for problem in problems), problems
    assert all(problem.isprintable() for problem in problems)


def test_the_test_loss_and_the_parameters_are_those_of_the_model(published: Path) -> None:
    run = load_run(RESULTS / "strong" / "seed1")
    change_json(run.path / "summary.json", lambda d: d["final"].update(test_loss=1.0005 * d["final"]["test_loss"]))
    (problem,) = model_check.evaluation_problems(run)[0]
    assert problem.startswith("model.keras has test loss ")
    change_json(run.path / "summary.json", lambda d: d.update(num_params=d["num_params"] - 1))
    (problem,) = model_check.ModelCheck().check(run)[0]
    assert "parameters (summary.json says " in problem


def test_a_model_is_not_published_under_two_seeds(published: Path) -> None:
    for file in ("model.keras", "predictions.csv"):
        shutil.copy(RESULTS / "strong" / "seed0" / file, RESULTS / "strong" / "seed1" / file)
    assert verify.all_model_problems(read_records(RESULTS)["strong"]) == [
        "results/strong/seed1: its model is of results/strong/seed0"
    ]


def test_a_model_is_not_added_under_a_second_seed(command: Command, runs: list[Path], published: Path) -> None:
    shutil.rmtree(RESULTS / "strong" / "seed1")
    write_manifest(RESULTS, {path: h for path, h in read_manifest(RESULTS).items() if "seed1" not in path})
    run = published / "run"
    shutil.copytree(runs[1], run)
    for file in ("model.keras", "predictions.csv"):
        shutil.copy(runs[0] / file, run / file)
    final = json.loads((runs[0] / "summary.json").read_text())["final"]
    change_json(run / "summary.json", lambda d: d.update(final=final))
    row(1, test_loss=final["test_loss"], test_accuracy=final["test_accuracy"])(run / "history.jsonl")
    before = content(published)
    refused = command(main, "add", "run", "--name", "strong")
    assert refused.status == 2 and "its model is of results/strong/seed0" in refused.err
    assert content(published) == before


def test_a_history_is_not_published_under_two_seeds(command: Command, runs: list[Path], published: Path) -> None:
    run = published / "run"
    shutil.copytree(runs[0], run)
    change_json(run / "config.json", lambda d: d["train"].update(seed=5))
    change_json(run / "summary.json", lambda d: d.update(seed=5))
    change_json(run / "environment.json", lambda d: d.update(seed=5, command=d["command"].replace("seed 0", "seed 5")))
    refused = command(main, "add", "run", "--name", "strong")
    assert refused.status == 2 and "its history is of results/strong/seed0" in refused.err
    shutil.rmtree(RESULTS / "strong" / "seed1")
    shutil.copytree(RESULTS / "strong" / "seed0", RESULTS / "strong" / "seed5")
    for file in ("config.json", "summary.json", "environment.json"):
        shutil.copy(run / file, RESULTS / "strong" / "seed5" / file)
    manifest = {path: h for path, h in read_manifest(RESULTS).items() if "seed1" not in path}
    write_manifest(RESULTS, manifest)
    list_record(RESULTS / "strong" / "seed5")
    assert verify.folder_problems(RESULTS) == ["results/strong/seed5: its history is of results/strong/seed0"]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("optimizer", "rho", 0.5), ("model", "match_parameters", 1_400)],  # of RMSProp, and the run has Adam; 16 units
)
def test_a_setting_that_changes_nothing_gives_no_second_name(
    section: str, key: str, value: float, command: Command, runs: list[Path], published: Path
) -> None:
    run = published / "run"
    shutil.copytree(runs[0], run)
    change_json(run / "config.json", lambda d: d[section].update({key: value}))
    new = load_run(run).config_id
    change_json(run / "summary.json", lambda d: d.update(config_id=new))
    change_json(
        run / "environment.json", lambda d: d.update(config_id=new, command=f"{d['command']} --{section}.{key} {value}")
    )
    refused = command(main, "add", "run", "--name", "tuned")
    assert refused.status == 2 and f"its configuration {new} is that of strong (give --name strong" in refused.err


def test_a_run_is_not_published_under_two_names(published: Path) -> None:
    one, other = (Record.read(RESULTS / "strong" / name) for name in ("seed0", "seed1"))
    assert verify.history_problem(one, other) == []
    in_part = replace(other, history=[one.history[0], *other.history[1:]])  # one epoch of another seed
    assert verify.history_problem(in_part, one) == ["its history is of results/strong/seed0"]
    same_seed = replace(other, history=one.history, config=one.config)
    assert verify.history_problem(same_seed, one) == ["its history is of results/strong/seed0"]
    longer = replace(same_seed, history=[*one.history, {**one.history[-1], "train_loss": 1.0}])  # it goes on
    assert verify.history_problem(longer, one) == []
    averaged = replace(same_seed, history=[{**row, "val_loss": 1.0} for row in one.history])  # and held-out images
    assert verify.history_problem(averaged, one) == []
