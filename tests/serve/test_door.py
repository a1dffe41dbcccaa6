"""The room's door and its commands: their imports, and the examples in the docstrings."""

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

HEAVY = {"tensorflow", "keras", "grpc"}
RUN_AND_LIST_IMPORTS = """
import runpy, sys
module, sys.argv[1:] = sys.argv[1], sys.argv[2:]
status = 0
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as ended:
    status = ended.code
print(*sorted(name for name in sys.modules if "." not in name))
sys.exit(status)
"""


def run_and_list_imports(module: str, *argv: str) -> tuple[int, str, set[str]]:
    """Run a command in another process; return its exit status, its last line of stderr, and imported packages."""
    command = [sys.executable, "-c", RUN_AND_LIST_IMPORTS, module, *argv]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.returncode, (done.stderr.splitlines() or [""])[-1], set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("command", ["export", "serve", "client"])
def test_help_does_not_wait_for_tensorflow(command: str) -> None:
    status, error, imported = run_and_list_imports(f"seqmnist_tf.{command}", "--help")
    assert (status, error) == (0, "")
    assert "seqmnist_tf" in imported and not imported & HEAVY


@pytest.mark.parametrize(
    ("command", "argv", "message"),
    [
        ("export", ["nowhere"], "error: no run at nowhere"),
        ("serve", ["--port", "99999"], "error: --port must be 0 to 65535 (got 99999)"),
        ("serve", ["--port", "0", "--model-dir", "nowhere"], "error: cannot read nowhere: No such file"),
        ("client", ["nowhere.png"], "error: cannot read nowhere.png: No such file"),
    ],
)
def test_bad_input_does_not_wait_for_tensorflow(command: str, argv: list[str], message: str) -> None:
    status, error, imported = run_and_list_imports(f"seqmnist_tf.{command}", *argv)
    assert status == 2 and error.startswith(message)
    assert not imported & HEAVY


def test_the_client_over_rest_needs_no_tensorflow(server: str, tmp_path: Path) -> None:
    Image.fromarray(toy_mnist()["test"].images[0]).save(tmp_path / "digit.png")
    path = str(tmp_path / "digit.png")
    status, error, imported = run_and_list_imports("seqmnist_tf.client", path, "--server", server)
    assert (status, error) == (0, "")
    assert "numpy" in imported and not imported & HEAVY


def test_light_names_need_no_tensorflow() -> None:
    light = sorted(set(dir(serve)) - {"SavedModel", "export_run"})
    code = "import sys; from seqmnist_tf import serve; [getattr(serve, name) for name in sys.argv[1:]]\n"
    code += "print(*sys.modules)"
    imported = subprocess.check_output([sys.executable, "-c", code, *light], cwd=ROOT, text=True, timeout=60).split()
    assert "classify" in light and not HEAVY & set(imported)


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
    names = {name: getattr(serve, name) for name in dir(serve)} | {
        "seqmnist_tf": seqmnist_tf,
        "np": np,
        "Path": Path,
    }
    for function in (serve.read_picture, serve.classify, serve.SavedModel, serve.export_run):
        exec(example(function).replace("http://127.0.0.1:8501", server), names)
    picture, answer, class_ids, accuracy = capsys.readouterr().out.strip("\n").rsplit("\n", 3)
    assert "@@" in picture
    class_id, probability = answer.split()
    assert 0 <= int(class_id) <= 9 and 0.1 <= float(probability) <= 1
    assert 0 <= int(class_ids.strip("[]")) <= 9
    assert float(accuracy) == 0.5  # of the toy run
