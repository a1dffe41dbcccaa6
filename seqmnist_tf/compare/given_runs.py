"""Arms that exist already: a run directory, a folder of runs, a published record."""

from __future__ import annotations

import re
from pathlib import Path

from ..system import InputError
from ..train import RunDirectory
from .outcomes import Outcome, read_outcome


def read_given_runs(folder: Path, *, allow_code: bool) -> dict[int, Outcome]:
    """Return the completed runs of an arm by seed.

    Args:
        folder: a run directory, or a folder that holds run directories of one experiment.
        allow_code: admit runs with a layer of their own.

    Raises:
        InputError: there is no run, a file cannot be read, a run is not completed or has a layer of its own, two runs
            have one seed or different configurations.
    """
    outcomes: dict[int, Outcome] = {}
    try:
        for run in _runs(folder):
            run.require_code_allowed(allow_code)
            outcome = read_outcome(run)
            seed = outcome.config.train.seed
            if seed in outcomes:
                raise InputError(f"{folder} has two runs of seed {seed}: {outcomes[seed].run.path} and {run.path}")
            outcomes[seed] = outcome
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror} (give a folder that can be read)") from None
    first = next(iter(outcomes.values()))
    for outcome in outcomes.values():
        if outcome.config_id != first.config_id:
            raise InputError(
                f"{folder} has runs of different configurations: {first.run.path} ({first.config_id}) and "
                f"{outcome.run.path} ({outcome.config_id}); give a folder with the seeds of one"
            )
    versions = {outcome.layer_code: outcome for outcome in outcomes.values() if outcome.layer_code}  # older runs: None
    if len(versions) > 1:
        one, other, *_ = versions.values()
        raise InputError(
            f"{folder} has runs with different versions of {one.config.model.layer}: {one.run.path} and "
            f"{other.run.path}; give a folder with the seeds of one"
        )
    return dict(sorted(outcomes.items()))


def name_of_folder(folder: Path) -> str:
    """Return the name of an arm: its folder's; ``strong-seed0`` for ``results/strong/seed0``."""
    path = folder.resolve()
    if re.fullmatch(r"seed\d+", path.name) and (path / "config.json").is_file():
        return f"{path.parent.name}-{path.name}"
    return path.name


def _runs(folder: Path) -> list[RunDirectory]:
    if (folder / "config.json").is_file():
        return [RunDirectory.open(folder)]
    paths = [path for path in folder.iterdir() if path.name[0] != "." and (path / "config.json").is_file()]
    if not paths:
        raise InputError(f"no run in {folder} (give a run directory, or a folder of run directories)")
    return [RunDirectory.open(path) for path in sorted(paths)]
