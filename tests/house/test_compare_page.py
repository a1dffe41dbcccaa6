"""docs/compare.md is true: its Python blocks run, and its tables say what the code says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.compare import parse_seeds, statistics
from seqmnist_tf.compare.__main__ import make_compare_parser, read_keys
from seqmnist_tf.compare.arms import DEFAULT_SEEDS, KERAS_LAYERS, parse_arms
from seqmnist_tf.model import build_model, check_layer, recurrent_weights
from seqmnist_tf.system import InputError
from tests.house.test_documents import DOCUMENTS, command_lines, fenced_blocks, small_quickstart, table_rows
from tests.toy import ROOT

PAGE = "docs/compare.md"


def test_the_cell_for_those_who_come_from_pytorch_is_a_layer(in_tmp: Path) -> None:
    cell, _ = fenced_blocks("python", DOCUMENTS[PAGE])
    (in_tmp / "my_layer.py").write_text(cell)
    config = cfg.with_values(cfg.Config(), {"model.layer": "my_layer.py:MyLayer", "model.hidden_size": 5})
    check_layer(config)
    layer = build_model(config).layers[0]
    (weights,) = recurrent_weights(layer)
    assert weights.shape == (5, 5)  # which the recipe's noise acts on


@pytest.mark.slow
def test_the_python_lines_compare_and_leave_the_documented_files(
    in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_quickstart(monkeypatch)
    # From a file, in which the source of the layer is found; with one seed and one epoch, for time.
    _, lines = fenced_blocks("python", DOCUMENTS[PAGE])
    lines = lines.replace("range(6)", "range(1)").replace('{"wandb', '{"train.n_epochs": 1, "wandb')
    (in_tmp / "lines.py").write_text(lines)
    names = runpy.run_path(str(in_tmp / "lines.py"))
    comparison = names["comparison"]
    assert [(arm.name, arm.seeds) for arm in comparison.arms] == [("quickstart", (0,)), ("TwoGRUs", (0,))]
    assert len(capsys.readouterr().out.splitlines()[-1].split()) == 3

    documented = re.findall(r"`([^`]+)`", " ".join(row[0] for row in table_rows(PAGE, "file")))
    folder = in_tmp / "runs" / "two-grus"
    top = {path.name for path in folder.iterdir() if path.name[0] != "."} - {arm.name for arm in comparison.arms}
    assert {name.rstrip("/") for name in documented if "<" not in name} - {"damaged"} == top  # no run was damaged
    inside = {path.name for path in (folder / "TwoGRUs").iterdir()}
    below = {name.removeprefix("<arm>/").rstrip("/") for name in documented if "<" in name}
    assert {name.replace("<k>", "0") for name in below} == inside


def test_what_a_number_of_seeds_allows() -> None:
    for seeds, smallest, pairs in table_rows(PAGE, "seeds"):
        p = statistics.smallest_sign_flip_p(int(seeds))
        assert statistics.p_text(p) == smallest
        assert int(pairs) == max(k for k in range(1_000) if k * (p or 1) < statistics.ALPHA)
        if int(pairs):
            assert statistics.seeds_needed(int(pairs)) <= int(seeds) < statistics.seeds_needed(int(pairs) + 1)


def test_the_numbers_of_the_methods() -> None:
    text = " ".join(DOCUMENTS[PAGE].split())
    assert (
        f"from {statistics.BOOTSTRAP_FROM} pairs | BCa bootstrap over seeds, {statistics.RESAMPLES:,} resamples" in text
    )
    assert f"up to {statistics.ENUMERATED} pairs, above that {statistics.FLIPS:,} random flips" in text
    assert f"The default is `{DEFAULT_SEEDS}`" in text and len(parse_seeds(DEFAULT_SEEDS)) == 6


def test_every_option_is_explained() -> None:
    documented = {row[0].strip("`").split()[0] for row in table_rows(PAGE, "option")}
    options = {action.option_strings[-1] for action in make_compare_parser()._actions if action.option_strings}
    assert documented - {"--SECTION.KEY"} == options - {"--help"}


def test_the_arms_of_the_commands_are_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lines = [words for name, *words in command_lines(DOCUMENTS[PAGE]) if name == "compare"]
    assert len(lines) >= 4
    for words in lines:
        options, rest = make_compare_parser().parse_known_args(words)
        more, keys = read_keys(rest, "")
        arms = [arm for arm in (*options.arms, *more) if not arm.startswith("runs/")]  # which are the reader's
        assert [arm.word for arm in parse_arms(arms, keys)] == arms
        if options.seeds:
            parse_seeds(options.seeds)


def test_the_arms_that_are_described_are_those_of_the_error() -> None:
    described = " ".join(row[0] for row in table_rows(PAGE, "arm"))
    with pytest.raises(InputError) as refused:
        parse_arms(["nothing"], {})
    helped = make_compare_parser().format_help()
    for name in ("strong", "gru"):
        assert f"`{name}`" in described and name in cfg.PRESETS
    for layer in (*KERAS_LAYERS, *cfg.OPTIONS["model.layer"].meta["forms"]):
        assert f"`{layer}`" in described and layer in str(refused.value) and layer in helped
