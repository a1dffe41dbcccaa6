"""Examples in docstrings: those with ``>>>`` run, those in ``Example::`` blocks compile and name what exists."""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import inspect
import io
import pkgutil
import re
import textwrap
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import seqmnist_tf
from seqmnist_tf import config as cfg

ROOMS = ["seqmnist_tf"] + [
    f"seqmnist_tf.{module.name}" for module in pkgutil.iter_modules(seqmnist_tf.__path__) if module.ispkg
]
ELSEWHERE = {"Path", "__file__", "keras", "main", "model", "np"}  # what a reader knows, or has made in the lines before


def public_objects(room: str) -> dict[str, Any]:
    """Return the functions, classes and modules that a door hands on, by name."""
    door = importlib.import_module(room)
    named = {name: getattr(door, name) for name in door.__all__}
    kinds = (inspect.isclass, inspect.isfunction, inspect.ismodule)
    return {name: value for name, value in named.items() if any(is_kind(value) for is_kind in kinds)}


def docstrings(name: str, value: Any) -> list[str]:
    """Return the docstrings that a reader of ``help`` sees; a room that can be called has its function's as well."""
    function = getattr(value, name, None) if isinstance(value, ModuleType) else None
    return [inspect.cleandoc(each.__doc__) for each in (value, function) if each is not None and each.__doc__]


def blocks(docstring: str) -> list[str]:
    """Return the indented blocks of code that follow a line which ends in two colons."""
    return [textwrap.dedent(block) for block in re.findall(r"::\n\n((?: {4}.*(?:\n|$)|\n)+)", docstring)]


def unknown_names(code: str, known: set[str]) -> set[str]:
    """Return the names that a block of code reads, and that neither it nor ``known`` defines."""
    names = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)]
    made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            made |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return {node.id for node in names} - made - known - set(dir(builtins))


@pytest.mark.parametrize("room", ROOMS)
def test_examples_run(room: str, in_tmp: Path, toy: None) -> None:
    names = public_objects(room)
    report = io.StringIO()
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for name, value in names.items():
        for example in finder.find(value, name, globs={**public_objects("seqmnist_tf"), **names}):
            runner.run(example, out=report.write)
    result = runner.summarize(verbose=False)
    assert result.failed == 0, report.getvalue()
    assert result.attempted or not any(">>>" in text for each in names.items() for text in docstrings(*each))


@pytest.mark.parametrize("room", ROOMS)
def test_blocks_of_code_use_names_that_exist(room: str) -> None:
    names = public_objects(room)
    known = {"seqmnist_tf", *names, *public_objects("seqmnist_tf"), *ELSEWHERE}
    for name, value in names.items():
        for docstring in docstrings(name, value):
            for block in blocks(docstring):
                assert unknown_names(block, known) == set(), f"{room}.{name}: {block}"


def test_each_name_of_the_house_has_an_example() -> None:
    texts = {name: docstrings(name, value) for name, value in public_objects("seqmnist_tf").items()}
    assert {"LSTM", "evaluate", "load_run", "load_sequences", "preset", "train"} <= set(texts)
    example = re.compile(r">>>|Example::\n\n {4}")
    assert [name for name, docs in texts.items() if not any(example.search(text) for text in docs)] == []


def test_the_experiment_in_the_house_s_docstring_runs(
    in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = cfg.with_values(
        cfg.preset("quickstart"),
        {"model.hidden_size": 4, "task.limit_train": 20, "task.limit_test": 20, "wandb.mode": "disabled"},
    )
    monkeypatch.setitem(cfg.PRESETS, "quickstart", replace(cfg.PRESETS["quickstart"], config=small))
    (experiment,) = blocks(inspect.cleandoc(seqmnist_tf.__doc__ or ""))
    assert len(experiment.split("\n\n")[-1].splitlines()) <= 6
    capsys.readouterr()
    names: dict[str, Any] = {}
    exec(experiment, names)
    assert names["summary"]["status"] == "completed"
    assert "of 20" in capsys.readouterr().out
