"""The notebooks run from top to bottom, and their committed outputs come from a complete run on real data."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from seqmnist_tf import config as cfg
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


def run(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[Any]:
    """Run a notebook with its small parameters; return its code cells."""
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])))
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    parameters.source += f"\n{SMALL[name]}"
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
