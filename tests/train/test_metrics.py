"""Metrics against counts made by hand, and the command on a run."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf import data
from seqmnist_tf.model import build_model, build_optimizer
from seqmnist_tf.train import RunDirectory, evaluate_model, load_final_model, score, wilson_interval
from seqmnist_tf.train.overview import draw_overview, write_figure
from tests.toy import finished_run, write_logs


def test_scores_are_counts() -> None:
    labels = np.array([0, 0, 0, 1, 9])
    logits = np.full((5, 10), -5.0, np.float32)
    for row, prediction in enumerate([0, 0, 3, 1, 1]):
        logits[row, prediction] = 5
    metrics = score(logits, labels)
    assert (metrics.correct, metrics.total, metrics.accuracy) == (3, 5, 0.6)
    assert metrics.predictions.tolist() == [0, 0, 3, 1, 1]
    assert metrics.confusion[0, 0] == 2 and metrics.confusion[0, 3] == 1 and metrics.confusion[9, 1] == 1
    assert metrics.confusion.sum() == 5
    assert metrics.per_class_accuracy == [2 / 3, 1.0, *[None] * 7, 0.0]
    right, wrong = (-logit + math.log(math.exp(5) + 9 * math.exp(-5)) for logit in (5, -5))
    assert metrics.loss == pytest.approx((3 * right + 2 * wrong) / 5)


def test_large_logits_do_not_overflow() -> None:
    assert score(np.array([[1e30, *[0] * 9], [0, 3e38, *[0] * 8]], np.float32), np.array([0, 1])).loss == 0
    assert math.isnan(score(np.full((1, 10), np.nan, np.float32), np.array([0])).loss)


def test_wilson_interval_is_the_published_one() -> None:
    # 81 of 263: 0.2553 to 0.3662 (Newcombe 1998, Statistics in Medicine 17, table I, method 3).
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(10_000, 10_000)[1] == 1.0


def test_a_loaded_model_leaves_the_callers_random_numbers(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    expected = []
    for load in (False, True):
        random.seed(5)
        np.random.seed(5)
        if load:
            load_final_model(run)
        expected.append((random.random(), np.random.rand()))
    assert expected[0] == expected[1]


def test_no_example_is_left_out(toy: None) -> None:
    config = cfg.with_values(cfg.Config(), {"model.hidden_size": 4})
    test = data.load_test(config, data.pixel_order("none"))
    model = build_model(config)
    ragged, whole = (evaluate_model(model, test, size) for size in (7, 60))
    assert ragged.total == whole.total == 60
    assert ragged.correct == whole.correct
    assert ragged.loss == pytest.approx(whole.loss, rel=1e-6)


@pytest.mark.parametrize("epochs", [1, 2])
def test_the_page_shows_whole_epochs_and_every_value(epochs: int, tmp_path: Path) -> None:
    values = {"task.limit_train": 200, "task.limit_test": 30, "train.n_epochs": epochs, "optimizer.warmup_steps": 2}
    config = cfg.with_values(cfg.Config(), {**values, "optimizer.schedule": "cosine", "optimizer.lr": 0.5})
    run = RunDirectory.create(tmp_path / "run", config, {}, data.pixel_order("none"))
    write_logs(run, [0.1, 0.2][:epochs])
    losses, accuracies, rates = draw_overview(run, None, None).axes
    for axes in (losses, accuracies, rates):
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if max(low, 0.5) < tick < high] == [1, 2][:epochs]
    assert [line.get_marker() for line in accuracies.lines] == ["o" if epochs == 1 else ""] * 2
    (line,) = rates.lines  # a rate for each step
    assert np.array(line.get_xdata()).tolist() == [0.5, 1, 1.5, 2][: 2 * epochs]
    optimizer = build_optimizer(config)
    for step, rate in enumerate(np.array(line.get_ydata())):
        optimizer.iterations.assign(step)
        assert rate == pytest.approx(float(optimizer.learning_rate), rel=1e-6)


def test_the_page_draws_a_layer_of_any_path(in_tmp: Path) -> None:
    path = Path(r"my/$\q$/own.py")
    path.parent.mkdir(parents=True)
    path.write_text("")
    values = {"model.layer": f"{path}:F", "task.limit_train": 200, "train.n_epochs": 1}
    run = RunDirectory.create(in_tmp / "run", cfg.with_values(cfg.Config(), values), {}, data.pixel_order("none"))
    write_logs(run, [0.1])
    write_figure(draw_overview(run, None, None), in_tmp / "page.png", 50)
