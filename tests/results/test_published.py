"""The records of this repository: they pass all checks, and documents show them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from seqmnist_tf.config import NUM_TEST, Data
from seqmnist_tf.data import Split, load_test
from seqmnist_tf.model import choose_kernel, make_trainable
from seqmnist_tf.results import HEADLINE, Record, pages, plots
from seqmnist_tf.results.board import Board
from seqmnist_tf.results.pages import MARKED_SECTION, TABLES, find_documents
from seqmnist_tf.results.records import all_records
from seqmnist_tf.serve import DEFAULT_FOLDER, choose_version, read_description
from seqmnist_tf.train import MAX_FLIPS, evaluate_model, load_final_model, load_run, score
from seqmnist_tf.train.page import draw_overview
from tests.conftest import assert_fits
from tests.results.files import read_records
from tests.toy import ROOT, toy_mnist

RECORDS = read_records(ROOT / "results")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a clone has the commits of the records")
def test_everything_published_agrees() -> None:
    assert pages.clone_problems(ROOT, models=False) == []


def overview(board: Board, shown: plots.ShownModel) -> Figure:
    return draw_overview(board.records[HEADLINE][0].run, shown.test, score(shown.logits, shown.test.labels))


@pytest.mark.parametrize(
    "picture",
    [*plots.PICTURES, plots.Picture("overview.png", overview, lambda _: ())],
    ids=lambda picture: picture.file,
)
def test_no_text_of_a_picture_leaves_it(picture: plots.Picture) -> None:
    cells = {f"board2_{name}": RECORDS[f"board_{name}"] for name in ("lstm", "lem", "cornn", "min_lstm")}
    board = Board({**RECORDS, **cells}, {}, {})
    shown = plots.ShownModel(board)
    test, random = toy_mnist(splits=("test",))["test"], np.random.default_rng(0)
    images = test.images[np.arange(NUM_TEST) % len(test.images)]
    labels = random.integers(10, size=NUM_TEST)
    shown.test = Split(images, images.reshape(NUM_TEST, -1, 1).astype(np.float32) / 255, labels)
    shown.logits = random.normal(size=(NUM_TEST, 10))
    figure = picture.draw(board, shown)
    assert_fits(figure)
    in_legend = [len(legend.get_texts()) for legend in figure.legends]
    assert in_legend == ([len(plots.OVERVIEW)] if picture.file == "learning_curves.png" else [])


def test_every_section_is_shown() -> None:
    text = "\n".join((ROOT / path).read_text() for path in find_documents(ROOT))
    assert {match[2] for match in MARKED_SECTION.finditer(text)} == {*TABLES}
    assert text.count("<!-- results:") == len(list(MARKED_SECTION.finditer(text)))


def test_the_seeds_of_each_experiment_begin_with_0_and_have_no_gap() -> None:
    """As docs/results.md says: a gap would look like a seed that was left out."""
    published = all_records(ROOT / "results")
    for name in {record.name for record in published}:
        seeds = [record.seed for record in published if record.name == name]
        assert sorted(seeds) == list(range(len(seeds)))


def test_the_losses_of_a_record_are_read_like_those_of_a_run() -> None:
    run = load_run(ROOT / "results" / "quickstart" / "seed0")
    losses = run.step_losses()
    assert len(losses) == run.config.train.n_epochs * run.config.steps_per_epoch
    assert run.history()[-1]["train_loss"] == math.fsum(losses[-run.config.steps_per_epoch :]) / 600


@pytest.mark.network
@pytest.mark.parametrize("record", [records[0] for records in RECORDS.values()], ids=lambda record: record.name)
def test_a_published_model_scores_what_its_record_says(record: Record) -> None:
    """A seed of each experiment, on the kernel: all were counted on stock Keras when they were published."""
    model, config = load_final_model(record.run, allow_code=True), replace(record.config, data=Data())
    trained = make_trainable(model, config, choose_kernel(config, model))
    metrics = evaluate_model(trained, load_test(config, record.run.pixel_order()), 1000)
    published = record.predictions()
    assert abs(metrics.correct - record.correct) <= MAX_FLIPS
    assert (metrics.predictions != published.classes).sum() <= MAX_FLIPS
    assert np.abs(metrics.probabilities - published.probabilities).max() < 2e-3  # AMX: 4.2e-4, of a UR-LSTM


def test_the_stable_exported_version_is_the_headlines() -> None:
    described = read_description(choose_version(ROOT / DEFAULT_FOLDER))  # a user's own exports may be newer
    record = RECORDS[HEADLINE][0]
    assert described["seed"] == record.seed == 0
    assert described["config_id"] == record.summary["config_id"]
    assert described["commit"] == record.environment["git"]["commit"]
    for key in ("epoch", "test_accuracy", "test_correct", "test_total", "test_loss"):
        assert described[key] == record.summary["final"][key]
