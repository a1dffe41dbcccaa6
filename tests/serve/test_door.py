"""The room's door and its commands: their imports, and the examples in the docstrings."""

from __future__ import annotations

import inspect
import json
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

RUN = """
import json, runpy, sys
for module, *sys.argv[1:] in json.loads(sys.argv[1]):
    status = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code
    print("ended", status, *sorted({"tensorflow", "keras", "grpc"} & set(sys.modules)), file=sys.stderr)
"""


def run_and_list_imports(*commands: list[str]) -> list[str]:
    """Run commands in another process; return its stderr, where each says its status and what it has imported."""
    words = [sys.executable, "-c", RUN, json.dumps([[f"seqmnist_tf.{name}", *argv] for name, *argv in commands])]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120).stderr.splitlines()


def test_neither_help_nor_bad_input_nor_rest_waits_for_tensorflow(server: str, tmp_path: Path) -> None:
    Image.fromarray(toy_mnist()["test"].images[0]).save(tmp_path / "digit.png")
    bad = [
        (["export", "nowhere"], "error: no run at nowhere"),
        (["serve", "--port", "99999"], "error: --port must be 0 to 65535 (got 99999)"),
        (["serve", "--port", "0", "--model-dir", "nowhere"], "error: cannot read nowhere: No such file"),
        (["client", "nowhere.png"], "error: cannot read nowhere.png: No such file"),
    ]
    good = [[name, "--help"] for name in ("export", "serve", "client")]
    good.append(["client", str(tmp_path / "digit.png"), "--server", server])
    said = run_and_list_imports(*good, *(words for words, _ in bad))
    assert said.pop(3) == f"version 2 at {server} answered"
    assert said[: len(good)] == ["ended 0"] * len(good)
    for (_, message), error, ended in zip(bad, said[len(good) :: 2], said[len(good) + 1 :: 2], strict=True):
        assert error.startswith(message) and ended == "ended 2"


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
