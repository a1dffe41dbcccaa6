"""The notebook runs from top to bottom, and its committed outputs come from a complete run on real data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from seqmnist_tf import config as cfg
from tests.toy import ROOT

PATH = ROOT / "notebooks" / "main.ipynb"
SMALL = {
    "model.hidden_size": 16,
    "task.limit_train": 500,
    "task.limit_test": 300,
    "train.n_epochs": 2,
    "wandb.mode": "disabled",
}


def read_notebook() -> Any:
    return nbformat.read(PATH, as_version=4)


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])))
    notebook = read_notebook()
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    parameters.source += f"\nCHANGES = {SMALL!r}"
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(PATH.parent)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert "".join(output.text for output in outputs if output.get("name") == "stdout").count("of 300") == 1
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4


def test_its_outputs_come_from_a_complete_real_run() -> None:
    cells = [cell for cell in read_notebook().cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    text = "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    assert "training (60000, 784, 1) test (10000, 784, 1)" in text
    assert f"epoch {cfg.preset('quickstart').train.n_epochs}/" in text and "of 10,000" in text
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert "/tmp/" not in text and "/root/" not in text
