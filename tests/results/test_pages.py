"""Tables and pictures are made from the records, and what differs is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf.results import pages, plots
from seqmnist_tf.results.__main__ import main
from seqmnist_tf.results.checks import recount_first
from seqmnist_tf.results.pages import relative_links
from seqmnist_tf.results.records import ResultsFolder
from tests.changes import content
from tests.conftest import Command
from tests.results.files import flip_byte, flip_digit, other_weights

RESULTS, RECORD = Path("results"), "results/strong/seed1"


def section_pattern(name: str) -> str:
    """Return a pattern that matches one table of a document."""
    return rf"(?s)<!-- results: {name} -->.*?<!-- end -->"


def test_everything_agrees_after_writing(command: Command, published: Path) -> None:
    answer = command(main, "--check")
    assert (answer.status, answer.out.count("\n")) == (0, 1)
    before = content(published)
    assert command(main).status == 0
    assert content(published) == before


CHANGES: list[tuple[str, Callable[[Path], Any]]] = [
    (f"{RECORD}/summary.json", flip_digit),
    (f"{RECORD}/predictions.csv", Path.unlink),
    (f"{RECORD}/more.txt", lambda path: path.write_text("1")),
    ("results/SHA256SUMS", flip_digit),
    ("results/SHA256SUMS", lambda path: path.write_text("nonsense\n")),
    ("results/benchmark/baseline.json", flip_digit),
    ("results/plots/confusion.png", flip_byte),
    ("results/plots/unfolding.png", Path.unlink),
    ("README.md", lambda path: flip_digit(path, section_pattern("ranking"))),
    ("results/README.md", lambda path: flip_digit(path, section_pattern("runs"))),
    ("docs/more/page.md", lambda path: flip_digit(path, section_pattern("configuration"))),
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_one_changed_digit_is_found(
    name: str, change: Callable[[Path], Any], command: Command, published: Path
) -> None:
    change(published / name)
    before = content(published)
    answer = command(main, "--check")
    assert answer.status in (1, 2)
    assert answer.err.startswith("error: ") and Path(name).name in answer.out + answer.err
    assert content(published) == before


def test_the_model_of_another_run_is_found(published: Path) -> None:
    records = ResultsFolder.read(RESULTS).records["strong"]
    assert recount_first(records) == []
    model = Path(RECORD, "model.keras")
    shutil.copy("results/strong/seed0/model.keras", model)
    (problem,) = recount_first(records)
    assert problem.startswith(f"{RECORD}: predictions.csv is not what model.keras gives for ")
    other_weights(model)
    assert len(recount_first(records)) == 1


def test_a_probability_of_another_rounding_is_no_problem_and_one_of_0_1_percent_is(published: Path) -> None:
    records, table = ResultsFolder.read(RESULTS).records["strong"], Path(RECORD, "predictions.csv")
    head, first, *rows = table.read_text().splitlines()
    *cells, probability = first.split(",")
    for change, problems in ((5e-5, 0), (1e-3, 1)):
        changed = ",".join([*cells, str(float(probability) - change)])
        table.write_text("\n".join([head, changed, *rows]) + "\n")
        assert len(recount_first(records)) == problems


def test_nothing_is_written_from_a_changed_record(command: Command, published: Path) -> None:
    flip_digit(published / RECORD / "history.jsonl")
    before = content(published)
    assert command(main).status == 1
    assert content(published) == before


def test_a_record_that_is_removed_leaves_pages_and_pictures(command: Command, published: Path) -> None:
    drawn = {picture.file for picture in plots.PICTURES if (RESULTS / "plots" / picture.file).exists()}
    assert drawn == {picture.file for picture in plots.PICTURES} - {"cells.png", "cell_curves.png"}
    shutil.rmtree(RECORD)
    assert command(main, "--check").status == 1
    # The learning curves show every seed, the others seed 0.
    assert [one.file for one in plots.outdated_pictures(ResultsFolder.read(RESULTS), RESULTS)] == [
        "learning_curves.png"
    ]
    assert RESULTS / "plots" / "learning_curves.png" in pages.write_documents()
    assert "seed1" not in Path("results/README.md").read_text() + Path("results/SHA256SUMS").read_text()
    assert command(main, "--check").status == 0


def test_links_are_relative_to_their_document() -> None:
    for document, link in (("README.md", "results/a"), ("results/README.md", "a"), ("docs/b/c.md", "../../results/a")):
        text = "[a](results/a), [b](https://example.org/x), [c](#part)"
        assert relative_links(text, Path(document)) == f"[a]({link}), [b](https://example.org/x), [c](#part)"


def test_it_runs_in_a_clone_only(command: Command, in_tmp: Path) -> None:
    for words in ([], ["--check"], ["add", "run", "--name", "mine"]):
        answer = command(main, *words)
        assert answer.status == 2 and answer.err.startswith("error: README.md")
    assert list(in_tmp.iterdir()) == []
