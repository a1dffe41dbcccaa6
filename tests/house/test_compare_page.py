"""docs/compare.md is true: its Python blocks run, and its tables say what the code says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from seqmnist_tf.compare import parse_seeds
from seqmnist_tf.compare.__main__ import make_compare_parser, read_keys
from seqmnist_tf.compare.arms import parse_arms
from tests.house.test_documents import DOCUMENTS, command_lines, fenced_blocks, small_quickstart, table_rows
from tests.toy import ROOT

PAGE = "docs/compare.md"


@pytest.mark.slow
def test_the_python_lines_compare_and_leave_the_documented_files(
    in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_quickstart(monkeypatch)
    # With one seed and one epoch, for time.
    (lines,) = fenced_blocks("python", DOCUMENTS[PAGE])
    lines = lines.replace("range(6)", "range(1)").replace('{"wandb', '{"train.n_epochs": 1, "wandb')
    (in_tmp / "lines.py").write_text(lines)
    names = runpy.run_path(str(in_tmp / "lines.py"))
    comparison = names["comparison"]
    assert [(arm.name, arm.seeds) for arm in comparison.arms] == [("quickstart", (0,)), ("GRU", (0,))]
    assert len(capsys.readouterr().out.splitlines()[-1].split()) == 3

    documented = re.findall(r"`([^`]+)`", " ".join(row[0] for row in table_rows(PAGE, "file")))
    folder = in_tmp / "runs" / "lstm-and-gru"
    top = {path.name for path in folder.iterdir() if path.name[0] != "."} - {arm.name for arm in comparison.arms}
    assert {name.rstrip("/") for name in documented if "<" not in name} == top
    inside = {path.name for path in (folder / "GRU").iterdir()}
    below = {name.removeprefix("<arm>/").rstrip("/") for name in documented if "<" in name}
    assert {name.replace("<k>", "0") for name in below} == inside


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
        assert len(parse_arms(arms, keys)) == len(arms)
        if options.seeds:
            parse_seeds(options.seeds)
