"""The records of this repository: they pass all checks, and documents show them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

from seqmnist_tf.data import Split
from seqmnist_tf.results import HEADLINE, pages, plots
from seqmnist_tf.results.pages import MARKED_SECTION, TABLES, find_documents
from seqmnist_tf.results.records import Board, all_records
from seqmnist_tf.serve import DEFAULT_FOLDER, choose_version, read_description
from seqmnist_tf.train import score
from seqmnist_tf.train.page import draw_overview
from tests.conftest import assert_fits
from tests.toy import ROOT, toy_mnist

RECORDS = Board.read(ROOT / "results").records


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a clone has the commits of the records")
def test_everything_published_agrees() -> None:
    assert pages.clone_problems(ROOT, models=False) == []


def test_values_that_the_seed_of_a_search_does_not_give_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board.read(ROOT / "results")
    (search,) = [one for one in board.searches if one.name == "searches/board_gru"]
    search.trials[2]["values"]["optimizer.lr"] *= 1.001
    monkeypatch.setattr(Board, "read", lambda _: board)
    (problem,) = pages.clone_problems(ROOT, models=False)
    assert problem.startswith(f"{search.path}: its trials do not have the values")


def overview(board: Board, shown: plots.ShownModel) -> Figure:
    return draw_overview(board.records[HEADLINE][0].run, shown.test, score(shown.logits, shown.test.labels))


@pytest.mark.parametrize(
    "picture",
    [*plots.PICTURES, plots.Picture("overview.png", overview, lambda _: ())],
    ids=lambda picture: picture.file,
)
def test_no_text_of_a_picture_leaves_it(picture: plots.Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = {f"board2_{name}": RECORDS[f"board_{name}"] for name in ("lstm", "lem", "cornn", "min_lstm")}
    board = Board({**RECORDS, **cells}, {}, {})
    shown = plots.ShownModel(board)
    images, random = toy_mnist(splits=("test",))["test"].images, np.random.default_rng(0)
    labels = random.integers(10, size=len(images))
    shown.test = Split(images, images.reshape(len(images), -1, 1).astype(np.float32) / 255, labels)
    shown.logits = random.normal(size=(len(images), 10))
    shown.model = keras.Sequential([keras.Input((None, 1)), keras.layers.LSTM(2), keras.layers.Dense(10)])
    monkeypatch.setattr(plots, "UNFOLDING_IMAGES", (0, 30, 58))
    figure = picture.draw(board, shown)
    assert_fits(figure)
    if picture.file in ("learning_curves.png", "cells.png"):
        last = [[np.array(line.get_ydata())[-1] for line in axes.lines] for axes in figure.axes]
        shown_names = plots.OVERVIEW if picture.file == "learning_curves.png" else [cell.name for cell in board.cells()]
        runs = [board.records[name] for name in shown_names]
        assert last == [[run.accuracy for run in of_arm] for of_arm in runs] + [[]] * (len(last) - len(runs))


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


def test_the_stable_exported_version_is_the_headlines() -> None:
    described = read_description(choose_version(ROOT / DEFAULT_FOLDER))  # a user's own exports may be newer
    record = RECORDS[HEADLINE][0]
    assert described["seed"] == record.seed == 0
    assert described["config_id"] == record.summary["config_id"]
    assert described["commit"] == record.environment["git"]["commit"]
    for key in ("epoch", "test_accuracy", "test_correct", "test_total", "test_loss"):
        assert described[key] == record.summary["final"][key]
