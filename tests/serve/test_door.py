"""The room's door: the imports of the client, and the examples in the docstrings."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import seqmnist_tf
from seqmnist_tf import serve
from seqmnist_tf.serve import exporter
from tests.toy import ROOT, finished_run, toy_mnist

CLIENT = """
import sys
from seqmnist_tf import client
client.main(sys.argv[1:])
assert not {"tensorflow", "keras", "grpc"} & set(sys.modules)
"""


def test_the_client_does_not_wait_for_tensorflow(server: str, tmp_path: Path) -> None:
    Image.fromarray(toy_mnist()["test"].images[0]).save(tmp_path / "digit.png")
    words = [sys.executable, "-c", CLIENT, str(tmp_path / "digit.png"), "--server", server]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120).stderr
    assert said == f"version 2 at {server} answered\n"


def example(function: Any) -> str:
    """Return the code of the example in a docstring."""
    return textwrap.dedent(inspect.getdoc(function).split("Example::\n")[1])  # type: ignore[union-attr]


def test_the_examples_run(
    server: str, toy_versions: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exporter, "load_mnist", toy_mnist)
    Image.fromarray(toy_mnist()["test"].images[0]).resize((280, 280)).save("digit.png")
    finished_run(in_tmp / "results" / "strong" / "seed0")
    Path("export").mkdir()
    Path("export", "seqmnist").symlink_to(toy_versions)
    names = {name: getattr(serve, name) for name in dir(serve)} | {"seqmnist_tf": seqmnist_tf, "np": np, "Path": Path}
    for function in (serve.prepare_picture, serve.classify, serve.SavedModel, serve.export_run):
        exec(example(function).replace("http://127.0.0.1:8501", server), names)
    picture, answer, class_ids, accuracy = capsys.readouterr().out.strip("\n").rsplit("\n", 3)
    assert "@@" in picture
    class_id, probability = answer.split()
    assert 0 <= int(class_id) <= 9 and 0.1 <= float(probability) <= 1
    assert 0 <= int(class_ids.strip("[]")) <= 9
    assert float(accuracy) == 0.5  # of the toy run
