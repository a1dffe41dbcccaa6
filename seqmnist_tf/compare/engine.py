"""Training of the runs of a comparison, one after the other in this process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from ..model import module_code
from ..system import RunError
from ..train import StopRule, resume, train
from .plan import PlannedRun
from .progress import ComparisonProgress

GROUP = "WANDB_RUN_GROUP"  # W&B's own variable


def run_in_turn(missing: Sequence[PlannedRun], progress: ComparisonProgress) -> None:
    """Train runs one after the other; a run that had begun is resumed.

    Raises:
        InputError, RunError: a run cannot be trained.
        KeyboardInterrupt: it was interrupted.
    """
    for run in missing:

        def report(history: list[dict[str, Any]], run: PlannedRun = run) -> None:
            progress.report(run, history)

        if train_planned(run, report) == "interrupted":
            raise KeyboardInterrupt


def train_planned(run: PlannedRun, stop_rule: StopRule | None = None) -> str:
    """Train or resume one run and return its status. What it prints goes to its log.

    Raises:
        InputError, RunError: the run cannot be trained.
    """
    keras.utils.clear_session()  # names of layers, and the memory of the run before
    with _logged(run), _grouped(run):
        if (run.path / "config.json").is_file():
            summary = resume(run.path, command=run.resume_command, stop_rule=stop_rule, machine=run.config)
        else:
            if module_code(run.config) != run.code:
                raise RunError(f"{run.config.model.layer} has changed since the comparison began (restore the module)")
            summary = train(
                run.config,
                run.path,
                preset=run.preset,
                command=run.command,
                stop_rule=stop_rule,
                layer_path=run.layer,
            )
    return str(summary["status"])


def require_completed(planned: Sequence[PlannedRun]) -> None:
    """Raise RunError where a run has ended without a result."""
    for run in planned:
        if run.status != "completed":
            raise RunError(
                f"{run.path} is {run.status or 'not finished'} (see {run.log}): a comparison needs completed runs "
                f"(change the recipe; to leave the seed out by --seeds would favour {run.arm}, and the report says so)"
            )


@contextlib.contextmanager
def _logged(run: PlannedRun) -> Iterator[None]:
    """Send what a run prints to its log."""
    run.log.parent.mkdir(exist_ok=True)
    with (
        run.log.open("a", encoding="utf-8", errors="backslashreplace") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield


@contextlib.contextmanager
def _grouped(run: PlannedRun) -> Iterator[None]:
    """Let the runs of a comparison share a group in W&B, unless the environment names one."""
    if GROUP in os.environ:
        yield
        return
    os.environ[GROUP] = run.group
    try:
        yield
    finally:
        del os.environ[GROUP]
