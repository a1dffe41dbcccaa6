"""The house: which subpackage may import which, what stands where, and what an import costs."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import seqmnist_tf
from tests.toy import LONG_SECONDS, ROOT

PACKAGE = Path(seqmnist_tf.__file__).parent

# The subpackages that a subpackage may import, as docs/house.md lists them.
ROWS = re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", (ROOT / "docs/house.md").read_text(encoding="utf-8"), re.MULTILINE)
MAY_IMPORT = {subpackage: set(re.findall(r"`(\w+)`", others)) for subpackage, others in ROWS}
# A thin command belongs to the subpackage whose second command it is.
COMMANDS = {"check": {"system", "config", "model", "engine", "compare"}}
COMMANDS |= {"evaluate": {"system", "train"}, "export": {"system", "serve", "train"}, "client": {"system", "serve"}}
ONE_SUBPACKAGE = {"keras_tuner", "ray", "tensorflow_datasets", "tqdm", "wandb"}
ONE_SUBPACKAGE |= {"starlette", "tensorflow_serving", "uvicorn"}  # of the server
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def subpackage(path: Path) -> str:
    """Return the subpackage of a module, or the name of the thin command that it is; '' for the house's own files."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts[0].startswith("__") else parts[0]


@functools.cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path) -> tuple[set[str], set[str]]:
    """Return the modules of ours, from the package on (``data``, ``train.summary``), and the packages of others."""
    ours: set[str] = set()
    others: set[str] = set()
    here = [*path.relative_to(PACKAGE).with_suffix("").parts]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            others.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = [*here[: len(here) - node.level], *(node.module.split(".") if node.module else [])]
            inside = base[:1] == here[:1] and node.module is None  # `from . import x`
            ours |= {".".join([*base, a.name]) for a in node.names} if inside or not base else {".".join(base)}
    return ours, others


def test_every_entry_has_its_place() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert (folders, files) == (set(MAY_IMPORT), set(COMMANDS))
    names = [*MAY_IMPORT]
    assert all(MAY_IMPORT[name] <= {*names[:place]} for place, name in enumerate(names))  # only those above it
    assert imports(PACKAGE / "train" / "training.py")[0] > {"config", "data", "model", "system", "train.callbacks"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_go_one_way_and_end_at_public_names(path: Path) -> None:
    own = subpackage(path)
    ours, others = imports(path)
    assert "seqmnist_tf" not in others  # imports of ours are relative
    allowed = {**MAY_IMPORT, **COMMANDS, "": {*MAY_IMPORT, "evaluate"}}[own]
    for target in ours:
        head, _, inside = target.partition(".")
        if head == own:
            continue
        assert head in allowed, f"{own} imports {target}"
        assert not inside, f"{path} reaches past the public names of {head}: {target}"


def test_no_two_modules_of_a_subpackage_import_each_other() -> None:
    graph = {path: imports(path)[0] for path in MODULES if subpackage(path) in MAY_IMPORT}
    names = {path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in graph}
    arrows = {
        names[path]: {t for t in targets if t.startswith(f"{subpackage(path)}.")} for path, targets in graph.items()
    }
    while arrows:
        leaves = {name for name, targets in arrows.items() if not targets & set(arrows)}
        assert leaves, f"a circle among {sorted(arrows)}"
        arrows = {name: targets for name, targets in arrows.items() if name not in leaves}


def test_heavy_packages_have_one_user() -> None:
    importers: dict[str, set[str]] = defaultdict(set)
    for path in MODULES:
        for package in imports(path)[1] & ONE_SUBPACKAGE:
            importers[package].add(subpackage(path))
    assert set(importers) == ONE_SUBPACKAGE and all(len(users) == 1 for users in importers.values()), importers


@pytest.mark.parametrize("name", ["", *MAY_IMPORT])
def test_a_subpackage_has_the_names_that_it_lists(name: str) -> None:
    module = importlib.import_module(f"seqmnist_tf.{name}".rstrip("."))
    for attribute in getattr(module, "__all__", ()):  # of a lazy subpackage
        assert attribute in dir(module) and getattr(module, attribute) is not None
    with pytest.raises(AttributeError):
        module.nothing_of_this_name  # noqa: B018


@pytest.mark.parametrize(("name", "parameter"), [("compare", "arms"), ("evaluate", "path"), ("train", "config")])
def test_a_function_of_the_package_has_its_own_signature_and_keeps_its_name(name: str, parameter: str) -> None:
    module = importlib.import_module(f"seqmnist_tf.{name}")  # Python would give it the function's name
    function = getattr(seqmnist_tf, name)
    assert next(iter(inspect.signature(function).parameters)) == parameter and "Raises:" in function.__doc__
    assert function is getattr(module, name)


HEAVY = "{'tensorflow', 'keras', 'tensorflow_datasets', 'wandb', 'keras_tuner', 'matplotlib', 'torch', 'grpc'}"


def test_the_door_and_help_import_nothing_heavy() -> None:
    """All commands in one process: what one of them imports stays, and is found after it."""
    program = f"""
import runpy, sys
import seqmnist_tf
from seqmnist_tf import serve
from seqmnist_tf.results import HEADLINE, RESULTS_FOLDER, ResultsFolder, Record
dir(seqmnist_tf); seqmnist_tf.preset("strong"); seqmnist_tf.evaluate; seqmnist_tf.load_run
[getattr(serve, name) for name in set(dir(serve)) - {{"SavedModel", "export_run", "lstm_weights"}}]
assert not (heavy := {HEAVY} & set(sys.modules)), heavy
commands = {("data", "train", "compare", "tune", "serve", "benchmark", "results", *COMMANDS)}
for name, word in [*((name, "--help") for name in commands), ("train", "--print-config")]:
    sys.argv = ["x", word]
    try:
        runpy.run_module(f"seqmnist_tf.{{name}}", run_name="__main__")
    except SystemExit as stopped:
        assert stopped.code == 0, (name, stopped.code)
    assert not (heavy := {HEAVY} & set(sys.modules)), (name, heavy)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=LONG_SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage:") == 11
