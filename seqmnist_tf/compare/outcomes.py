"""What a comparison needs of each run: a checked reading of a run directory or a published record."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

from ..config import Config
from ..system import InputError
from ..train import RunDirectory
from .wording import count_of


@dataclass(frozen=True)
class Outcome:
    """The results of one completed run.

    Attributes:
        run: its directory.
        config: its configuration.
        config_id: the id of its experiment.
        correct, total: test digits that the final model classifies correctly, and all of them.
        num_params: number of parameters.
        epochs: number of epochs; the last is the one whose results count.
        curve: test accuracy after each epoch, 0 to 1.
        chosen_epoch, chosen_accuracy: the epoch that a held-out split chose, and its test accuracy; None without one.
        seconds_per_epoch: mean over epochs.
        kernels, machines: what computed it, for notes on times; several where it was resumed elsewhere.
        commits: of the code that trained it; ``unknown`` outside of a clone.
        layer_code: the SHA-256 of the file or module of a layer of its own; None of a module in older runs.
    """

    run: RunDirectory
    config: Config
    config_id: str
    correct: int
    total: int
    num_params: int
    epochs: int
    curve: tuple[float, ...]
    chosen_epoch: int | None
    chosen_accuracy: float | None
    seconds_per_epoch: float
    kernels: tuple[str, ...]
    machines: tuple[str, ...]
    commits: tuple[str, ...]
    layer_code: str | None


def read_outcome(run: RunDirectory) -> Outcome:
    """Return the results of a run.

    Raises:
        InputError: the run is not completed, has no test results, or its files cannot be read.
    """
    summary = run.summary
    status = summary.get("status") if summary else "not finished"
    if status != "completed":
        hint = "finish it with --resume"
        if status == "diverged":
            hint = "it has no results; without its folder the arm is compared without its seed, which favours the arm"
        raise InputError(f"{run.path} is {status}: only completed runs can be compared ({hint})")
    config, summary = run.config, summary or {}
    if not config.test.enabled:
        raise InputError(f"{run.path} has no test results: test.enabled must be true (got false)")
    try:
        return _outcome(run, config, summary)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{run.path} is not in the format of a run directory ({type(error).__name__}: {error})"
        ) from None


def _outcome(run: RunDirectory, config: Config, summary: dict[str, Any]) -> Outcome:
    final, best, history = summary["final"], summary.get("best"), run.history()
    correct, total = _integer(final["test_correct"]), _integer(final["test_total"])
    if total != config.num_test or not 0 <= correct <= total:
        raise ValueError(f"{correct} of {total} test images in summary.json, {config.num_test} in config.json")
    curve = tuple(_share(row["test_accuracy"]) for row in history)
    if [row["epoch"] for row in history] != list(range(1, config.train.n_epochs + 1)):
        raise ValueError(f"history.jsonl must have epochs 1 to {config.train.n_epochs}")
    chosen = None if best is None else _integer(best["epoch"])
    environment, file = run.environment, run.layer_file
    resumed = environment.get("resumed")
    starts = [environment, *(resumed if isinstance(resumed, list) else [])]
    return Outcome(
        run=run,
        config=config,
        config_id=run.config_id,
        correct=correct,
        total=total,
        num_params=_integer(summary["num_params"]),
        epochs=len(history),
        curve=curve,
        chosen_epoch=chosen,
        chosen_accuracy=None if chosen is None else curve[chosen - 1],
        seconds_per_epoch=math.fsum(_positive(row["seconds"]) for row in history) / len(history),
        kernels=tuple(sorted({str(start.get("kernel")) for start in starts})),
        machines=tuple(sorted({_machine(start) for start in starts})),
        commits=tuple(sorted({_commit(start) for start in starts})),
        layer_code=hashlib.sha256(file.read_bytes()).hexdigest() if file else environment.get("layer_code"),
    )


def _machine(start: dict[str, Any]) -> str:
    """Return the processor of a start of a run, with its threads and with a device that is no CPU."""
    device, threads = start.get("device", "CPU"), start.get("threads")
    parts = [str(device)] * (device != "CPU")
    parts += [count_of(threads, "thread")] if isinstance(threads, int) else []
    processor = (start.get("machine") or {}).get("processor") or "unknown"
    return f"{processor}{' with ' * bool(parts)}{' and '.join(parts)}"


def _commit(start: dict[str, Any]) -> str:
    git = start.get("git") or {}
    return f"{git.get('commit') or 'unknown'}{' with uncommitted changes' * bool(git.get('dirty'))}"


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"an integer is expected (got {value!r})")
    return value


def _positive(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise TypeError(f"a number from 0 is expected (got {value!r})")
    return float(value)


def _share(value: Any) -> float:
    if _positive(value) > 1:
        raise TypeError(f"a number from 0 to 1 is expected (got {value!r})")
    return float(value)
