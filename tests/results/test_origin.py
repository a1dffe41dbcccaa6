"""The commit and the command of a run, and its files as they are published."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.results import origin
from seqmnist_tf.results.board import Board
from seqmnist_tf.results.origin import command_problems, is_absolute, parse_command, public_command, public_config
from seqmnist_tf.results.pages import clone_problems, render_section, write_documents
from seqmnist_tf.results.publish import public_files
from seqmnist_tf.results.verify import record_problems
from seqmnist_tf.system import InputError, RunError
from seqmnist_tf.train import RunDirectory, train_command
from tests.changes import change_json, content
from tests.compare.runs import command_of
from tests.results.conftest import Repository
from tests.toy import git

SEED1 = Path("results/strong/seed1")


def test_a_tree_or_file_is_no_commit(repository: Repository, clone: Path) -> None:
    assert origin.commit_problems(clone, repository.commit) == []
    for name in (f"{repository.commit}^{{tree}}", f"{repository.commit}:pyproject.toml"):
        (problem,) = origin.commit_problems(clone, git(clone, "rev-parse", name))
        assert problem.endswith("is not a commit of this clone")


def test_a_shallow_clone_says_so(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "whole")
    for message in ("first", "second"):
        git(tmp_path / "whole", "commit", "-q", "--allow-empty", "-m", message)
    first = git(tmp_path / "whole", "rev-parse", "HEAD^")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{tmp_path / 'whole'}", "shallow")
    assert origin.commit_problems(tmp_path / "whole", first) == []
    assert origin.commit_problems(tmp_path / "shallow", first) == [
        f"its commit {first[:7]} is not in this clone, which is shallow (git fetch --unshallow)"
    ]
    (tmp_path / "nothing").mkdir()
    (problem,) = origin.commit_problems(tmp_path / "nothing", first)
    assert problem.endswith("is not a git clone (or git cannot read it)")


def test_a_run_of_a_released_version_needs_no_clone(repository: Repository, published: Path) -> None:
    def from_wheel(environment: dict[str, Any]) -> None:
        environment["git"] = {"commit": None, "dirty": None}
        environment["versions"]["seqmnist_tf"] = "9.8.7"

    change_json(SEED1 / "environment.json", from_wheel)
    assert record_problems(SEED1, Path()) == ["its commit is unknown, and version 9.8.7 is not a tag of this clone"]
    git(published, "tag", "-f", "v9.8.7", repository.commit)
    assert record_problems(SEED1, Path()) == []
    assert "| `v9.8.7` |" in render_section("runs", Board.read(Path("results")))


def test_the_parts_of_a_run_are_of_one_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    parts: list[dict[str, Any]] = []
    for message in ("one", "two"):
        git(tmp_path, "commit", "-q", "--allow-empty", "-m", message)
        commit = git(tmp_path, "rev-parse", "HEAD")
        parts.append({"git": {"commit": commit, "dirty": False}, "versions": {}})
    one_commit = "its parts must be trained from one commit (they differ)"
    assert origin.code_problems({**parts[0], "resumed": [parts[0]]}, tmp_path) == []
    assert origin.code_problems({**parts[0], "resumed": [parts[0], parts[1]]}, tmp_path) == [one_commit]


@pytest.mark.parametrize(
    ("layer", "has_file", "problem"),
    [
        ("GRU", False, None),
        ("GRU", True, "layer.py does not belong to a run whose layer is not from a file"),
        ("cells.py:Cell", True, None),
        ("cells.py:Cell", False, "layer.py is missing, the file of its layer"),
    ],
)
def test_a_record_holds_the_file_of_its_layer(layer: str, has_file: bool, problem: str | None, tmp_path: Path) -> None:
    if has_file:
        (tmp_path / "layer.py").write_text("")
    config = cfg.with_values(cfg.Config(), {"model.layer": layer})
    assert origin._layer_problems(RunDirectory(tmp_path), config) == ([problem] if problem else [])


def test_places_of_the_machine_are_not_published(runs: list[Path], clone: Path) -> None:
    run, record = RunDirectory(clone / "run"), clone / "strong" / "seed0"
    shutil.copytree(runs[0], run.path)
    (clone / "more.json").write_text('{"train": {"threads": 0}}')
    words = f"--config={clone}/more.json --data.dir /home/me/data --run-dir /home/me/runs/x"
    command = f"python -m seqmnist_tf.train strong --train.seed 0 {words}"
    again = "python -m seqmnist_tf.train --run-dir=/home/me/runs/x --resume"
    change_json(run.path / "config.json", lambda d: d["data"].update(dir="/home/me/data"))
    change_json(run.path / "config.json", lambda d: d["train"].update(threads=1))  # its share of the cores
    change_json(run.path / "environment.json", lambda d: d.update(command=command, resumed=[{**d, "command": again}]))
    config_id = run.config_id
    record.mkdir(parents=True)
    for name, data in public_files(run).items():
        (record / name).write_bytes(data)
    assert record_problems(record, clone) == []
    assert not [name for name, data in content(record).items() if b"/home" in data]
    published = RunDirectory(record)
    assert published.config_id == config_id and published.config.data.dir is None
    assert published.environment["command"] == (
        "python -m seqmnist_tf.train strong --train.threads 0 --train.seed 0 --run-dir x"
    )
    assert published.environment["resumed"][0]["command"] == "python -m seqmnist_tf.train --run-dir x --resume"


def test_a_command_without_places_is_published_as_it_is() -> None:
    command = "python -m seqmnist_tf.train  strong --train.seed=1 --run-dir 'my runs/1'"
    assert public_command(command) == command
    with pytest.raises(InputError, match=r"names a file that is not there \(--config /nowhere\)"):
        public_command("python -m seqmnist_tf.train --config /nowhere")


def test_the_place_of_a_layers_file_is_not_published() -> None:
    command = "python -m seqmnist_tf.train --model.layer /home/me/cells.py:Cell --run-dir x"
    assert public_command(command) == "python -m seqmnist_tf.train --model.layer cells.py:Cell --run-dir x"
    published = public_config({"model": {"layer": "/home/me/cells.py:Cell"}, "data": {"dir": None}})
    assert published == {"model": {"layer": "cells.py:Cell"}, "data": {"dir": None}}
    assert public_config({"model": {"layer": "examples/cells.py:Cell"}}) == {
        "model": {"layer": "examples/cells.py:Cell"}
    }


@pytest.mark.parametrize(
    ("word", "absolute"),
    [("/x", True), ("~/x", True), ("C:\\x", True), ("\\\\host\\x", True), ("x/y", False), ("m:Layer", False)],
)
def test_absolute_paths(word: str, absolute: bool) -> None:
    assert is_absolute(word) is absolute


def test_a_command_is_parsed_as_train_does() -> None:
    args = parse_command("python -m seqmnist_tf.train --resume strong --train.n-epochs 3 --run_dir x")
    assert (args.preset, args.given, args.options.resume) == ("strong", {"train.n_epochs": 3}, "required")
    assert parse_command("python -m seqmnist_tf.train --run-dir x --resume auto sgd").options.resume == "auto"


def test_a_record_without_predictions_is_not_whole(published: Path) -> None:
    (SEED1 / "predictions.csv").unlink()
    manifest = Path("results/SHA256SUMS")
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(line for line in lines if "seed1/predictions" not in line))
    assert clone_problems() == ["results/strong/seed1: predictions.csv is missing"]
    with pytest.raises(RunError, match=r"nothing was written: results/strong/seed1: predictions\.csv is missing"):
        write_documents()


def test_a_layers_text_cannot_end_its_fence(published: Path) -> None:
    (SEED1 / "layer.py").write_text('"""\n```\n````\n# <b>\n"""\n')
    text = render_section("layers", Board.read(Path("results")))
    assert text.splitlines()[0] == "[`strong`, seed 1](results/strong/seed1):"
    assert text.splitlines()[2] == "`````python" and text.splitlines()[-1] == "`````"
    (SEED1 / "layer.py").unlink()
    assert render_section("layers", Board.read(Path("results"))) == "No published run has a layer of its own."


def test_the_latex_row_of_a_name_with_an_underscore_compiles(published: Path) -> None:
    Path("results/strong").rename("results/my_run")
    text = render_section("rows_to_paste", Board.read(Path("results")))
    latex = text.split("```latex\n")[1].split("```")[0]
    assert r"\texttt{my\_run}" in latex and "LSTM(16)" in latex
    assert "_" not in latex.replace(r"\_", "")


def test_the_command_of_a_comparisons_run_gives_its_configuration() -> None:
    values = {"train.seed": 3, "model.layer": "GRU", "model.match_parameters": 67_850, "model.hidden_size": 146}
    config = cfg.with_values(cfg.Config(), values)
    command = command_of(config, Path("out/strong/seed3"))
    preset = parse_command(command).preset
    again = {"command": train_command(run_dir="out/strong/seed3", resume="required"), "preset": preset}
    environment = {"command": command, "preset": preset, "resumed": [again]}
    assert command_problems(config, environment) == []
    assert command_problems(cfg.Config(), environment) != []
