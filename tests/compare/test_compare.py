"""The command from nothing to the report, at small size, on toy data."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.compare import compare, comparing, plan
from seqmnist_tf.compare.__main__ import main as compare_main
from seqmnist_tf.compare.arms import Arm, parse_arms
from seqmnist_tf.compare.plan import ComparisonRuns, PlannedRun, make_ready, plan_runs
from seqmnist_tf.data import sequences
from seqmnist_tf.engine import Job, engine, run_jobs
from seqmnist_tf.model import Kernel, StepTime
from seqmnist_tf.system import InputError, RunError, read_json
from seqmnist_tf.train import RunDirectory, load_run, log_problems, parse_train_arguments, training
from seqmnist_tf.train.__main__ import main as train_main
from tests.compare.commands import TINY
from tests.compare.runs import completed_run, some_right
from tests.conftest import Command
from tests.model.test_layers import GOOD
from tests.toy import SMALL_VALUES, toy_mnist

TINY_VALUES = {**SMALL_VALUES, "train.n_epochs": 1}


def timeless(path: Path) -> dict[str, Any]:
    """Return a comparison's JSON without the seconds, which no two trainings share."""
    document = json.loads(path.read_text())
    for arm in document["arms"]:
        del arm["seconds_per_epoch"]
    return document


def masked(path: Path) -> str:
    """Return a report without the seconds of its epochs, which no two trainings share, and without the commit."""
    return re.sub(r"[\d.]+ \|$|Code: .*", "", path.read_text(), flags=re.MULTILINE)


def parsed(command: str) -> cfg.Config:
    """Return the configuration of a command of ``seqmnist_tf.train``, as its own parser reads it."""
    return parse_train_arguments(shlex.split(command)[3:]).config


def test_from_nothing_to_the_report(command: Command, in_tmp: Path, toy: None) -> None:
    (in_tmp / "own_layer.py").write_text(good := GOOD + "print('read me')\n")
    (in_tmp / "chrono.json").write_text('{"model": {"forget_bias": "chrono"}}')
    words = ("chrono.json", "own_layer.py:Last", "--seeds", "1", "--dir", "out", *TINY, "--train.n-epochs=1")
    result = command(compare_main, *words, "--json")
    assert result.status == 0, result.err
    assert json.loads(result.out)["arms"] and "read me" in result.err
    assert "chrono seed 1: epoch 1/1, test accuracy" in result.err
    assert "] 2/2 epochs, 0 s left" in result.err
    for arm in ("chrono", "Last"):
        run = load_run(in_tmp / f"out/{arm}/seed1")
        assert (run.summary or {})["status"] == "completed"
        assert parsed(run.environment["command"]) == run.config
        assert run.environment["preset"] == shlex.split(run.environment["command"])[3] == "baseline"
        assert run.config.train.seed == 1
    document = timeless(in_tmp / "out/comparison.json")
    chrono, last = document["arms"]
    assert (chrono["num_params"], last["num_params"], last["units"]) == (146, 142, 12)
    run = load_run(in_tmp / "out/Last/seed1")
    assert (run.config.model.match_parameters, run.config.model.forget_bias) == (146, None)
    assert (run.path / "layer.py").read_text() == good
    report = (in_tmp / "out/report.md").read_text()
    for note in (
        "Last: `model.forget_bias` is not applied to it and is left at its default, null (chrono has",
        "Last: 12 units were chosen to match 146 parameters; the model has 142 (-4).",
    ):
        assert note in report
    assert "on stock Keras" in (in_tmp / "out/logs/Last-seed1.log").read_text()

    # Again: nothing is trained, and every file stays as it is. One arm more: only that one is trained.
    before = {path: path.read_bytes() for path in (in_tmp / "out").rglob("*") if path.is_file()}
    assert command(compare_main, *words).status == 0
    assert {path: path.read_bytes() for path in (in_tmp / "out").rglob("*") if path.is_file()} == before
    more = command(compare_main, *words[:2], "SimpleRNN", *words[2:])
    assert more.status == 0, more.err
    assert "1 run to train, 2 of 3 are there already" in more.err
    assert timeless(in_tmp / "out/comparison.json")["arms"][:2] == document["arms"]

    # A changed layer is another experiment, and is not taken for the one that is there.
    (in_tmp / "own_layer.py").write_text(GOOD + "\n# changed\n")
    changed = command(compare_main, *words)
    assert changed.status == 2
    assert (
        "out/Last/seed1 is a run of another configuration: the file of its layer or pixel order has changed"
        in changed.err
    )
    changed = command(compare_main, *words[:1], *words[2:], "--optimizer.lr=0.5")
    assert "out/chrono/seed1 is a run of another configuration: optimizer.lr is 0.001 there and 0.5" in changed.err


def test_a_trained_run_is_that_of_train(command: Command, in_tmp: Path, toy: None) -> None:
    trained = compare(["adam"], seeds=[3], directory="out", overrides=TINY_VALUES)
    words = shlex.split(load_run(in_tmp / "out/adam/seed3").environment["command"])[3:-1]
    assert command(train_main, *words, "again").status == 0
    weights = [
        keras.saving.load_model(path / "model.keras").get_weights()
        for path in (in_tmp / "out/adam/seed3", in_tmp / "again")
    ]
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))
    assert trained.arms[0].test_accuracy == [(RunDirectory(in_tmp / "again").summary or {})["final"]["test_accuracy"]]


@keras.saving.register_keras_serializable(package="tests")
class Mean(keras.layers.Layer):
    """The mean of the sequence, times a kernel: float32 (n, T, 1) to (n, units)."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, x: Any) -> Any:
        return keras.ops.matmul(keras.ops.mean(x, axis=1), self.kernel)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def test_layers_of_python_beside_runs_that_exist(in_tmp: Path, toy: None) -> None:
    values = {key.replace(".", "__"): value for key, value in TINY_VALUES.items()}
    for seed in (0, 1):
        completed_run(in_tmp / f"mine/{seed}", seed, some_right(20), **values)
    comparison = compare(["mine", Mean], seeds=range(2), directory="out", overrides=TINY_VALUES)
    assert [arm.name for arm in comparison.arms] == ["mine", "Mean"]
    assert comparison.arms[1].num_params == 142  # 12 units, for 146 parameters
    assert "class Mean(keras.layers.Layer):" in (in_tmp / "out/Mean/seed1/layer.py").read_text()
    assert comparison._repr_markdown_().startswith("- mine: 66.67 ± 0.00 % test accuracy")
    assert repr(comparison).startswith("<Comparison: mine: 66.67 ± 0.00 % test accuracy")
    # A folder of such runs has code, which is not run unasked.
    with pytest.raises(InputError, match=r"has a layer of its own \(layer\.py:Mean\)"):
        compare(["out/Mean", "mine"], directory="again")
    again = compare(["mine", "out/Mean"], directory="again", allow_code=True)
    assert again.pairs == comparison.pairs


RAISES = "def make(units):\n    raise RuntimeError('no\\nsuch layer')\n"


def test_a_layer_that_cannot_be_made_is_refused(command: Command, in_tmp: Path) -> None:
    (in_tmp / "own.py").write_text(RAISES)
    result = command(compare_main, "strong", "own.py:make", "--dir=out", *TINY)
    assert result.status == 2
    assert "model.layer own.py:make raised RuntimeError: no" in result.err and "Traceback" not in result.err
    assert not (in_tmp / "out").exists()


def test_a_kernel_that_a_layer_cannot_use_is_refused_before_anything_is_trained(command: Command, in_tmp: Path) -> None:
    (in_tmp / "own_layer.py").write_text(GOOD)
    arms = ["chrono.json", "own_layer.py:Last"]
    (in_tmp / "chrono.json").write_text('{"model": {"forget_bias": "chrono"}}')
    result = command(compare_main, *arms, "--seeds", "0", "--dir", "out", *TINY, "--train.kernel=native")
    assert (result.status, (in_tmp / "out").exists()) == (2, False)
    assert "train.kernel must be auto or keras here (got 'native'): " in result.err.splitlines()[-1]


def test_noise_that_has_no_weights_to_act_on_is_noted(in_tmp: Path) -> None:
    (in_tmp / "own.py").write_text(GOOD)
    values = {"model.hidden_size": 4, "train.recurrent_noise": 0.1}
    first, gru, own = make_ready(parse_arms(["baseline", "GRU", "own.py:Last"], values))
    assert (first.noise, gru.noise, own.noise) == (0.1, 0.1, 0.0)
    (note,) = own.notes
    assert note.startswith("Last: `train.recurrent_noise` 0.1 has no effect: its layer names no recurrent weights")


def test_trained_arms_of_one_configuration_are_refused(in_tmp: Path) -> None:
    (in_tmp / "copy.json").write_text(cfg.config_to_json(cfg.preset("strong")))
    with pytest.raises(InputError, match=r"the arms strong and copy.json have one configuration"):
        compare(["strong", "copy.json"], seeds=[0], directory="out", overrides=TINY_VALUES)
    assert not (in_tmp / "out").exists()


def test_arms_that_differ_in_how_their_units_were_chosen_are_refused(in_tmp: Path) -> None:
    with pytest.raises(InputError, match=r"the arms baseline and LSTM have one configuration"):
        compare(["baseline", "LSTM"], seeds=[0], directory="out", overrides=TINY_VALUES)
    assert not (in_tmp / "out").exists()


def test_the_time_left_counts_what_is_still_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not whether they are whole: they have more steps than epochs.
    monkeypatch.setattr(PlannedRun, "status", property(lambda run: (run.run.summary or {}).get("status")))

    def left(slots: int, *begun: tuple[int, str | None]) -> float:
        """Return the time left with runs of 40 epochs, each given by its epochs and its status."""
        runs = []
        for number, (epochs, status) in enumerate(begun):
            run = completed_run(tmp_path / f"{slots}{begun}{number}", number, some_right(9), train__n_epochs=40)
            rows = run.history()[:epochs]
            (run.path / "history.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
            run.write_json("summary.json", {"status": status})
            runs.append(PlannedRun("a", number, Job(run.path, f"a seed {number}", run.config)))
        source = ComparisonRuns(runs)
        for slot in range(slots):
            source.take(f"slot{slot}")
        return source.seconds_left(60.0)

    assert left(1, (40, "completed"), (10, None), (10, None)) == 60 * 60
    assert left(4, (40, "completed"), (10, None), (20, None)) == 30 * 60
    assert left(4, (1, "diverged"), (39, None)) == 60
    assert left(4, (1, "diverged"), (40, "completed")) == 0


def test_a_measured_step_says_how_long_an_arm_takes_before_its_first_epoch(
    in_tmp: Path, toy: None, capsys: pytest.CaptureFixture[str]
) -> None:
    config = cfg.with_values(cfg.Config(), {"task.limit_train": 3_000, "train.n_epochs": 2})
    runs = [PlannedRun(arm, 0, Job(in_tmp / arm, f"{arm} seed 0", config)) for arm in "ab"]
    source = ComparisonRuns(runs, at_a_time=1)
    source.expect({"a": StepTime(Kernel(None), 154, first=10.0, step=1.0), "b": StepTime(Kernel(None), 154, 0.0, 3.0)})
    epoch = 30 + 10_000 / 100 / 3
    assert source.seconds_left(0.0) == pytest.approx(10 + 2 * epoch + 3 * 2 * epoch)
    source.take("slot0")
    assert "2 runs to train, 0 of 2 are there already; about 9 min\n" in capsys.readouterr().err


def test_an_arm_on_stock_keras_is_named_before_it_is_trained(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = cfg.Config()
    source = ComparisonRuns([PlannedRun(arm, 0, Job(in_tmp / arm, f"{arm} seed 0", config)) for arm in "ab"])
    kernels = iter((Kernel(None, "it has an odd operation"), Kernel("avx2")))
    monkeypatch.setattr(plan, "time_step", lambda *_: StepTime(next(kernels), 154, 0.1, 0.1))
    source.measure([Arm(name, name, config) for name in "ab"], None)
    assert capsys.readouterr().err == "a: on stock Keras, it has an odd operation\n"


def test_a_dry_run_measures_and_writes_nothing(command: Command, in_tmp: Path, toy: None) -> None:
    completed_run(in_tmp / "mine", 0, some_right(20), task__limit_train=40)
    (in_tmp / "own.py").write_text(GOOD)
    words = ["mine", "own.py:Last", "--seeds=0", "--dry-run", *(word for word in TINY if "hidden" not in word)]
    before = sorted(in_tmp.rglob("*"))
    result = command(compare_main, *words, "--json")
    assert result.status == 0, result.err
    document = json.loads(result.out)
    mine, last = document["arms"]
    assert (mine["name"], mine["num_params"], mine["runs"], mine["kernel"], mine["hours"]) == (
        "mine",
        146,
        0,
        None,
        None,
    )
    assert (last["name"], last["units"], last["num_params"], last["runs"], last["kernel"]) == (
        "Last",
        12,
        142,
        1,
        "keras",
    )
    assert 0 < last["seconds_per_step"] < last["seconds_per_epoch"] and 0 < document["hours"] == last["hours"]
    table = command(compare_main, *words).out.splitlines()
    assert table[0].split()[:3] == ["arm", "units", "parameters"] and len(table) == 5
    assert table[3].startswith("Last: on stock Keras, ")
    assert table[4].startswith("1 runs to train, 1 at a time: about 0.0")
    assert sorted(in_tmp.rglob("*")) == before
    refused = command(compare_main, *words, "--address=localhost:1")
    assert refused.status == 2 and "--dry-run measures on this machine: leave out --address" in refused.err


@pytest.mark.slow
def test_two_versions_of_a_registered_layer(in_tmp: Path, toy: None) -> None:
    source = GOOD.replace("class Last", "@keras.saving.register_keras_serializable('versions')\nclass Last")
    (in_tmp / "a.py").write_text(source)
    (in_tmp / "b.py").write_text(source.replace("ops.matmul(", "2.0 * ops.matmul("))
    arms = ["a.py:Last", "b.py:Last"]
    comparison = compare(["baseline", *arms], seeds=[0], directory="out", overrides=TINY_VALUES)
    assert [arm.n for arm in comparison.arms] == [1, 1, 1]


@pytest.mark.slow
def test_a_module_that_changed_between_two_starts_is_refused(
    in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(in_tmp)
    (in_tmp / "changing.py").write_text(GOOD)
    compare(["baseline", "changing:Last"], seeds=[0], directory="out", overrides=TINY_VALUES)
    compare(["baseline", "changing:Last"], seeds=[0], directory="out", overrides=TINY_VALUES)
    before = (in_tmp / "out/arms.json").read_bytes()
    (in_tmp / "changing.py").write_text(GOOD.replace("ops.matmul(", "2.0 * ops.matmul("))
    with pytest.raises(InputError, match=r"out/Last/seed0 is a run of another version of changing:Last"):
        compare(["baseline", "changing:Last"], seeds=[0, 1], directory="out", overrides=TINY_VALUES)
    assert (in_tmp / "out/arms.json").read_bytes() == before and not (in_tmp / "out/Last/seed1").exists()


def test_a_damaged_run_is_refused_before_anything_is_trained(in_tmp: Path, toy: None) -> None:
    run = completed_run(in_tmp / "mine", 0, some_right(20), task__limit_train=40)
    (run.path / "predictions.csv").write_text("")
    with pytest.raises(InputError, match=r"cannot read mine/predictions.csv"):
        compare(["mine", "SimpleRNN"], seeds=[0], directory="out", overrides=TINY_VALUES)
    assert not (in_tmp / "out").exists()


def test_arms_that_are_given_up_are_named(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, number in (("a", 20), ("b", 21), ("c", 22)):
        completed_run(in_tmp / name, 0, some_right(number))
    compare(["a", "b"], directory="out")
    compare(["a", "b", "c"], directory="out")
    assert "is replaced" not in capsys.readouterr().err
    compare(["a", "c"], directory="out")
    assert "the report in out is replaced; it had other arms: b (their runs stay)" in capsys.readouterr().err
    completed_run(in_tmp / "other/c", 0, some_right(20), optimizer__lr=0.5)
    compare(["a", "other/c"], directory="out")
    assert "the report in out is replaced; it had other arms: c (their runs stay)" in capsys.readouterr().err
    assert (in_tmp / "out/differences.png").exists()
    completed_run(in_tmp / "two/0", 0, some_right(20))
    completed_run(in_tmp / "two/1", 1, some_right(21))
    for seeds, note in ((None, ""), ([0], "it had seed 1 of two (their runs stay)"), (None, "")):
        compare(["two"], seeds=seeds, directory="again")
        said = capsys.readouterr().err
        assert note in said and ("is replaced" in said) == bool(note)
    compare(["a"], directory="out")
    assert [path.name for path in (in_tmp / "out").glob("*.png")] == ["curves.png"]


def test_a_run_that_diverges_does_not_stop_the_others(in_tmp: Path, toy: None) -> None:
    Path("hot.json").write_text('{"optimizer": {"name": "SGD", "lr": 1e38, "grad_clip_value": null}}')
    for arms, before in (
        (["hot.json"], "no run is completed, and there is no report:"),
        (["hot.json", "adam"], "out/report.md is without"),
    ):
        said = f"{before} hot seed 0, which diverged (see out/logs/hot-seed0.log)"
        with pytest.raises(RunError, match=f"^{re.escape(said)}$"):
            compare(arms, seeds=[0], directory="out", overrides=TINY_VALUES)
    report = (in_tmp / "out/report.md").read_text()
    assert "- hot is left out: none of its runs is completed.\n- hot: seed 0 diverged.\n" in report
    assert [arm["name"] for arm in timeless(in_tmp / "out/comparison.json")["arms"]] == ["adam"]
    assert (in_tmp / "out/logs/hot-seed0.log").read_text().count("has diverged") == 1  # it is not trained again


FAILS_ONCE = """
import keras

class Fails(keras.layers.SimpleRNN):
    def call(self, sequences, initial_state=None, mask=None, training=False):
        if training and keras.config.epsilon() > 1e-7:
            raise RuntimeError("no such\\nvalue")
        return super().call(sequences, training=training)
"""


@pytest.mark.slow
def test_a_layer_that_fails_does_not_stop_the_others_and_the_report_names_it(
    command: Command, in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (in_tmp / "own.py").write_text(FAILS_ONCE)
    words = ("adam", "own.py:Fails", "--seeds=0,1", "--dir=out", "--traceback", *TINY, "--train.n-epochs=1")
    train_one = engine.train

    def fail(config: cfg.Config, *args: Any, **settings: Any) -> dict[str, Any]:
        keras.config.set_epsilon(1e-6 if config.train.seed == 1 else 1e-7)
        return train_one(config, *args, **settings)

    monkeypatch.setattr(engine, "train", fail)
    result = command(compare_main, *words)
    keras.config.set_epsilon(1e-7)
    assert result.status == 1
    said = "Fails seed 1, which failed: model.layer own.py:Fails: in training it raised RuntimeError: "
    last = result.err.splitlines()[-1]
    assert last.startswith(f"error: out/report.md is without {said}")
    assert last.endswith("(see out/logs/Fails-seed1.log)")
    assert 'File "own.py", line 7, in call' in result.err
    report = (in_tmp / "out/report.md").read_text()
    assert "Fails: seed 1 failed: model.layer own.py:Fails: in training it raised RuntimeError: " in report
    assert [arm["seeds"] for arm in timeless(in_tmp / "out/comparison.json")["arms"]] == [[0, 1], [0]]
    assert "Traceback" in (in_tmp / "out/logs/Fails-seed1.log").read_text()


def test_the_kernel_of_a_clusters_nodes_is_not_asked_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    monkeypatch.setattr(training, "try_layer", lambda config, _: tried.append(config.train.kernel))
    for on_a_cluster in (False, True):
        (ready,) = make_ready(parse_arms(["adam"], {"train.kernel": "native"}), on_a_cluster)
        assert ready.config.train.kernel == "native"
    assert tried == ["native", "auto"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a comparison of two runs."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequences, "load_mnist", toy_mnist)
        compare(["adam"], seeds=[0, 1], directory=folder, overrides=TINY_VALUES)
    return folder


@pytest.mark.parametrize("file", ["config.json", "environment.json", "summary.json", "steps.csv"])
def test_a_damaged_run_of_the_comparison_is_trained_again(file: str, whole: Path, in_tmp: Path, toy: None) -> None:
    shutil.copytree(whole, "out")
    run = in_tmp / "out/adam/seed1"
    (run / file).write_bytes((run / file).read_bytes()[:-9])
    if file == "environment.json":
        (run / file).unlink()
    again = compare(["adam"], seeds=[0, 1], directory="out", overrides=TINY_VALUES)
    assert again.arms[0].test_accuracy == read_json(whole / "comparison.json")["arms"][0]["test_accuracy"]
    assert RunDirectory(run).environment and log_problems(RunDirectory(run)) == []


@pytest.mark.parametrize("file", ["steps.csv", "predictions.csv"])
def test_a_run_that_is_damaged_after_its_training_is_named(
    file: str, whole: Path, in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaging(*args: Any, **settings: Any) -> None:
        run_jobs(*args, **settings)
        (in_tmp / "out/adam/seed1" / file).write_text("")

    shutil.copytree(whole, "out")
    shutil.rmtree("out/adam/seed1")
    monkeypatch.setattr(comparing, "run_jobs", damaging)
    said = r"out/report.md is without adam seed 1, which has damaged files in out/adam/seed1 \(remove it, and"
    for _ in range(1 + (file == "predictions.csv")):  # no training writes the predictions of a run that has ended
        with pytest.raises(RunError, match=said):
            compare(["adam"], seeds=[0, 1], directory="out", overrides=TINY_VALUES)
    assert "- adam: seed 1 has damaged files in out/adam/seed1" in (in_tmp / "out/report.md").read_text()


def test_a_run_of_a_later_version_is_not_taken_for_a_damaged_one(whole: Path, in_tmp: Path, toy: None) -> None:
    shutil.copytree(whole, "out")
    config = in_tmp / "out/adam/seed0/config.json"
    config.write_text(config.read_text().replace('"seed"', '"of_later"'))
    with pytest.raises(InputError, match="of_later"):
        compare(["adam"], seeds=[0], directory="out", overrides=TINY_VALUES)
    assert (config.parent / "summary.json").is_file() and not (in_tmp / "out/damaged").exists()


def test_runs_share_a_group_in_wandb_and_an_interruption_ends_all(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = in_tmp / "mine"
    folder.mkdir()
    ready = make_ready(parse_arms(["adam"], TINY_VALUES))
    planned = plan_runs(ready, [0, 1, 2], folder, overrides=TINY_VALUES, complete=True)
    groups = []

    def end(config: cfg.Config, path: Path, **_: Any) -> dict[str, Any]:
        groups.append(os.environ["WANDB_RUN_GROUP"])
        return {"status": "completed" if len(groups) < 2 else "interrupted"}

    monkeypatch.setattr(engine, "train", end)
    monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(ComparisonRuns(planned), folder)
    assert groups == ["mine", "mine"] and "WANDB_RUN_GROUP" not in os.environ


@pytest.mark.parametrize("workers", [[], ["--workers=2"]])
def test_data_that_cannot_be_read_is_reported_before_anything_is_written(
    workers: list[str], command: Command, in_tmp: Path
) -> None:
    (in_tmp / "file").write_text("no folder")
    refused = command(compare_main, "baseline", "GRU", *TINY, "--data.dir=file", "--dir=out", *workers)
    assert (
        refused.status == 2 and "data.dir must be a folder that can be" in refused.err and not (in_tmp / "out").exists()
    )
