"""Where a run comes from: its commit, its sources, its command line, and what it was trained and tested on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config, layer_file, publication_problems
from ..data import pixel_order
from ..system import hash_sources
from ..train import LAYER_FILE, RunDirectory
from .clone import HASHED_SINCE, commit_of_version, commit_problems, sources_at
from .train_command import command_problems, path_problems


def origin_problems(run: RunDirectory, environment: dict[str, Any], summary: dict[str, Any], root: Path) -> list[str]:
    """Return whether a run is incomplete, or not what its commit and its command give.

    Args:
        run: the folder of a record.
        environment, summary: the content of its files.
        root: the root of the clone.
    """
    config = run.config
    problems = publication_problems(config)
    if config.task.permutation.startswith("file:"):
        return problems  # the file is not in the record
    if summary.get("status") != "completed":
        problems.append(f"its status must be completed (got {summary.get('status')})")
    return [
        *problems,
        *_code_problems(environment, root),
        *command_problems(config, environment),
        *path_problems(config, environment),
        *_layer_problems(run, config),
        *_order_problems(run, config),
    ]


def _code_problems(environment: dict[str, Any], root: Path) -> list[str]:
    """Return whether the code of a run is not that of one commit, or of one released version."""
    parts = (environment, *environment["resumed"])
    problems = []
    for part in parts:
        commit, dirty, recorded = part["git"]["commit"], part["git"]["dirty"], part.get("sources")
        if commit is None and dirty is None and recorded is not None:
            problems += _release_problems(part["versions"].get("seqmnist_tf"), recorded, root)
        elif not commit or dirty is not False:
            problems.append(
                f"it must be trained from a commit, without changes of the code (got commit {commit}, dirty {dirty})"
            )
        else:
            problems += commit_problems(root, commit) or _source_problems(commit, recorded, root)
    if any(part["git"]["commit"] != environment["git"]["commit"] for part in parts):
        problems.append("its parts must be trained from one commit (they differ)")
    if any(part.get("sources") != environment.get("sources") for part in parts):
        problems.append("its parts must be trained by one code (sources in environment.json differ)")
    return problems


def _source_problems(commit: str, recorded: object, root: Path) -> list[str]:
    """Return whether the recorded hash is not that of a commit's sources; older commits recorded none."""
    sources = sources_at(root, commit)
    if recorded is None and HASHED_SINCE not in sources:
        return []
    if recorded == hash_sources(sources):
        return []
    return [f"sources in environment.json is not the hash of the code of commit {commit[:7]}"]


def _release_problems(version: object, recorded: object, root: Path) -> list[str]:
    """Return whether a run from a wheel is not of a released version; a wheel holds the package alone."""
    commit = commit_of_version(root, version)
    if commit is None:
        return [f"its commit is unknown, and version {version} is not a tag of this clone"]
    package = {name: content for name, content in sources_at(root, commit).items() if "/" in name}
    if recorded == hash_sources(package):
        return []
    return [f"sources in environment.json is not the hash of the code of version {version}"]


def _layer_problems(run: RunDirectory, config: Config) -> list[str]:
    """Return whether the file of the layer is missing or left over."""
    file, is_there = layer_file(config), (run.path / LAYER_FILE).exists()
    if file is not None and not is_there:
        return [f"{LAYER_FILE} is missing, the file of its layer"]
    if file is None and is_there:
        return [f"{LAYER_FILE} does not belong to a run whose layer is not from a file"]
    return []


def _order_problems(run: RunDirectory, config: Config) -> list[str]:
    """Return whether ``pixel_order.txt`` is not the order of the configuration."""
    if np.array_equal(run.pixel_order(), pixel_order(config.task.permutation)):
        return []
    return [f"pixel_order.txt is not the order of task.permutation {config.task.permutation}"]
