"""The tables have the numbers of the records. Those of the repository are compared with its documents besides."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.config import NUM_TEST
from seqmnist_tf.results import tables
from seqmnist_tf.results.contents import Board, Contents, Row, SearchGroup
from seqmnist_tf.results.records import Record, ResultsFolder, Search
from seqmnist_tf.system import InputError, read_json_object
from seqmnist_tf.tune import SearchFolder
from tests.toy import ROOT


def with_counts(record: Record, name: str, counts: list[int]) -> list[Record]:
    """Return records of a name, one a seed, with these numbers of correct digits."""
    return [
        dataclasses.replace(
            record,
            name=name,
            config=cfg.with_values(record.config, {"train.seed": seed}),
            summary={**record.summary, "final": {"test_correct": count, "test_total": NUM_TEST}},
        )
        for seed, count in enumerate(counts)
    ]


@pytest.fixture
def results(published: Path) -> ResultsFolder:
    return ResultsFolder.read(Path("results"))


@pytest.mark.parametrize(
    ("counts", "cells"),
    [([9_800, 9_900, 9_850], "| **98.50 ± 0.50** | 97.26 to 99.74 |"), ([9_838], "| **98.38** |  |")],
)
def test_runs_of_an_experiment(counts: list[int], cells: str, results: ResultsFolder) -> None:
    results.records["strong"] = with_counts(results.records["strong"][0], "strong", counts)
    (row,) = tables.runs_table(results).splitlines()[2:]
    assert row.startswith("| `strong` | sMNIST, 40 training images, ") and cells in row
    for seed, count in enumerate(counts):
        assert f"[{count:,}](results/strong/seed{seed})" in row
    (row,) = tables.ranking_table(with_boards(results, Board("sMNIST", [], [Row("strong")]))).splitlines()[2:]
    assert cells.split(" | ")[0] in row


def test_epochs_and_minutes_of_a_run(results: ResultsFolder) -> None:
    first, second = results.records["strong"]
    slow = dataclasses.replace(first, history=[{"seconds": seconds} for seconds in (60.0, 60.0, 6000.0, 63.0)])
    assert slow.minutes == 61.5 / 60 * 4  # without its pause
    for escaped, cell in (((7, 2), "| 2 to 7 |"), ((None, 2), "| 2 to never |")):
        results.records["strong"] = [
            dataclasses.replace(one, summary={**one.summary, "escape_epoch": epoch})
            for one, epoch in zip((first, second), escaped, strict=True)
        ]
        assert cell in tables.runs_table(results)


def rows_of(table: str) -> list[str]:
    return [line for line in table.splitlines() if line.startswith("| ")][1:]


def with_boards(results: ResultsFolder, *boards: Board) -> ResultsFolder:
    return dataclasses.replace(results, contents=msgspec.structs.replace(results.contents, boards=list(boards)))


def test_a_board_ranks_its_cells_and_compares_them_with_the_first(results: ResultsFolder) -> None:
    one = results.records["strong"][0]
    lstm = [9_800, 9_810, 9_820, 9_830, 9_840, 9_850, 9_860, 9_870]
    results.records["a"] = with_counts(one, "a", lstm)
    results.records["b"] = with_counts(one, "b", [count + 100 for count in lstm])
    results.records["c"] = with_counts(one, "c", [count + 50 for count in lstm])
    cells = [Row("a"), Row("b", note="mine", other_search="c")]
    results = with_boards(results, Board("sMNIST", cells, beside=[Row("strong")]))
    first, second = rows_of(tables.board_tables(results))
    # Welch: 1 ± 2.1448 * 0.2449 * sqrt(2 / 8) points; the two samples do not overlap in 12,870 splits but a few
    compared = "+1.00 (+0.74 to +1.26) | <0.001 | "
    assert first.startswith("| LSTM, 16 units, mine | 1,322 | **99.35 ± 0.24** | 99.35 | 99.00 | 0 of 8 | " + compared)
    assert first.endswith(" | 98.85 ± 0.24 |")
    assert second.startswith("| LSTM, 16 units | 1,322 | **98.35 ± 0.24** | 98.35 | 98.00 | 0 of 8 |  |  |  |")
    ranking = rows_of(tables.ranking_table(results))
    assert [row.split(" | ")[:2] for row in ranking[:2]] == [["| LSTM", "`b`"], ["| LSTM", "`a`"]]
    assert len(ranking) == 3 and compared.rstrip("| ") in ranking[0] and ranking[2].endswith(" |  |  |")
    runs = tables.board_runs_table(results)
    assert " | 0.01, null, 0.0, 0.0 | [9,800](results/a/seed0), [9,810](results/a/seed1)" in runs
    assert "results/a/" not in tables.runs_table(results) and "results/b/" not in tables.runs_table(results)
    assert "results/c/" not in tables.runs_table(results)
    assert "failed" not in tables.board_tables(results)
    results.records["b"].pop()
    diverged = {**one.summary, "status": "diverged"}
    seventh = cfg.with_values(one.config, {"train.seed": 7})
    results.diverged.append(dataclasses.replace(one, name="b", config=seventh, summary=diverged))
    assert " | 1 of 8 | " in rows_of(tables.board_tables(results))[0]
    assert "[diverged](results/b/seed7)" in tables.board_runs_table(results)
    with pytest.raises(InputError, match="missing"):
        tables.board_tables(with_boards(results, Board("sMNIST", [Row("missing")])))


@pytest.mark.parametrize(
    ("curve", "fell"),
    [
        ([0.1, 0.49, 0.2, 0.9, 0.95], False),  # only before it had exceeded a half
        ([0.1, 0.9, 0.85, 0.811], False),
        ([0.1, 0.9, 0.85, 0.81, 0.99], True),
    ],
)
def test_a_run_fell_that_lost_nine_points_after_it_had_exceeded_a_half(
    curve: list[float], fell: bool, results: ResultsFolder
) -> None:
    history = [{"test_accuracy": accuracy} for accuracy in curve]
    assert dataclasses.replace(results.records["strong"][0], history=history).fell is fell


def test_the_rungs_of_a_cell_are_one_row() -> None:
    document = read_json_object(ROOT / "results" / "searches" / "settings_added_0.json")
    settings = SearchFolder.read(Path("x"), document)
    searches = []
    for name, epochs, score in (
        ("board2_lstm_rung1", 3, 0.9),
        ("board2_lstm_rung3_seed100", 15, 0.95),
        ("board2_lstm_rung3_seed101", 15, 0.93),
        ("mine", 5, 0.8),
    ):
        base = cfg.with_values(settings.base, {"train.n_epochs": epochs})
        trials = [{**row, "score": score, "seconds": 1800.0} for row in document["trials"][:2]]
        one = dataclasses.replace(settings, path=Path(f"{name}.json"), base=base)
        searches.append(Search(one, {**document, "trials": trials}))
    contents = Contents([], [SearchGroup("LSTM", ["board2_lstm_rung*"])], [], [], [], {})
    first, second = rows_of(tables.searches_table(ResultsFolder(contents, {}, searches=searches)))
    assert first.startswith("| LSTM | LSTM | ")
    links = [f"(results/searches/board2_lstm_{rung}.json)" for rung in ("rung1", "rung3_seed100", "rung3_seed101")]
    assert f"[2 x 3]{links[0]}, [2 x 15]{links[1]}, [2 x 15]{links[2]} | 94.00 | 3.0 |" in first
    assert second.startswith("| `mine` | LSTM | [2 x 5](results/searches/mine.json) | 80.00 | 1.0 |")
