"""The README is true: its commands parse, its code runs, its two first commands are what they promise."""

from __future__ import annotations

import base64
import csv
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from seqmnist_tf import (
    benchmark,
    client,
    data,
    evaluate,
    export,
    records,
    results,
    serve,
    serving_benchmark,
    space,
    train,
    tune,
)
from seqmnist_tf import config as cfg
from seqmnist_tf.mnist import Examples
from tests.conftest import Result
from tests.test_config import UPSTREAM_BLOCK
from tests.test_structure import ORDER
from tests.toy import ROOT

README = (ROOT / "README.md").read_text()
SERVING = (ROOT / "export" / "README.md").read_text()
RESULTS = (ROOT / "results" / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MODULES = {
    "benchmark": benchmark,
    "client": client,
    "results": results,
    "serve": serve,
    "serving_benchmark": serving_benchmark,
}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)\n```$", text, re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    """Return the command lines of ours in the READMEs and CONTRIBUTING.md, from the module's name on."""
    lines = "\n".join(blocks("bash") + blocks("bash", SERVING) + blocks("bash", RESULTS)).splitlines()
    lines += re.findall(r"`(python -m [^`]*)`", CONTRIBUTING)
    found = [re.search(r"(?s)-m (seqmnist_tf\.\w+.*)", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match]


def test_quick_start_is_two_command_lines() -> None:
    section = README.split("\n## Quick start\n")[1].split("\n## ")[0]
    first, second = blocks("bash", section)
    for line in (first, second):
        assert "\n" not in line
        assert line.startswith("python3 -m venv .venv && .venv/bin/python -m pip install -e ")
    assert first.endswith("-m seqmnist_tf.train quickstart")
    assert second.endswith("-m pytest")


def test_every_command_is_understood(command: Callable[..., Result], in_tmp: Path) -> None:
    (in_tmp / "upstream.json").write_text(UPSTREAM_BLOCK)
    (in_tmp / "runs" / "search").mkdir(parents=True)
    (in_tmp / "runs" / "search" / "best.json").write_text("{}")
    (in_tmp / "my.json").write_text("{}")
    for run in (in_tmp / "runs" / "mine", in_tmp / "results" / "strong" / "seed0"):
        run.mkdir(parents=True)
        (run / "config.json").write_text("{}")
        (run / "environment.json").write_text("{}")
    assert len(commands()) >= 10
    for module, *words in commands():
        if module in ("seqmnist_tf.train", "seqmnist_tf.tune"):
            main = train.main if module.endswith("train") else tune.main
            assert command(main, *words, "--print-config").status == 0, words
        elif (name := module.removeprefix("seqmnist_tf.")) in MODULES:
            answer = command(MODULES[name].main, *words, "--nonsense")
            assert answer.err.count("unrecognized arguments: --nonsense ") == 1, words
        else:
            main = {"seqmnist_tf.evaluate": evaluate.main, "seqmnist_tf.export": export.main}[module]
            assert "has no model.keras" in command(main, *words).err


def test_the_search_space_can_be_searched() -> None:
    (document,) = (json.loads(block) for block in blocks("json"))
    assert len(space.parse(document)) == 3


def test_keys_presets_and_modules_exist() -> None:
    for key in re.findall(r"--([a-z]+\.[\w.-]+)", README):
        assert key.replace("-", "_") in cfg.OPTIONS
    table = README.split("| preset |")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:]))) == set(
        cfg.PRESETS
    )
    table = README.split("| module |")[1].split("\n\n")[0]
    named = re.findall(r"`([\w.]+)`", " ".join(line.split("|")[1] for line in table.splitlines()[2:]))
    assert named == [module for module in ORDER if module in named] or set(named) == set(ORDER)


def test_presets_promise_what_their_records_say() -> None:
    published = records.read(ROOT / "results")
    for name in set(published) & set(cfg.PRESETS):
        told = re.findall(r"(\d\d\.\d\d) %", cfg.PRESETS[name].doc)
        assert told and set(told) <= {f"{100 * record.accuracy:.2f}" for record in published[name]}, name


def test_the_plain_keras_lines_train_the_baseline(
    command: Callable[..., Result], in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plain,) = (block for block in blocks("python") if "model.fit" in block)
    assert len(plain.splitlines()) <= 16
    means: list[float] = []
    record = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: means.append(float(logs["loss"])))
    fit = keras.Model.fit

    def fit_twice(self: Any, *args: Any, **kwargs: Any) -> Any:
        assert kwargs["epochs"] == 100
        return fit(self, *args, **{**kwargs, "epochs": 2, "callbacks": [record], "verbose": 0})

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", fit_twice)
        exec(plain, {})
    assert len(means) == 4  # two epochs of two batches; Keras tells the mean so far of each epoch
    losses = [means[0], 2 * means[1] - means[0], means[2], 2 * means[3] - means[2]]

    words = ["--task.limit-train=200", "--train.n-epochs=2", "--wandb.mode=disabled", "--run-dir=run"]
    assert command(train.main, "baseline", *words).status == 0
    with (in_tmp / "run" / "steps.csv").open() as file:
        ours = [float(row["loss"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(ours, losses, rtol=1e-6)
    assert len(set(ours)) == 4


def test_speed_was_measured_on_a_commit() -> None:
    assert json.loads((ROOT / "results" / "benchmark.json").read_text())["git"]["dirty"] is False


def test_three_lines_read_a_digit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    samples = json.loads((ROOT / "seqmnist_tf" / "web" / "samples.json").read_text())
    images = np.stack([np.frombuffer(base64.b64decode(s["pixels"]), np.uint8).reshape(28, 28) for s in samples])
    digits = Examples(images, np.array([s["label"] for s in samples], np.uint8))
    monkeypatch.setattr(data, "load_mnist", lambda *_: {"train": digits, "test": digits})
    monkeypatch.chdir(ROOT)
    (lines,) = (block for block in blocks("python") if "model.keras" in block)
    assert len([line for line in lines.splitlines() if line]) == 3
    exec(lines, {})
    assert capsys.readouterr().out.splitlines()[-1] == f"{samples[0]['label']} {samples[0]['label']}"


def test_the_layer_is_a_drop_in(recwarn: pytest.WarningsRecorder) -> None:
    (lines,) = (block for block in blocks("python") if "kernels.layer" in block)
    names: dict[str, Any] = {"keras": keras}
    exec(lines, names)
    assert names["model"].count_params() == 67_850
    assert not recwarn.list or "the native kernel is not there" in str(recwarn.list[0].message)


def test_the_python_lines_train(in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (lines,) = (block for block in blocks("python") if "seqmnist_tf.train" in block)
    small = cfg.with_values(
        cfg.preset("quickstart"),
        {"model.hidden_size": 4, "task.limit_train": 20, "task.limit_test": 20, "wandb.mode": "disabled"},
    )
    monkeypatch.setitem(cfg.PRESETS, "quickstart", cfg.Preset(small, ""))
    names: dict[str, Any] = {}
    exec(lines, names)
    assert names["summary"]["status"] == "completed"
    assert names["summary"]["seed"] == 1


def test_nothing_points_out_of_the_project() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("https://github.com/") or (ROOT / link).is_file()
