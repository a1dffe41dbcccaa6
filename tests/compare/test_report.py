"""The tables, rows and pictures of a report, from runs in memory. No file is read."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from seqmnist_tf.compare.pictures import (
    draw_comparison,
    draw_curves,
    draw_differences,
    draw_disagreements,
    draw_gradients,
)
from seqmnist_tf.compare.report import ROW_HEAD, csv_table, latex_table, paper_rows, tables
from tests.compare.runs import compared, seeded
from tests.conftest import assert_fits

A, B = dict(enumerate([20, 21, 19, 22])), dict(enumerate([24, 25, 26, 24, 25]))


def cells(text: str, first: str) -> list[str]:
    """Return the cells of the row of a table that begins with a cell."""
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


def test_the_tables_have_the_numbers_of_arms_and_pairs() -> None:
    b = replace(seeded("b", B, optimizer__lr=0.5), diverged=(9,), step_ms=12.34, peak_mb=640.4, notes=("b: a note.",))
    text = tables(compared(seeded("a", A), b))
    numbers = "4 / 146 / 5 / 83.33 / 82.67 ± 2.79 / 79.20 to 86.13 / 80.00 / 1 of 6 (0 to 64 %) / 2 / 3.0 / 12.3 / 640"
    assert cells(text, "`b`") == numbers.split(" / ")
    # Splits of the nine that are as far apart: enumerated by test_statistics; written with two digits
    assert cells(text, "`b` against `a`") == ["+14.33", "+7.92 to +20.75", "0.0079", "0.0079", "different"]
    # 20.5 of 30 digits are right on average; the margin is 0.045 digits
    assert "The margin of 0.15 points is 0.045 of 30 digits, 0 % of the errors of `a`." in text
    assert "| `optimizer.lr` | `0.001` | `0.5` |" in text and "- b: a note." in text
    assert "McNemar" not in text and "## Pairs" not in tables(compared(seeded("a", A)))


def test_models_of_one_seed_are_compared_by_mcnemars_test() -> None:
    """Only one of them right: b has the images 3 to 23, a the images 0 to 19."""
    text = tables(compared(seeded("a", A), seeded("b", {0: 21}, first=3), seeded("c", {7: 20})))
    assert cells(text, "`a` seed 0, `b` seed 0") == ["3", "4", "1.0"]
    assert cells(text, "`a` seed 0, `c` seed 7") == ["0", "0", "1.0"]
    assert cells(text, "`b` against `a`")[1:] == ["", "", "", ""]


def test_rows_for_a_paper() -> None:
    own: dict[str, Any] = {"model__layer": "lem:My_LEM", "model__layer_options": {"dt": 0.2, "mode": "a|b"}}
    arms = [seeded("a", A, task__limit_train=600, train__n_epochs=1), seeded("b", {0: 20}, **own)]
    a, b = rows = paper_rows(arms)
    assert a == ["a", "LSTM(4)", "sMNIST, 600 training images, 30 test images", "146", "RMSProp, 1 epoch",
                 "68.33 ± 4.30", "4"]  # fmt: skip
    assert b[:3] == ["b", "My_LEM(4, dt=0.2, mode=a|b) (custom layer)", "sMNIST, 30 test images"]
    assert list(csv.reader(csv_table(rows).splitlines())) == [[name.removeprefix(">") for name in ROW_HEAD], a, b]
    begin, _, head, _, *latex, _, end = latex_table(rows).splitlines()
    assert (begin, end) == (r"\begin{tabular}{lllrlrr}", r"\end{tabular}")
    assert head == r"name & model & task & parameters & training & test accuracy, \% & seeds \\"
    assert latex[0].endswith(r" & RMSProp, 1 epoch & 68.33 $\pm$ 4.30 & 4 \\")
    assert latex[1].startswith(r"b & My\_LEM(4, dt=0.2, mode=a|b) (custom layer) & ")
    assert r"| `b` | 4, dt=0.2, mode=a\|b |" in tables(compared(*arms))


def test_the_pictures_show_the_numbers(toy: None) -> None:
    a, b = seeded("a", {0: 20, 1: 20}), seeded("b", {0: 21, 1: 20, 2: 22}, first=3, optimizer__lr=0.5)
    comparison = compared(a, b)
    (differences,), (curves,) = draw_differences(comparison).axes, draw_curves(comparison).axes
    seeds, interval, mean = (np.array(line.get_xdata()) for line in differences.lines[:3])
    assert seeds == pytest.approx([10 / 3, 0, 20 / 3]) and mean == pytest.approx([10 / 3])
    assert interval == pytest.approx([100 * bound for bound in comparison.pairs[0].ci_95 or ()])
    assert [np.array(line.get_ydata())[-1] for line in curves.lines] == pytest.approx([100 * 10 / 30, 30])
    assert np.array(curves.collections[1].get_paths()[0].vertices)[:, 1].min() == pytest.approx(100 * 8 / 30)
    assert draw_gradients(comparison) is None  # they are not logged
    for run in (*a.runs, *b.runs):
        vars(run)["gradient_norms"] = [4.0, 1.0 + run.seed]
    gradients = draw_gradients(comparison)
    assert gradients and [np.array(line.get_ydata()).tolist() for line in gradients.axes[0].lines] == [[4, 1.5], [4, 2]]
    figure = draw_disagreements(comparison)
    assert [part.get_suptitle() for part in figure.subfigs] == [
        "a is right more often than b: 3 digits",  # the images 0 to 2
        "b is right more often than a: 5 digits",  # 20 to 22 in all seeds of b, 23 in two, 24 in one
    ]
    shares = [axes.get_title().splitlines()[-1] for axes in figure.subfigs[1].axes if axes.get_title()]
    assert shares == ["3/3, 0/2", "3/3, 0/2", "3/3, 0/2", "2/3, 0/2", "1/3, 0/2"]


def test_the_pictures_fit(toy: None) -> None:
    names = ("a", "an-arm-whose-name-is-long", "c")
    arms = [seeded(name, {0: 20 + n, 1: 21}, first=n, optimizer__lr=0.1 + n) for n, name in enumerate(names)]
    pictures = draw_comparison(compared(*arms))
    assert list(pictures) == ["curves", "differences", "disagreements"]
    for figure in pictures.values():
        assert_fits(figure)
    assert list(draw_comparison(compared(arms[0]))) == ["curves"]
