"""Comparisons of runs that exist: pairs, words, refusals. Nothing is trained here."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.compare import compare, comparing, plan
from seqmnist_tf.compare.__main__ import main as compare_main
from seqmnist_tf.compare.arms import parse_arms
from seqmnist_tf.engine import Job
from seqmnist_tf.system import InputError, RunError
from seqmnist_tf.train import RunDirectory, load_run, lock_folder
from tests.changes import Change, change_json, first_lines, put, replace, text
from tests.compare.runs import TOTAL, completed_run, make_arm, some_right
from tests.conftest import Command
from tests.toy import write_logs

ACCURACIES = {0: 20, 1: 21, 2: 19, 3: 22, 4: 20, 5: 18}
pytestmark = pytest.mark.usefixtures("toy")


def test_a_folder_that_cannot_be_read_is_refused(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    (in_tmp / "a").mkdir()
    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(InputError, match=r"cannot read a: Permission denied \(give a folder that can be read\)"):
        compare(["a"], directory="out")


def test_a_run_whose_layer_cannot_be_read_is_refused(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_arm(in_tmp / "a", {0: 20})

    def fail(run: RunDirectory) -> Any:
        raise PermissionError(13, "Permission denied", str(run.path / "layer.py"))

    monkeypatch.setattr(RunDirectory, "config_id", property(fail))
    with pytest.raises(InputError, match=r"cannot read a/run-0/layer.py: Permission denied"):
        compare(["a"], directory="out")


def test_missing_seeds_are_not_trained_with_another_version_of_the_layer(in_tmp: Path) -> None:
    make_arm(in_tmp / "a", {0: 20})
    change_json(in_tmp / "a/run-0/environment.json", lambda d: d.update(layer_code="old"))
    with pytest.raises(InputError, match=r"is a run of another version of LSTM \(give --seeds that it has"):
        compare(["a"], seeds="0,1", directory="out")


def test_a_run_of_another_seed_is_not_that_of_a_comparison(in_tmp: Path) -> None:
    completed_run(in_tmp / "out/a/seed1", 0, some_right(20))
    config = load_run(in_tmp / "out/a/seed1").config
    path, experiment = Path("out/a/seed1"), cfg.config_id(config)
    run = plan.PlannedRun("a", 1, Job(path, "a seed 1", cfg.with_values(config, {"train.seed": 1})))
    with pytest.raises(InputError, match=r"is a run of another configuration: train\.seed is 0 there and 1 here"):
        plan._require_own(run, experiment)
    plan._require_own(plan.PlannedRun("a", 0, Job(path, "a seed 0", config)), experiment)


def test_a_run_that_diverged_is_named_in_the_report(in_tmp: Path) -> None:
    make_arm(in_tmp / "a", {0: 20})
    compare(["a"], directory="out")
    for seed in (7, 8):
        shutil.copytree(in_tmp / "a/run-0", in_tmp / f"out/a/seed{seed}")
    (in_tmp / "out/a/seed8/config.json").unlink()  # what is left of a run
    (in_tmp / "out/a/seed8/summary.json").write_text('{"status": "diverged"}')
    (in_tmp / "out/a/seed7/summary.json").write_text('{"status": "diverged"}')
    completed_run(in_tmp / "out/a/seed9", 9, some_right(20), optimizer__lr=0.5)  # of another experiment
    (in_tmp / "out/a/seed9/summary.json").write_text('{"status": "diverged"}')
    report = compare(["a"], directory="out").markdown
    assert "- a is compared without seed 7, which diverged: this favours a." in report.splitlines()


def diverge(path: Path) -> None:
    """Make a run one that diverged in its first batch."""
    (path / "predictions.csv").unlink()
    (path / "history.jsonl").write_text("")
    write_logs(load_run(path), [], "diverged")


def diverge_with_another_recipe(path: Path) -> None:
    shutil.rmtree(path)
    completed_run(path, 4, some_right(20))
    diverge(path)


def test_the_seeds_of_a_folder_that_diverged_are_left_out_and_not_trained_again(in_tmp: Path) -> None:
    for name in ("a", "b"):
        make_arm(in_tmp / name, ACCURACIES, **({"optimizer__lr": 0.5} if name == "b" else {}))
    for number in (7, 5):  # of the seeds 1 and 4
        diverge(in_tmp / f"b/run-{number}")
    for seeds, paired in (("0-4", (0, 2, 3)), ("0-2", (0, 2)), (None, (0, 2, 3, 5))):
        comparison = compare(["a", "b"], seeds=seeds, directory="out")
        assert comparison.arms[1].diverged == (1, 4) and comparison.pairs[0].seeds == paired
        assert "- b is compared without seed 1, 4, which diverged: this favours b." in comparison.markdown.splitlines()
    assert comparison.statements[1].endswith(" % test accuracy (4 of 6 seeds, 60.00 to 73.33 %).")
    assert (in_tmp / "out/row.md").read_text().splitlines()[3].endswith("| 4 of 6 |")
    assert (in_tmp / "out/row.tex").read_text().splitlines()[1].endswith(r"& 4 of 6 \\")
    said = "Each model was trained with 6 seeds, of which 2 of b diverged and have no accuracy; reported is"
    assert said in (in_tmp / "out/report.md").read_text()
    with pytest.raises(InputError, match=r"b has no result of --seeds 1, 4 \(it has those of 0, 2, 3, 5\)"):
        compare(["a", "b"], seeds="1,4", directory="out")
    shutil.copytree(in_tmp / "b", in_tmp / "out/c")
    shutil.move(in_tmp / "out/c/run-7", in_tmp / "out/c/seed1")
    assert compare(["a", "out/c"], directory="out").arms[1].diverged == (1, 4)  # which is the comparison's own folder


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("run-5", diverge_with_another_recipe, "b has runs of different configurations: b/run-0"),
        ("run-5/environment.json", put("layer_code", value="old"), "b has runs with different versions of LSTM"),
        ("run-5/summary.json", put("epochs", value=1), "b/run-5 cannot be compared: epochs in summary.json does not"),
        ("run-5/summary.json", put("status", value="completed"), "b/run-5 cannot be compared: history.jsonl must have"),
        ("run-0", diverge, "b/run-0 is diverged: only completed runs can be compared (it has no results)"),
    ],
)
def test_diverged_runs_are_checked(file: str, damage: Change, message: str, in_tmp: Path) -> None:
    for name in ("a", "b"):
        make_arm(in_tmp / name, {0: 20, 4: 21}, optimizer__lr=0.5)
    change_json(in_tmp / "b/run-0/environment.json", lambda document: document.update(layer_code="new"))
    diverge(in_tmp / "b/run-5")
    damage(in_tmp / "b" / file)
    with pytest.raises(InputError, match=re.escape(message)):
        compare(["a", "b"], directory="out")


def test_the_report_of_runs_that_exist(command: Command, in_tmp: Path) -> None:
    make_arm(in_tmp / "a", ACCURACIES)
    make_arm(in_tmp / "b", {seed: number + 3 for seed, number in ACCURACIES.items()}, optimizer__lr=0.5)
    result = command(compare_main, "a", "b", "--dir=out", "--json")
    assert result.status == 0, result.err
    document = json.loads(result.out)
    assert document == json.loads((in_tmp / "out/comparison.json").read_text())
    a, b = document["arms"]
    assert (a["name"], a["num_params"], a["units"], a["seeds"]) == ("a", 146, 4, [0, 1, 2, 3, 4, 5])
    assert a["config_id"] == RunDirectory(in_tmp / "a/run-0").config_id != b["config_id"]
    assert a["test_accuracy"] == [number / TOTAL for number in ACCURACIES.values()]
    assert b["mean"] == pytest.approx(np.mean(b["test_accuracy"])) and a["mean"] == pytest.approx(20 / TOTAL)
    assert a["std"] == pytest.approx(np.std(list(ACCURACIES.values()), ddof=1) / TOTAL)
    assert a["ci_95"][0] < a["mean"] < a["ci_95"][1] and a["seconds_per_epoch"] == 3.0
    (pair,) = document["pairs"]
    assert (pair["a"], pair["b"], pair["seeds"]) == ("a", "b", [0, 1, 2, 3, 4, 5])
    assert pair["mean_difference"] == pytest.approx(0.1)
    assert pair["ci_95"] == [pytest.approx(0.1), pytest.approx(0.1)]  # all differences are equal
    assert pair["sign_flip_p"] == pair["holm_p"] == 2 / 2**6
    assert pair["mcnemar"][0] == {"seed": 0, "only_a_right": 0, "only_b_right": 3, "p": 0.25}
    report = (in_tmp / "out/report.md").read_text()
    assert "b is better than a on this task." in report
    assert "| `optimizer.lr` | `0.001` | `0.5` |" in report
    assert (in_tmp / "out/row.tex").read_text().splitlines() == [
        r"LSTM(4) (\texttt{a}) & sMNIST, 30 test images & 146 & RMSProp, 2 epochs & $66.67 \pm 4.71$ & 6 \\",
        r"LSTM(4) (\texttt{b}) & sMNIST, 30 test images & 146 & RMSProp, 2 epochs & $76.67 \pm 4.71$ & 6 \\",
    ]
    assert (in_tmp / "out/row.md").read_text().splitlines()[2] == (
        "| LSTM(4) `a` | sMNIST, 30 test images | 146 | RMSProp, 2 epochs | 66.67 ± 4.71 | 6 |"
    )
    for name in ("curves", "differences", "disagreements"):
        assert (in_tmp / f"out/{name}.png").read_bytes().startswith(b"\x89PNG")
    before = {path.name: path.read_bytes() for path in (in_tmp / "out").iterdir()}
    assert command(compare_main, "a", "b", "--dir=out").status == 0
    assert {path.name: path.read_bytes() for path in (in_tmp / "out").iterdir()} == before


def test_seeds_are_paired_whatever_their_order_and_only_those_of_both(in_tmp: Path) -> None:
    make_arm(in_tmp / "a", {seed: correct for seed, correct in ACCURACIES.items() if seed != 3})
    make_arm(in_tmp / "b", dict(reversed({**ACCURACIES, 9: 30}.items())))
    comparison = compare(["a", "b"], directory="out")
    (pair,) = comparison.pairs
    assert (pair.seeds, pair.digits, pair.sign_flip_p) == ((0, 1, 2, 4, 5), (0,) * 5, 1.0)
    assert comparison.arms[1].seeds == (0, 1, 2, 3, 4, 5, 9) and comparison.arm("b") is comparison.arms[1]
    with pytest.raises(InputError, match=r"no arm 'c' \(allowed: a, b\)"):
        comparison.arm("c")
    assert {m.p for m in pair.mcnemar} == {1.0}
    assert comparison.statements[-1].endswith("sign-flip p = 1.0000. No pair differs.")
    some = compare(["a", "b"], seeds="4,2", directory="some")
    assert (some.arms[0].seeds, some.arms[1].seeds, some.pairs[0].seeds) == ((2, 4), (2, 4), (2, 4))
    ready, _ = plan.make_ready(parse_arms(["a", "b"], {}))
    assert comparing._restrict(ready, (2, 3), ()).notes == ("a: there is no run of seed 3.",)


def test_seeds_that_an_existing_arm_lacks_are_trained_where_they_are_asked_for(in_tmp: Path, toy: None) -> None:
    small = {"task__limit_train": 40, "train__batch_size": 20, "wandb__mode": "disabled"}
    for name, seeds in (("a", (0, 1)), ("b", (0, 1, 2))):
        for seed in seeds:
            completed_run(in_tmp / name / f"seed{seed}", seed, some_right(15), data__dir="elsewhere", **small)
    comparison = compare(["a", "b"], seeds="0-2", directory="out", overrides={"wandb.mode": "disabled"})
    assert [arm.seeds for arm in comparison.arms] == [(0, 1, 2), (0, 1, 2)]
    assert "a: seed 2 trained by this comparison; others existed." in comparison.markdown
    run = load_run("out/a/seed2")
    existing = load_run("a/seed0")
    assert run.config_id == existing.config_id and run.config.data.dir is None
    assert not Path("out/b").exists() and not Path("a/seed2").exists()
    accuracy = (run.summary or {})["final"]["test_accuracy"]
    assert list(comparison.arms[0].test_accuracy) == [0.5, 0.5, accuracy]
    before = Path("out/report.md").read_bytes()
    compare(["a", "b"], seeds="0-2", directory="out")
    assert Path("out/report.md").read_bytes() == before


def test_a_report_needs_no_images(in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise RunError("no source of MNIST could be reached")

    make_arm(in_tmp / "a", ACCURACIES)
    make_arm(in_tmp / "b", ACCURACIES)
    monkeypatch.setattr("seqmnist_tf.compare.pictures.load_test", fail)
    compare(["a", "b"], directory="out")
    assert capsys.readouterr().err == "warning: disagreements.png is left out: no source of MNIST could be reached\n"
    assert "disagreements" not in (in_tmp / "out/report.md").read_text()
    assert sorted(path.name for path in (in_tmp / "out").glob("*.png")) == ["curves.png", "differences.png"]


def test_missing_seeds_of_another_order_are_refused(in_tmp: Path) -> None:
    order = np.arange(784)
    np.savetxt("order.txt", order, "%d")
    for name in ("a", "b"):
        for seed in (0, 1):
            completed_run(in_tmp / name / f"seed{seed}", seed, some_right(15), task__permutation="file:order.txt")
    np.savetxt("order.txt", order[::-1], "%d")
    with pytest.raises(InputError, match=r"a: its runs read the pixels in another order than task.permutation file:or"):
        compare(["a", "b"], seeds="0-2", directory="out")
    assert not Path("out").exists()
    compare(["a", "b"], directory="out")


def test_missing_seeds_that_cannot_be_trained_here_are_refused(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise InputError("train.kernel native cannot be used")

    make_arm(in_tmp / "a", {0: 20, 1: 20})
    make_arm(in_tmp / "b", {0: 20, 1: 20}, optimizer__lr=0.5)
    monkeypatch.setattr("seqmnist_tf.model.training_step.choose_kernel", refuse)
    with pytest.raises(InputError, match="native cannot be used"):
        compare(["a", "b"], seeds="0-2", directory="out")
    assert not Path("out").exists()
    compare(["a", "b"], directory="out")


def test_versions_of_a_layer_are_not_mixed_and_are_shown(in_tmp: Path) -> None:
    for arm, layer in (("a", "own.py:Own"), ("b", "own.py:Own"), ("c", "module:Own")):
        (in_tmp / "own.py").write_text(f"Own = {arm!r}")
        make_arm(in_tmp / arm, {0: 20, 1: 20}, model__layer=layer)
        for path in (in_tmp / arm).iterdir() if arm != "c" else ():
            shutil.copy(in_tmp / "own.py", path / "layer.py")
    comparison = compare(["a", "b"], directory="out", allow_code=True)
    code = [hashlib.sha256(f"Own = {arm!r}".encode()).hexdigest()[:12] for arm in "ab"]
    assert f"| SHA-256 of the layer's code | `{code[0]}` | `{code[1]}` |" in comparison.markdown
    change_json(in_tmp / "c/run-0/environment.json", lambda d: d.update(layer_code="one"))
    assert compare(["a", "c"], directory="older", allow_code=True).arms[1].layer_code == "one"  # run-7 has no hash
    change_json(in_tmp / "c/run-7/environment.json", lambda d: d.update(layer_code="another"))
    with pytest.raises(InputError, match=r"c has runs with different versions of module:Own: c/run-0 and c/run-7"):
        compare(["a", "c"], directory="out", allow_code=True)


def claim(correct: int) -> Change:
    """Return a change of the final result alone; history and predictions say 20."""
    final = {"test_correct": correct, "test_accuracy": correct / TOTAL}
    return lambda path: change_json(path, lambda document: document["final"].update(final))


def shorten_rows(path: Path) -> None:
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *(row.partition(",")[0] for row in rows)]))


SUMMARY, PREDICTIONS = "summary.json", "predictions.csv"
NOT_COMPARED = "a/run-0 cannot be compared: "
UNREADABLE = f"cannot read a/run-0/{PREDICTIONS}"


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        (SUMMARY, Path.unlink, "a/run-0 is not finished: only completed runs can be compared"),
        (SUMMARY, text('{"status": "diverged"}'), "a/run-0 is diverged: only completed runs can be compared"),
        (SUMMARY, put("final", value=[1]), f"{NOT_COMPARED}its files are not in the format of a run directory"),
        (SUMMARY, put("num_params", value="146"), f"{NOT_COMPARED}num_params in summary.json does not match"),
        (SUMMARY, claim(30), f"{NOT_COMPARED}test_correct in summary.json does not match the last epoch in history"),
        (SUMMARY, claim(21), "a/run-0/predictions.csv classifies 20 of 30 test images correctly, but summary"),
        ("history.jsonl", first_lines(1), f"{NOT_COMPARED}history.jsonl must have epochs 1 to 2 (got 1 rows)"),
        ("environment.json", put("machine", value="toy"), f"{NOT_COMPARED}environment.json is not in the format"),
        (PREDICTIONS, replace(r"\n3,\d,", f"\n3,1{'0' * 30},"), f"{UNREADABLE}: Python int too large"),
        (PREDICTIONS, text(1_000_001 * " "), f"{UNREADABLE}: it has more than 1,000,000 bytes"),
        (PREDICTIONS, shorten_rows, f"{UNREADABLE}: each row must have 4 fields"),
        (PREDICTIONS, replace(r"\n3,", "\n4,"), f"{UNREADABLE}: it must have a row for each of the images 0 to 29, in"),
        (PREDICTIONS, Path.unlink, "a/run-0 has no model.keras"),
        ("pixel_order.txt", text("".join(f"{783 - n}\n" for n in range(784))), "arms must agree in their task, but"),
        (
            "config.json", put("model", "layer", value="harmful_module:Own"),
            "a/run-0 has a layer of its own (harmful_module:Own): reading its model would run that code",
        ),
    ],
)  # fmt: skip
def test_runs_that_are_refused(
    file: str, damage: Change, message: str, command: Command, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    completed_run(in_tmp / "a/run-0", 0, some_right(20))
    completed_run(in_tmp / "b/run-0", 0, some_right(20))
    monkeypatch.syspath_prepend(in_tmp)
    (in_tmp / "harmful_module.py").write_text("open('HARMED', 'w')\n")
    damage(in_tmp / "a/run-0" / file)
    result = command(compare_main, "a", "b", "--dir=out")
    assert result.status == 2
    assert f"error: {message}" in result.err and "Traceback" not in result.err
    assert not (in_tmp / "HARMED").exists() and not (in_tmp / "out/report.md").exists()


def test_a_layer_file_beside_a_layer_of_keras_is_never_run(command: Command, in_tmp: Path) -> None:
    for arm in ("a", "b"):
        completed_run(in_tmp / arm / "run-0", 0, some_right(20))
    (in_tmp / "a/run-0/layer.py").write_text("open('HARMED', 'w')\n")
    assert command(compare_main, "a", "b", "--dir=out").status == 0
    assert (in_tmp / "out/report.md").exists() and not (in_tmp / "HARMED").exists()
    said = "comparison out is in use by another process"
    with lock_folder(Path("out"), "the other"), pytest.raises(InputError, match=said):
        compare(["a", "b"], directory="out")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task__permutation": "urnn92916"}, "task.permutation is none for a and urnn92916 for b"),
        ({"task__limit_train": 50}, "task.limit_train is 0 for a and 50 for b"),
        ({"task__normalization": "unit"}, "task.normalization is standard for a and unit for b"),
        ({"task__validation_size": 30}, "task.validation_size is 0 for a and 30 for b"),
    ],
)
def test_arms_of_different_tasks_are_refused(values: dict[str, object], message: str, in_tmp: Path) -> None:
    completed_run(in_tmp / "a", 0, some_right(20))
    completed_run(in_tmp / "b", 0, some_right(20), **values)
    with pytest.raises(InputError, match=f"arms must agree in their task, but {message}"):
        compare(["a", "b"], directory="out")
    assert not (in_tmp / "out").exists()


def test_labels_that_differ_are_refused(in_tmp: Path) -> None:
    completed_run(in_tmp / "a", 0, some_right(20))
    run = completed_run(in_tmp / "b", 0, some_right(20))
    rows = (run.path / "predictions.csv").read_text().splitlines()
    index, label, _, probability = rows[1].split(",")
    rows[1] = f"{index},{(int(label) + 1) % 10},{(int(label) + 1) % 10},{probability}"
    (run.path / "predictions.csv").write_text("\n".join([*rows, ""]))
    with pytest.raises(InputError, match="the labels of b, seed 0, differ from those of a, seed 0"):
        compare(["a", "b"], directory="out")


def test_the_same_runs_twice_are_refused_and_copies_are_not(in_tmp: Path) -> None:
    make_arm(in_tmp / "a", ACCURACIES)
    with pytest.raises(InputError, match=r"the arms a and \./a share runs"):
        compare(["a", "./a"], directory="out")
    shutil.copytree(in_tmp / "a", in_tmp / "b")
    (pair,) = compare(["a", "b"], directory="out").pairs
    assert (pair.mean_difference, pair.ci_95, pair.sign_flip_p) == (0.0, (0.0, 0.0), 1.0)


def test_folders_that_cannot_be_written_are_refused(command: Command, in_tmp: Path) -> None:
    completed_run(in_tmp / "a", 0, some_right(20))
    (in_tmp / "file").write_text("")
    for directory, message in (
        ("file", "cannot write to file: file is not a writable folder"),
        ("a", "a holds other files and no comparison"),
    ):
        result = command(compare_main, "a", f"--dir={directory}")
        assert result.status == 2 and result.err.startswith(f"error: {message}")
    assert sorted(path.name for path in in_tmp.iterdir()) == ["a", "file"]
    result = command(compare_main, "a", "--dir=out", "--seeds=4-6")
    assert (result.status, result.err) == (2, "error: a has no result of --seeds 4, 5, 6 (it has those of 0)\n")
    assert not (in_tmp / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: ARM"),
        (["a", "--train.epochs=3"], "unknown key train.epochs"),
        (["a", "--train.n-epochs", "none"], "train.n_epochs must be"),
        (["a", "--epochs=3"], "unknown argument '--epochs=3'"),
        (["a", "--train.seed"], "--train.seed needs a value (see "),
        (["a", "--address=127.0.0.1:9"], "no Ray cluster answers at 127.0.0.1:9 within 10 s"),
    ],
)
def test_command_lines_that_are_refused(words: list[str], message: str, command: Command, in_tmp: Path) -> None:
    completed_run(in_tmp / "a", 0, some_right(20))
    if "--address=127.0.0.1:9" in words:
        words = ["strong", *words[1:], "--seeds=0"]
    result = command(compare_main, *words)
    assert result.status == 2
    assert result.err.splitlines()[-1].startswith("error: ") and message in result.err
    assert "Traceback" not in result.err
    assert [path.name for path in in_tmp.iterdir()] == ["a"]
