"""The documents are true: commands parse, code runs, links lead somewhere, and the site builds."""

from __future__ import annotations

import ast
import base64
import csv
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

import seqmnist_tf
from seqmnist_tf import config as cfg
from seqmnist_tf.__main__ import main
from seqmnist_tf.data import Examples, sequences
from seqmnist_tf.model import check_layer
from seqmnist_tf.results import ResultsFolder
from seqmnist_tf.tune import SearchFolder, parse_space
from seqmnist_tf.tune import __main__ as tune
from tests.config.test_values import UPSTREAM_BLOCK
from tests.conftest import Command
from tests.toy import ROOT

PACKAGE = Path(seqmnist_tf.__file__).parent
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
DOCUMENTS = {
    path: (ROOT / path).read_text(encoding="utf-8")
    for path in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "export/README.md", "results/README.md", *PAGES)
}
README = DOCUMENTS["README.md"]
# The documents with Python code, one block each. tests/serve/test_serving_files.py runs the block of export/README.md.
WITH_PYTHON = {
    f"docs/{name}.md"
    for name in ("compare", "kernel", "plain_keras", "python", "pytorch", "results", "serving", "speed")
}
WITH_PYTHON |= {"README.md", "export/README.md"}
FILE_SUFFIXES = {"json", "keras"}  # `model.json` is a file, not a key of the section `model`


def fenced_blocks(language: str, text: str) -> list[str]:
    matches = re.findall(rf"^( *)```{language}\n(.*?)\n\1```$", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(code) for _, code in matches]


def inline_code(text: str) -> list[str]:
    without_blocks = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", without_blocks)]


def python_block(path: str) -> str:
    (code,) = fenced_blocks("python", DOCUMENTS[path])
    return code


def command_lines(text: str) -> list[list[str]]:
    """Return the project's own command lines of a document, split into words; the first word is the command's name."""
    lines = "\n".join(fenced_blocks("bash", text)).splitlines() + inline_code(text)
    matches = [re.search(r"(?:-m seqmnist_tf\.|bin/seqmnist )(\w+.*?)(?: > \S+)?$", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in matches if match]


def table_rows(path: str, head: str) -> list[list[str]]:
    """Return the cells of the table of a document whose head begins with ``head``."""
    (table,) = re.findall(rf"^\| {re.escape(head)} \|.*\n\|[-|: ]+\|\n((?:\|.*\n)+)", DOCUMENTS[path], re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def heading_anchors(text: str) -> set[str]:
    """Return the anchors that GitHub and mkdocs give to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def small_quickstart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the preset quickstart small enough for a test."""
    values = {"model.hidden_size": 4, "task.limit_train": 20, "task.limit_test": 20, "wandb.mode": "disabled"}
    preset = cfg.PRESETS["quickstart"]
    small = preset._replace(config=cfg.with_values(preset.config, values))
    monkeypatch.setitem(cfg.PRESETS, "quickstart", small)


def test_readme_has_one_screen() -> None:
    assert 450 <= sum(any(map(str.isalnum, word)) for word in README.split()) <= 600  # a table's bars are no words
    # What GitHub shows of a line of code beside its sidebar.
    assert not [line for block in fenced_blocks(r"\w+", README) for line in block.splitlines() if len(line) > 97]


def test_quick_start_is_two_command_lines() -> None:
    first, second = fenced_blocks("bash", README.split("\n## Quick start\n")[1].split("\n## ")[0])
    assert "\n" not in first + second
    assert first.endswith(".venv/bin/seqmnist train quickstart") and second.endswith("-m pytest")
    assert fenced_blocks("bash", DOCUMENTS["docs/index.md"]) == [first]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_command_is_understood(path: str, command: Command, in_tmp: Path) -> None:
    (in_tmp / "upstream.json").write_text(UPSTREAM_BLOCK)
    for name in (
        "my.json",
        "small.json",
        "runs/search/best.json",
        "runs/mine/config.json",
        "runs/mine/environment.json",
    ):
        (in_tmp / name).parent.mkdir(parents=True, exist_ok=True)
        (in_tmp / name).write_text("{}")
    for name, *words in command_lines(DOCUMENTS[path]):
        if name in ("train", "tune"):
            assert command(main, name, *words, "--print-config").status == 0, (name, words)
            continue
        # The parser understands all words but the last one.
        error = command(main, name, *words, "--nonsense").err
        if words or "required" not in error:
            assert re.search(r"(unrecognized arguments:|unknown argument) '?--nonsense'? \(", error), (name, words)


def test_the_search_space_can_be_searched(tmp_path: Path) -> None:
    blocks = {path: fenced_blocks("json", text) for path, text in DOCUMENTS.items()}
    assert [path for path, found in blocks.items() if found] == ["docs/original.md", "docs/searching.md"]
    block, constant = blocks["docs/searching.md"]
    assert [row.allowed for row in parse_space(json.loads(constant))] == ["0.05 to 1, log-uniform"]
    document = json.loads(block)
    assert len(parse_space(document)) == 3
    presets = {words[1] for words in command_lines(DOCUMENTS["docs/searching.md"]) if "--space" in words[:-1]}
    assert "strong" in presets
    for name in presets:
        base = cfg.preset(name)
        tune.check_space(SearchFolder(tmp_path, "random", base, parse_space(document), document, name))


@pytest.mark.parametrize("path", DOCUMENTS)
def test_keys_exist(path: str) -> None:
    keys = {key.replace("-", "_") for key in re.findall(r"--([a-z]+\.[\w-]+)", DOCUMENTS[path])}
    for code in inline_code(DOCUMENTS[path]):
        section, _, name = code.partition(".")
        if section in cfg.SECTIONS and re.fullmatch(r"\w+", name) and name not in FILE_SUFFIXES:
            keys.add(code)
    assert keys <= set(cfg.OPTIONS)


def test_every_python_block_is_run_by_a_test() -> None:
    documents = DOCUMENTS | {"results/README.md": ""}  # it shows the layers of records, which other tests build
    assert {path for path, text in documents.items() if fenced_blocks("python", text)} == WITH_PYTHON


@pytest.mark.slow
def test_the_plain_keras_lines_train_the_baseline(
    command: Command, in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = python_block("docs/plain_keras.md")
    means: list[float] = []
    record = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: means.append(float(logs["loss"])))
    fit = keras.Model.fit

    def fit_twice(self: Any, *args: Any, **kwargs: Any) -> Any:
        assert kwargs["epochs"] == 100
        return fit(self, *args, **{**kwargs, "epochs": 2, "callbacks": [record], "verbose": 0})

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", fit_twice)
        exec(plain, {})
    assert len(means) == 4  # two epochs of two batches; Keras reports the running mean of each epoch
    losses = [means[0], 2 * means[1] - means[0], means[2], 2 * means[3] - means[2]]

    words = ["--task.limit-train=200", "--train.n-epochs=2", "--wandb.mode=disabled", "--run-dir=run"]
    assert command(main, "train", "baseline", *words).status == 0
    with (in_tmp / "run" / "steps.csv").open() as file:
        ours = [float(row["loss"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(ours, losses, rtol=1e-6)
    assert len(set(ours)) == 4


def test_three_lines_classify_a_digit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    samples = json.loads((PACKAGE / "serve" / "web" / "samples.json").read_text())
    images = np.stack([np.frombuffer(base64.b64decode(s["pixels"]), np.uint8).reshape(28, 28) for s in samples])
    digits = Examples(images, np.array([s["label"] for s in samples], np.uint8))
    monkeypatch.setattr(sequences, "load_mnist", lambda *_: {"train": digits, "test": digits})
    monkeypatch.chdir(ROOT)
    lines = python_block("docs/results.md")
    assert "results/strong/seed0/model.keras" in lines
    exec(lines, {})
    assert capsys.readouterr().out.splitlines()[-1] == f"{samples[0]['label']} {samples[0]['label']}"


@pytest.mark.filterwarnings("ignore:.*stock Keras is used")  # where there is no compiler
def test_the_layer_is_a_drop_in(in_tmp: Path) -> None:
    names: dict[str, Any] = {}
    exec(python_block("docs/speed.md"), names)
    assert type(names["model"].layers[0]) is seqmnist_tf.LSTM and names["model"].count_params() == 67_850
    assert names["stack"].output_shape == (None, 10)
    assert type(keras.saving.load_model("model.keras").layers[0]) is keras.layers.LSTM


def test_a_cell_becomes_the_program_that_its_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    exec(python_block("docs/kernel.md"), {})
    _, *shown = fenced_blocks("text", DOCUMENTS["docs/kernel.md"])  # the first one is the diagram
    assert capsys.readouterr().out == "".join(f"{block}\n" for block in shown)


def test_the_cell_of_the_readme_can_be_compared(in_tmp: Path) -> None:
    Path("my_layer.py").write_text(python_block("README.md"))
    check_layer(cfg.with_values(cfg.Config(), {"model.layer": "my_layer.py:Leaky", "model.hidden_size": 4}))


def test_the_cell_of_the_page_for_pytorch_is_the_formula_of_its_pytorch_code(in_tmp: Path) -> None:
    """In NumPy, with the weights of torch.nn.Linear: (outputs, inputs), multiplied from the right as x W^T."""
    Path("my_layer.py").write_text(python_block("docs/pytorch.md"))
    check_layer(cfg.with_values(cfg.Config(), {"model.layer": "my_layer.py:Gated", "model.hidden_size": 4}))
    names: dict[str, Any] = {}
    exec(python_block("docs/pytorch.md"), names)
    layer, x = names["Gated"](4), np.random.RandomState(0).standard_normal((3, 20, 2)).astype(np.float32)
    ours = np.asarray(layer(x))
    weights = {weight.name: np.asarray(weight, np.float64) for weight in layer.weights}
    assert np.abs(weights["kernel"]).max() <= 2**-0.5 and np.abs(weights["recurrent_kernel"]).max() <= 4**-0.5
    w_input, w_recurrent, h = weights["kernel"].T, weights["recurrent_kernel"].T, np.zeros((3, 4))
    for t in range(20):
        gate, new = np.split(x[:, t] @ w_input.T + weights["bias"], 2, axis=-1)
        gate = 1 / (1 + np.exp(-(gate + h @ w_recurrent.T)))
        h = gate * h + (1 - gate) * np.tanh(new)
    np.testing.assert_allclose(ours, h, atol=1e-6)


def test_the_python_lines_train_and_the_run_leaves_the_documented_files(
    in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_quickstart(monkeypatch)
    names: dict[str, Any] = {}
    exec(python_block("docs/python.md"), names)
    assert names["summary"]["status"] == "completed"
    assert names["summary"]["seed"] == 1
    printed = capsys.readouterr().out.splitlines()[-2:]
    assert printed[0] == str(names["summary"]["final"]["test_accuracy"])
    assert ast.literal_eval(printed[1])["epoch"] == 3

    documented = {
        name.strip("/") for row in table_rows("docs/training.md", "file") for name in re.findall("`(.+?)`", row[0])
    }
    files = {path.name for path in (in_tmp / "runs" / "python").iterdir() if not path.name.startswith(".")}
    assert documented == files | {"wandb", "tensorboard", "layer.py"}  # which this run does not have


@pytest.mark.slow
def test_the_python_lines_compare_and_leave_the_documented_files(
    in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_quickstart(monkeypatch)
    # With one seed and one epoch, for time.
    lines = (
        python_block("docs/compare.md")
        .replace("range(6)", "range(1)")
        .replace('{"wandb', '{"train.n_epochs": 1, "wandb')
    )
    (in_tmp / "lines.py").write_text(lines)
    names = runpy.run_path(str(in_tmp / "lines.py"))
    comparison = names["comparison"]
    assert [(arm.name, arm.seeds) for arm in comparison.arms] == [("quickstart", (0,)), ("GRU", (0,))]
    assert len(capsys.readouterr().out.splitlines()[-1].split()) == 3

    documented = re.findall(r"`([^`]+)`", " ".join(row[0] for row in table_rows("docs/compare.md", "file")))
    folder = in_tmp / "runs" / "lstm-and-gru"
    top = {path.name for path in folder.iterdir() if path.name[0] != "."} - {arm.name for arm in comparison.arms}
    assert {name.rstrip("/") for name in documented if "<" not in name} == top
    inside = {path.name for path in (folder / "GRU").iterdir()}
    below = {name.removeprefix("<arm>/").rstrip("/") for name in documented if "<" in name}
    assert {name.replace("<k>", "0") for name in below} == inside


def test_the_lines_of_serving_write_a_picture_of_a_test_image(in_tmp: Path, toy: None) -> None:
    exec(python_block("docs/serving.md"), {})
    with Image.open("digit.png") as picture:
        written = np.asarray(picture)
    (_, (images, _)) = seqmnist_tf.load_sequences(normalization="unit", limit_test=1)
    assert written.shape == (28, 28) and written.max() > 0
    assert np.array_equal(written, np.round(255 * images.reshape(28, 28)))


def test_accuracies_in_texts_are_the_records() -> None:
    record = ResultsFolder.read(ROOT / "results").records["baseline"][0]
    curve = [100 * row["test_accuracy"] for row in record.history[:12]]
    row = f"| `baseline` | {max(curve):.0f} ({curve.index(max(curve)) + 1}) | {curve[-1]:.0f} |"
    assert row in DOCUMENTS["docs/original.md"]


def test_the_door_is_documented() -> None:
    documented = [name for row in table_rows("docs/python.md", "name") for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(documented) == sorted(set(dir(seqmnist_tf)) - {"__version__"})


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_lead_to_files_and_headings(path: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", DOCUMENTS[path]):
        if link.startswith("https://github.com/"):
            continue
        target, _, anchor = link.partition("#")
        linked = (ROOT / path).parent / target if target else ROOT / path
        assert linked.resolve().is_relative_to(ROOT) and linked.exists(), link
        assert not anchor or anchor in heading_anchors(linked.read_text(encoding="utf-8")), link


def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    # Without --quiet, which hides the warnings that --strict counts.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr
    assert 'src="live/index.html"' in (tmp_path / "index.html").read_text()
    assert {path.name for path in (tmp_path / "live").iterdir()} >= {"index.html", "model.json", "weights.bin"}
    index = json.loads((tmp_path / "search" / "search_index.json").read_text())
    texts = [re.sub("<[^>]*>", " ", page["text"]) for page in index["docs"]]
    assert "grad_clip_norm" in {word for text in texts for word in re.split(index["config"]["separator"], text)}
