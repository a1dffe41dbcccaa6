"""The records of this repository: they pass all checks, and documents show them."""

from __future__ import annotations

import json
import re
import statistics

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

from seqmnist_tf.data import Split
from seqmnist_tf.results import HEADLINE, pages, plots
from seqmnist_tf.results.pages import MARKED_SECTION, TABLES, find_documents
from seqmnist_tf.results.records import ResultsFolder, all_records
from seqmnist_tf.results.tables import compared_cells
from seqmnist_tf.serve import DEFAULT_FOLDER, choose_version, read_description
from seqmnist_tf.train import score
from seqmnist_tf.train.overview import draw_overview
from tests.conftest import assert_fits
from tests.toy import ROOT, toy_mnist

PUBLISHED = ResultsFolder.read(ROOT / "results")
RECORDS = PUBLISHED.records


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a clone has the commits of the records")
def test_everything_published_agrees() -> None:
    assert pages.clone_problems(ROOT, models=False) == []


def test_values_that_the_seed_of_a_search_does_not_give_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    results = ResultsFolder.read(ROOT / "results")
    (search,) = [one for one in results.searches if one.name == "searches/board_gru"]
    search.trials[2]["values"]["optimizer.lr"] *= 1.001
    monkeypatch.setattr(ResultsFolder, "read", lambda _: results)
    (problem,) = pages.clone_problems(ROOT, models=False)
    assert problem.startswith(f"{search.path}: its trials do not have the values")


def overview(results: ResultsFolder, shown: plots.ShownModel) -> Figure:
    return draw_overview(results.records[HEADLINE][0].directory, shown.test, score(shown.logits, shown.test.labels))


@pytest.mark.parametrize(
    "picture",
    [*plots.PICTURES, plots.Picture("overview.png", overview, lambda _: ())],
    ids=lambda picture: picture.file,
)
def test_no_text_of_a_picture_leaves_it(picture: plots.Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = plots.ShownModel(PUBLISHED)
    images, random = toy_mnist(splits=("test",))["test"].images, np.random.default_rng(0)
    labels = random.integers(10, size=len(images))
    shown.test = Split(images, images.reshape(len(images), -1, 1).astype(np.float32) / 255, labels)
    shown.logits = random.normal(size=(len(images), 10))
    shown.model = keras.Sequential([keras.Input((None, 1)), keras.layers.LSTM(2), keras.layers.Dense(10)])
    monkeypatch.setattr(plots, "UNFOLDING_IMAGES", (0, 30, 58))
    figure = picture.draw(PUBLISHED, shown)
    assert_fits(figure)
    boards = PUBLISHED.contents.boards
    cells = [cell.row.records for board in boards for cell in compared_cells(PUBLISHED, board)]
    shown_names = {"learning_curves.png": PUBLISHED.contents.learning_curves, "cell_curves.png": cells}
    if names := shown_names.get(picture.file):
        last = [[np.array(line.get_ydata())[-1] for line in axes.lines] for axes in figure.axes[: len(names)]]
        assert last == [[run.accuracy for run in RECORDS[name]] for name in names]
    if picture.file == "cells.png":
        drawn = [round(1 - x, 6) for axes in figure.axes for line in axes.lines for x in np.array(line.get_xdata())]
        assert {round(run.accuracy, 6) for name in cells for run in RECORDS[name]} <= {*drawn}


def test_every_section_is_shown() -> None:
    text = "\n".join((ROOT / path).read_text() for path in find_documents(ROOT))
    assert {match[2] for match in MARKED_SECTION.finditer(text)} == {*TABLES}
    assert text.count("<!-- results:") == len(list(MARKED_SECTION.finditer(text)))


def mean_of(name: str) -> float:
    return 100 * statistics.fmean(run.accuracy for run in RECORDS[name])


def test_the_figures_in_the_readmes_sentences_are_those_of_records_and_measurements() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    strong = f"{mean_of('strong'):.2f} ± {100 * statistics.stdev(run.accuracy for run in RECORDS['strong']):.2f} %"
    assert f"`strong` reaches **{strong}**" in readme
    measured = [json.loads(path.read_text()) for path in (ROOT / "results/benchmark").glob("cells_*.json")]
    ratios = [cell["native"]["ratio"] for document in measured for cell in document["cells"]]
    assert f"{min(ratios):.1f} to {max(ratios):.1f} times as fast" in readme
    quick = json.loads((ROOT / "results/quickstart/seed0/summary.json").read_text())
    shown = f"**{quick['final']['test_accuracy']:.2%}** after {quick['seconds_total'] / 60:.1f} minutes"
    assert shown.replace("%", " %") in readme
    rows = re.findall(r"^\| [^|]+ \| (\d+) \| (\d\d\.\d)", (ROOT / "results/README.md").read_text(), re.MULTILINE)
    accuracies = [float(accuracy) for units, accuracy in rows if 100 <= int(units) <= 130]
    assert f"{min(accuracies)} to {max(accuracies)} % for LSTMs of 100 to 130 units" in readme


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
