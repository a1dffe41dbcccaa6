"""The tables and pictures of a report, from runs in memory."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmnist_tf.compare import SeededRuns, pair_runs
from seqmnist_tf.compare.paper import PAPERS, PUBLISHED, PaperTable, bibliography, cell_names, csv_table
from seqmnist_tf.compare.pictures import (
    draw_comparison,
    draw_curves,
    draw_differences,
    draw_disagreements,
    draw_gradients,
)
from seqmnist_tf.compare.report import _margin_text, tables
from tests.compare.runs import compared, seeded
from tests.conftest import assert_fits

A, B = dict(enumerate([20, 21, 19, 22])), dict(enumerate([24, 25, 26, 24, 25]))


def cells(text: str, first: str) -> list[str]:
    """Return the cells of the row of a table that begins with a cell."""
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


def paper_table(*arms: SeededRuns) -> PaperTable:
    return PaperTable.of(arms, pair_runs(arms))


def test_the_tables_have_the_numbers_of_arms_and_pairs() -> None:
    b = replace(seeded("b", B, optimizer__lr=0.5), diverged=(9,), step_ms=12.34, peak_mb=640.4, notes=("b: a note.",))
    text = tables(compared(seeded("a", A), b))
    numbers = "4 / 146 / 5 / 83.33 / 82.67 ± 2.79 / 79.20 to 86.13 / 80.00 / 1 of 6 (0 to 64 %) / 2 / 3.0 / 12.3 / 640"
    assert cells(text, "`b`") == numbers.split(" / ")
    # Splits of the nine that are as far apart: enumerated by test_statistics; written with two digits
    assert cells(text, "`b` against `a`") == ["+14.33", "+7.92 to +20.75", "0.0079", "0.0079", "different"]
    assert "The margin of 0.15 points is less than one of 30 digits." in text
    wide = _margin_text(seeded("a", A), 0.1)  # 20.5 of 30 digits are right on average
    assert wide == "The margin of 10 points is 3 of 30 digits, 32 % of the errors of `a`."
    assert "| `optimizer.lr` | `0.001` | `0.5` |" in text and "- b: a note." in text
    assert "McNemar" not in text and "## Pairs" not in tables(compared(seeded("a", A)))


def test_models_of_one_seed_are_compared_by_mcnemars_test() -> None:
    """Only one of them right: b has the images 3 to 23, a the images 0 to 19."""
    text = tables(compared(seeded("a", A), seeded("b", {0: 21}, first=3), seeded("c", {7: 20})))
    assert cells(text, "`a` seed 0, `b` seed 0") == ["3", "4", "1.0"]
    assert cells(text, "`a` seed 0, `c` seed 7") == ["0", "0", "1.0"]
    assert cells(text, "`b` against `a`")[1:] == ["", "", "", ""]


def test_the_table_for_a_paper() -> None:
    own: dict[str, Any] = {"model__layer": "lem:My_LEM", "model__layer_options": {"dt": 0.2, "mode": "a|b"}}
    arms = seeded("a", A, task__limit_train=600), replace(seeded("b", B, task__limit_train=600, **own), diverged=(9,))
    table = paper_table(*arms)
    assert list(table.head) == [
        "cell", "n", "mean ± SD, %", "95 % interval, %", "difference, points (95 % interval)", "p", "failed"
    ]  # fmt: skip
    assert table.rows == [
        ["LSTM", "4", "68.33 ± 4.30", "61.49 to 75.18", "", "", "0"],
        ["My_LEM (dt=0.2, mode=a|b)", "5 of 6", "82.67 ± 2.79", "79.20 to 86.13", "+14.33 (+7.92 to +20.75)", "0.0079",
         "1"],
    ]  # fmt: skip
    for words in ("on sMNIST, 600 training images, 30 test images", "parameters 146; epochs 2", "c0ffee", "Welch"):
        assert words in table.caption
    assert "one pair" in table.caption and "Holm's correction over 2 pairs" in (
        paper_table(*arms, seeded("c", A, task__limit_train=600)).caption
    )
    assert r"| `b` | 4, dt=0.2, mode=a\|b |" in tables(compared(*arms))
    assert table.caption.endswith(" All rows have the same recipe. Runs of commit c0ffee.")
    two = paper_table(*(replace(arm, runs=arm.runs[:2]) for arm in arms))
    assert "difference, points" in two.head and "interval" not in two.caption


def test_the_caption_names_the_settings_in_which_recipes_differ() -> None:
    arms = seeded("a", A), seeded("b", B, optimizer__lr=0.5, model__layer="lem:LEM"), seeded("c", A, optimizer__lr=0.5)
    assert "row by row: optimizer.lr 0.001, 0.5, 0.5. All other settings are equal." in paper_table(*arms).caption


def test_arms_of_one_cell_have_their_names_and_one_arm_is_a_table() -> None:
    arms = [seeded("a", {0: 20}), seeded("b", {0: 21}), seeded("c", {0: 22}, model__layer="minrnn:MinGRU")]
    assert cell_names(arms) == ["LSTM, a", "LSTM, b", "minGRU"]
    table = paper_table(arms[0])
    assert (list(table.head), table.rows) == (
        ["cell", "parameters", "epochs", "n", "mean ± SD, %", "failed"], [["LSTM", "146", "2", "1", "66.67", "0"]]
    )  # fmt: skip


def test_the_numbers_for_a_program() -> None:
    comparison = compared(seeded("a", A), seeded("b", B, task__permutation="none"), seeded("c", {0: 20}))
    a, b, c = csv.DictReader(csv_table(comparison).splitlines())
    assert (a["name"], a["seeds"], a["train_images"], a["difference"], a["holm_p"]) == ("a", "4", "60000", "", "")
    arm, pair = comparison.arms[1], comparison.pairs[0]
    numbers = {"mean": arm.mean, "std": arm.std, "difference": pair.mean_difference, "holm_p": pair.holm_p}
    numbers |= {"permutation_p": pair.permutation_p, "units": 4, "num_params": 146}
    for name, interval in (("ci_95", arm.ci_95), ("difference", pair.ci_95)):
        numbers[f"{name}_low"], numbers[f"{name}_high"] = interval or (None, None)
    assert {key: float(b[key]) for key in numbers} == numbers
    assert (c["std"], c["ci_95_low"], c["difference_low"], c["permutation_p"]) == ("", "", "", "")


def keys_of(bibtex: str) -> list[str]:
    return re.findall(r"^@\w+\{(\w+),$", bibtex, re.MULTILINE)


def test_the_references_are_of_this_project_and_of_published_cells() -> None:
    names = ["LSTM", "mine:LEM", "mine:New", "min:MinGRU", "min:MinLSTM"]
    text = bibliography([seeded(name, A, model__layer=name) for name in names])
    assert keys_of(text) == ["seqmnist_tf", "hochreiter1997", "rusch2022", "feng2024"] and "commit c0ffee" in text
    assert {"seqmnist_tf", *(key for _, key in PUBLISHED.values())} == {*keys_of(PAPERS.read_text())}


def test_latex_compiles_the_table_with_its_references(tmp_path: Path) -> None:
    """Without LaTeX, its rows are split as LaTeX splits them."""
    own: dict[str, Any] = {"model__layer": "x:My_Cell", "model__layer_options": {"mode": "~^\\ <#&%"}}
    arms = seeded("a", A), seeded("b", B, **own), seeded("c", A, model__layer="GRU")
    table, text = paper_table(*arms), paper_table(*arms).latex()
    if shutil.which("pdflatex") is None:
        body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
        rows = [re.split(r"(?<!\\)&", row) for row in body.strip().removesuffix(r"\\").split(r"\\")]
        assert [len(row) for row in rows] == [len(table.head)] * 3
        return
    (tmp_path / "row.tex").write_text(text)
    (tmp_path / "cite.bib").write_text(bibliography(arms))
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{row.tex}Table~\ref{tab:seqmnist}"
    (tmp_path / "paper.tex").write_text(document + r"\bibliographystyle{plain}\bibliography{cite}\end{document}")
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"]
    for command in (latex, ["bibtex", "paper"], latex, latex):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    assert "undefined" not in done.stdout and (tmp_path / "paper.pdf").stat().st_size > 10_000


def test_the_pictures_show_the_numbers(toy: None) -> None:
    a, b = seeded("a", {0: 20, 1: 20, 2: 20}), seeded("b", {0: 21, 1: 20, 2: 22}, first=3, optimizer__lr=0.5)
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
    assert gradients and [np.array(line.get_ydata()).tolist() for line in gradients.axes[0].lines] == [[4, 2], [4, 2]]
    figure = draw_disagreements(comparison)
    assert [part.get_suptitle() for part in figure.subfigs] == [
        "a is right more often than b: 3 digits",  # the images 0 to 2
        "b is right more often than a: 5 digits",  # 20 to 22 in all seeds of b, 23 in two, 24 in one
    ]
    shares = [axes.get_title().splitlines()[-1] for axes in figure.subfigs[1].axes if axes.get_title()]
    assert shares == ["3/3, 0/3", "3/3, 0/3", "3/3, 0/3", "2/3, 0/3", "1/3, 0/3"]


def test_the_pictures_fit(toy: None) -> None:
    names = ("a", "an-arm-whose-name-is-long", "c")
    arms = [seeded(name, {0: 20 + n, 1: 21}, first=n, optimizer__lr=0.1 + n) for n, name in enumerate(names)]
    pictures = draw_comparison(compared(*arms))
    assert list(pictures) == ["curves", "differences", "disagreements"]
    for figure in pictures.values():
        assert_fits(figure)
    assert list(draw_comparison(compared(arms[0]))) == ["curves"]
