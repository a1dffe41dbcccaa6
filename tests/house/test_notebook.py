"""The notebooks run from top to bottom, and their committed outputs come from a complete run on real data."""

from __future__ import annotations

import base64
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf import load_run, train
from seqmnist_tf.train import parse_train_arguments
from seqmnist_tf.train.__main__ import main as train_main
from tests.conftest import Command
from tests.house.test_documents import DOCUMENTS, command_lines, inline_code, table_rows
from tests.toy import ROOT

NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
# Lines after the cell of parameters that make a notebook small enough for a test.
SMALL = {
    "main": """CHANGES = {
        "model.hidden_size": 16,
        "task.limit_train": 500,
        "task.limit_test": 300,
        "train.n_epochs": 2,
        "wandb.mode": "disabled",
    }""",
    "own_layer": """SEEDS = range(1)
CHANGES = {
    "model.hidden_size": 16,
    "task.limit_train": 200,
    "task.limit_test": 300,
    "train.n_epochs": 1,
    "wandb.mode": "disabled",
}""",
    "plateau": 'IMAGES, BIASES, SEEDS = 2, (0, "chrono"), (0,)',
}


def code_cells(name: str) -> list[Any]:
    return [cell for cell in nbformat.read(NOTEBOOKS[name], as_version=4).cells if cell.cell_type == "code"]


def printed(cells: list[Any]) -> str:
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


def pictures(cells: list[Any]) -> list[bytes]:
    found = [output.get("data", {}).get("image/png") for cell in cells for output in cell.get("outputs", ())]
    return [base64.b64decode(picture) for picture in found if picture]


def table(text: str, head: str) -> dict[str, list[float]]:
    """Return the numbers of the rows that a notebook printed below ``head``, by their first word."""
    rows: dict[str, list[float]] = {}
    for line in text.split(head)[1].splitlines()[1:]:
        name, *numbers = line.split()
        if not numbers or not re.fullmatch(r"[\d.]+(e[+-]\d+)?", numbers[-1]):
            break
        rows.setdefault(name, [float(number) for number in numbers])
    return rows


# What the solution of exercise 1 says of the input gate, as a last cell.
INPUT_BIAS = """for forget_bias, input_bias in ((6, -6), ("chrono", 0)):
    model = build_model(cfg.with_values(config, {"model.forget_bias": forget_bias}))
    weights = model.get_weights()
    weights[2][:units] = input_bias
    model.set_weights(weights)
    print("gradient, 1:", measure(model)["by_c"][0])"""


def run(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path, changes: str = "", last: str = "") -> list[Any]:
    """Run a notebook with its small parameters, or with others, and perhaps a last cell; return its code cells."""
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])))
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    parameters.source += f"\n{changes or SMALL[name]}"
    notebook.cells += [nbformat.v4.new_code_cell(last)] if last else []
    resources = {"metadata": {"path": str(NOTEBOOKS[name].parent)}}
    nbclient.NotebookClient(notebook, timeout=240, resources=resources).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_notebook_is_run() -> None:
    assert set(NOTEBOOKS) == set(SMALL)


@pytest.mark.slow
@pytest.mark.network  # MNIST itself, where it is not prepared
def test_main_runs_from_top_to_bottom(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cells = run("main", monkeypatch, tmp_path)
    assert printed(cells).count("of 300") == 1
    assert len(pictures(cells)) == 3


@pytest.mark.slow
@pytest.mark.network  # MNIST itself, where it is not prepared
def test_own_layer_runs_from_top_to_bottom(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cells = run("own_layer", monkeypatch, tmp_path)
    assert re.search(r"18 units, 1,270 parameters; correct digits of each seed: \(\d+,\) of 300\n", printed(cells))
    assert re.search(
        r"^CoupledLSTM against quickstart: [+-]\d+\.\d\d points, permutation p None$", printed(cells), re.MULTILINE
    )
    assert {"layer.py", "overview.png", "report.md", "comparison.json"} <= set(printed(cells).split())
    assert len(pictures(cells)) == 3


@pytest.mark.slow
@pytest.mark.network  # MNIST itself, where it is not prepared
def test_plateau_runs_from_top_to_bottom(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cells = run("plateau", monkeypatch, tmp_path)
    assert len(pictures(cells)) == 3
    rows = table(printed(cells), "forget bias          seed")
    kept, gradient = {bias: row[1] for bias, row in rows.items()}, {bias: row[3] for bias, row in rows.items()}
    # A gate near sigmoid(0) = 0.5 at each of 783 steps.
    assert 0.49**783 < kept["0"] < 0.51**783
    assert kept["0"] < gradient["0"] < 1e-150
    assert 0.05 < kept["chrono"] < 0.5 and 0.02 < gradient["chrono"] < 1


@pytest.mark.slow
@pytest.mark.network  # MNIST itself, where it is not prepared
def test_exercise_1_of_plateau_explodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cells = run("plateau", monkeypatch, tmp_path, "BIASES, SEEDS = (3, 6), (0,)", INPUT_BIAS)
    rows = table(printed(cells), "forget bias          seed")
    assert list(rows) == ["3", "6"] and all(row[3] > 100 * row[5] for row in rows.values())
    assert_rows_on("docs/plateau_solutions.md", rows)
    closed, opened = map(float, re.findall(r"gradient, 1: (\S+)", printed(cells)))
    text = " ".join(DOCUMENTS["docs/plateau_solutions.md"].split())
    assert f"gradient after step 1 is {closed:.1f}; if chrono gets an input bias of 0, it is {opened:.0e}." in text


@pytest.mark.slow
@pytest.mark.network  # MNIST itself, where it is not prepared
def test_exercise_2_of_plateau_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cells = run("plateau", monkeypatch, tmp_path, 'PERMUTATION, BIASES, SEEDS = "urnn92916", (1,), (0,)')
    assert "last ink of 64 images: step 770 to 784 of 784, median 784" in printed(cells)  # as the solutions say
    (row,) = table(printed(cells), "forget bias          seed").values()
    assert f"{row[-1]:.0e}" == "6e-02"


@pytest.mark.slow
@pytest.mark.network  # MNIST itself, where it is not prepared
def test_the_runs_of_exercise_3_begin_as_the_solutions_say(command: Command, in_tmp: Path) -> None:
    """The first of three epochs, which has 100 of 300 steps; processors and kernels differ by a few points."""
    lines = [words for _, *words in command_lines(DOCUMENTS["docs/plateau.md"])]
    first, *runs = [words for words in lines if {"--print-config", "small.json"} & set(words)]
    (in_tmp / "small.json").write_text(command(train_main, *first).out)
    rows = table_rows("docs/plateau_solutions.md", "run")
    for words, (number, _, accuracies, *_) in zip(runs, rows, strict=True):
        config = parse_train_arguments([*words, "--wandb.mode", "disabled"]).config
        train(config, in_tmp / number, stop_rule=lambda *_: "one epoch")
        (epoch,) = load_run(in_tmp / number).history()
        assert abs(100 * epoch["test_accuracy"] - float(accuracies.split(",")[0])) < 5, words


def test_exercise_4_of_plateau_repeats_one_experiment() -> None:
    exercise = DOCUMENTS["docs/plateau.md"].split("**Exercise 4.**")[1].split("\n## ")[0]
    configs = [parse_train_arguments(["quickstart", *words.split()]).config for words in inline_code(exercise)]
    assert [config.train.seed for config in configs] == [1, 2]
    assert {cfg.config_id(config) for config in configs} == {cfg.config_id(cfg.preset("quickstart"))}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_its_outputs_come_from_a_complete_run(name: str) -> None:
    cells = code_cells(name)
    imports = [line for cell in cells for line in cell.source.splitlines() if line.startswith(("import ", "from "))]
    exec("\n".join(imports), {})  # of the package as it is now
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    outputs = [output for cell in cells for output in cell.outputs]
    shown = [text for output in outputs for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    text = "".join([*(output.get("text", "") for output in outputs), *shown])
    assert "/tmp/" not in text and "/root/" not in text


def test_the_outputs_of_main_come_from_real_data() -> None:
    text = printed(code_cells("main"))
    assert "training (60000, 784, 1) test (10000, 784, 1)" in text
    assert f"epoch {cfg.preset('quickstart').train.n_epochs}/" in text and "of 10,000" in text
    shown, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])  # keys that are newer have their defaults
    assert cfg.with_values(cfg.Config(), cfg.flatten_sections(shown)) == cfg.preset("quickstart")
    assert "'overview.png'" in text and "'predictions.csv'" in text


def test_the_outputs_of_own_layer_come_from_four_seeds_on_real_data() -> None:
    cells = code_cells("own_layer")
    assert re.search(r"of each seed: \(\d+, \d+, \d+, \d+\) of 2,000\n", printed(cells))
    assert len(pictures(cells)) == 3
    (layer,) = (cell.source for cell in cells if "class CoupledCell" in cell.source)
    assert len([line for line in layer.split("class CoupledCell")[1].splitlines() if line]) <= 21


def test_the_arithmetic_of_the_plateau_page() -> None:
    text, solutions = (" ".join(DOCUMENTS[f"docs/{name}.md"].split()) for name in ("plateau", "plateau_solutions"))

    def short(number: float) -> str:
        return f"{number:.2f}" if number > 0.01 else f"{number:.0e}"

    biases = {"0 (near PyTorch's initial values)": 0.0, "1 (Keras's initial value)": 1.0}
    for name, bias in {**biases, "log u, chrono, u = 392": math.log(392)}.items():
        gate = 1 / (1 + math.exp(-bias))
        assert f"| {name} | {gate:.3f} | {short(gate**99)} | {short(gate**783)} |" in text
    powers = re.findall(r"(0\.\d+) to the power of 783 is ([\d.e-]+\d)", solutions)
    assert len(powers) == 2 and all(short(float(gate) ** 783) == power for gate, power in powers)
    measured = printed(code_cells("plateau"))
    assert "median 685" in measured and "read at step 685 (median)" in text and f"{784 - 685} steps or more" in text
    rows = re.findall(r"^ +(0|1|chrono) +[012] +\S+ +\S+ +(\S+)", measured, re.MULTILINE)
    zero, one = ([float(value) for bias, value in rows if bias == name] for name in ("0", "1"))
    assert f"lies between {min(zero):.0e} and {max(zero):.0e} for forget bias 0, between {min(one):.0e} and" in text
    assert f"and {max(one):.0e} for 1" in text


def test_the_page_of_the_plateau_shows_what_the_notebook_measured() -> None:
    cells = code_cells("plateau")
    assert "last ink of 64 images: step 575 to 747 of 784, median 685" in printed(cells)
    assert (ROOT / "docs" / "plateau.png").read_bytes() == pictures(cells)[1]
    rows = table(printed(cells), "forget bias          seed")
    assert list(rows) == ["0", "1", "chrono"]
    assert_rows_on("docs/plateau.md", rows)
    assert_rows_on("docs/plateau_solutions.md", {bias: row for bias, row in rows.items() if bias != "0"})


def assert_rows_on(page: str, rows: dict[str, list[float]]) -> None:
    """Assert that a page shows rows that the notebook printed, which are of seed 0."""
    for bias, (seed, kept, _, *gradients, spread) in rows.items():
        assert seed == 0
        cells_of_row = [bias, *(f"{number:.1e}" for number in (kept, *gradients, spread))]
        assert f"| {' | '.join(cells_of_row)} |" in DOCUMENTS[page]
