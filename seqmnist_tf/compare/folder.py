"""The folder of a comparison: trained runs by arm and seed, logs, and the report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..system import InputError, json_bytes, note, read_json_object, write_atomically
from .report import REPORT_FILE

ARMS_FILE = "arms.json"
LONGEST_FOLDER = 100  # of a default folder; a longer one is cut off, and its hash keeps it apart from others


def default_directory(arms: Sequence[str]) -> Path:
    """Return the folder of a comparison without ``--dir``: the same for the same arms.

    Example:
        >>> default_directory(["strong", "MinLSTM"]).as_posix()
        'runs/compare-strong-MinLSTM'
    """
    name = f"compare-{'-'.join(arms)}"
    if len(name) > LONGEST_FOLDER:
        name = f"{name[:LONGEST_FOLDER]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return Path("runs") / name


def claim(folder: Path, arms: Sequence[Mapping[str, Any]]) -> None:
    """Write which arms are compared in a folder.

    A note names what the report that is there has more: arms, and seeds.
    """
    now = {(arm["name"], arm["config_id"]): arm["seeds"] for arm in arms}
    before = _reported_seeds(folder)
    left = [name for name, config_id in before if (name, config_id) not in now]
    fewer = {name: sorted(set(seeds) - set(now.get((name, id_), seeds))) for (name, id_), seeds in before.items()}
    more = ["other arms: " + ", ".join(left)] if left else []
    more += [f"seed {', '.join(map(str, seeds))} of {name}" for name, seeds in fewer.items() if seeds]
    if more:
        note(f"the report in {folder} is replaced; it had {'; '.join(more)} (their runs stay)")
    write_atomically(folder / ARMS_FILE, json_bytes({"arms": list(arms)}))


def _reported_seeds(folder: Path) -> dict[tuple[str, str], list[int]]:
    """Return the seeds of the report that is in a folder, by the name and the id of their arm."""
    try:
        arms = read_json_object(folder / REPORT_FILE)["arms"]
        return {(str(arm["name"]), str(arm["config_id"])): list(arm["seeds"]) for arm in arms}
    except (InputError, KeyError, TypeError):
        return {}
