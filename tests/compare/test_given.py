"""Comparisons of runs that exist. Nothing is trained here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.compare import compare, pictures
from seqmnist_tf.compare.__main__ import main as compare_main
from seqmnist_tf.system import InputError, RunError
from seqmnist_tf.train import RunDirectory, load_run, lock_folder
from tests.changes import Change, put, text
from tests.compare.runs import TOTAL, completed_run, make_arm, some_right
from tests.conftest import Command
from tests.toy import write_logs

A, B = dict(enumerate([20, 21, 19, 22, 20, 18])), dict(enumerate([23, 24, 22, 25, 23]))
pytestmark = pytest.mark.usefixtures("toy")


def diverge(path: Path) -> None:
    """Make a run one that diverged in its first batch."""
    (path / "predictions.csv").unlink()
    (path / "history.jsonl").write_text("")
    write_logs(load_run(path), [], "diverged")


def test_arms_of_another_size_are_noted_and_two_seeds_have_no_interval(in_tmp: Path, no_pictures: None) -> None:
    make_arm(in_tmp / "a", {0: 20, 1: 21})
    make_arm(in_tmp / "b", {0: 20, 1: 20}, model__hidden_size=5)
    comparison = compare(["a", "b"], directory="out")
    assert [arm.to_json()["ci_95"] for arm in comparison.arms] == [None, None] and comparison.pairs[0].ci_95 is None
    assert "b: its 200 parameters are not the 146 of a" in comparison.markdown


def test_runs_that_exist_give_the_documented_json(
    command: Command, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_arm(in_tmp / "a", A)
    make_arm(in_tmp / "b", B, optimizer__lr=0.5)
    read: list[Path] = []
    read_config = cfg.read_config

    def counted(path: Path) -> cfg.Config:
        read.append(path)
        return read_config(path)

    monkeypatch.setattr(cfg, "read_config", counted)
    result = command(compare_main, "a", "b", "--dir=out", "--json")
    assert result.status == 0, result.err
    assert len(read) == len(set(read)) == len(A) + len(B)  # each run's config.json once
    document = json.loads(result.out)
    assert document == json.loads((in_tmp / "out/comparison.json").read_text())
    a, b = document["arms"]
    assert (a["name"], a["num_params"], a["units"], a["seeds"]) == ("a", 146, 4, [0, 1, 2, 3, 4, 5])
    assert a["config_id"] == RunDirectory(in_tmp / "a/run-0").config_id != b["config_id"]
    assert a["test_accuracy"] == [number / TOTAL for number in A.values()]
    (pair,) = document["pairs"]
    keys = ["a", "b", "mean_difference", "ci_95", "permutation_p", "holm_p", "equivalent"]
    assert list(pair) == keys and (pair["a"], pair["b"]) == ("a", "b")
    names = {"arms.json", "comparison.json", "report.md", "row.md", "row.tex", "row.csv", "cite.bib"}
    names |= {f"{name}.{kind}" for name in ("curves", "differences", "disagreements") for kind in ("png", "pdf")}
    written = {path.name: path.read_bytes() for path in (in_tmp / "out").iterdir() if path.name[0] != "."}
    assert set(written) == names
    assert command(compare_main, "a", "b", "--dir=out").status == 0
    assert {name: (in_tmp / "out" / name).read_bytes() for name in names} == written

    def fail(*_: object) -> None:
        raise RunError("no source of MNIST could be reached")

    monkeypatch.setattr(pictures, "load_test", fail)
    compare(["a", "b"], directory="out")
    assert {path.name for path in (in_tmp / "out").glob("*.png")} == {"curves.png", "differences.png"}


def test_seeds_that_diverged_count_as_failed(in_tmp: Path, no_pictures: None) -> None:
    make_arm(in_tmp / "a", A)
    make_arm(in_tmp / "b", A, optimizer__lr=0.5)
    for number in (7, 5):  # of the seeds 1 and 4
        diverge(in_tmp / f"b/run-{number}")
    b = compare(["a", "b"], directory="out").arm("b")
    assert (b.seeds, b.diverged, b.failed, b.failures) == ((0, 2, 3, 5), (1, 4), 2, "2 of 6")


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("summary.json", Path.unlink, "a/run-0"),
        ("summary.json", text('{"status": "interrupted"}'), "a/run-0"),
        ("summary.json", put("final", "test_correct", value=21), "a/run-0/predictions.csv"),
        ("predictions.csv", Path.unlink, "a/run-0 has no model.keras"),
        ("config.json", text("{"), "a/run-0/config.json"),
        ("config.json", put("model", "layer", value="harmful_module:Own"), "--allow-code"),
    ],
)
def test_runs_that_are_refused(
    file: str,
    damage: Change,
    message: str,
    command: Command,
    in_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_pictures: None,
) -> None:
    for arm in ("a", "b"):
        completed_run(in_tmp / arm / "run-0", 0, some_right(20))
    monkeypatch.syspath_prepend(in_tmp)
    (in_tmp / "harmful_module.py").write_text("open('HARMED', 'w')\n")
    damage(in_tmp / "a/run-0" / file)
    result = command(compare_main, "a", "b", "--dir=out")
    assert result.status == 2 and message in result.err.splitlines()[-1] and "Traceback" not in result.err
    assert not (in_tmp / "HARMED").exists() and not (in_tmp / "out/report.md").exists()


def test_a_layer_file_beside_a_layer_of_keras_is_never_run(command: Command, in_tmp: Path, no_pictures: None) -> None:
    for arm in ("a", "b"):
        completed_run(in_tmp / arm / "run-0", 0, some_right(20))
    (in_tmp / "a/run-0/layer.py").write_text("open('HARMED', 'w')\n")
    assert command(compare_main, "a", "b", "--dir=out").status == 0
    assert (in_tmp / "out/report.md").exists() and not (in_tmp / "HARMED").exists()
    with lock_folder(Path("out"), "the other"), pytest.raises(InputError, match="in use by another process"):
        compare(["a", "b"], directory="out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "ARM"),
        (["a", "--dir=out", "--train.epochs=3"], "train.epochs"),
        (["a", "--dir=out", "--epochs=3"], "--epochs"),
        (["a", "--dir=out", "--train.seed"], "train.seed"),
        (["a", "--dir=file"], "file"),
        (["a", "--dir=a"], "a holds other files"),
        (["a", "--dir=out", "--seeds=4-6"], "--seeds"),
        (["a", "--dir=out", "--train.n-epochs=4"], "train.n_epochs"),
        (["baseline", "--dir=out", "--train.seed=3"], "train.seed"),
        (["strong", "--dir=out", "--seeds=0", "--address=127.0.0.1:9"], "127.0.0.1:9"),
    ],
)
def test_command_lines_that_are_refused(words: list[str], message: str, command: Command, in_tmp: Path) -> None:
    completed_run(in_tmp / "a", 0, some_right(20))
    (in_tmp / "file").write_text("")
    result = command(compare_main, *words)
    assert result.status == 2 and "Traceback" not in result.err
    assert result.err.splitlines()[-1].startswith("error: ") and message in result.err.splitlines()[-1]
    assert sorted(path.name for path in in_tmp.iterdir()) == ["a", "file"]
