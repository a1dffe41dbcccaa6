"""Searches whose trials are made up in milliseconds, with the files that a training leaves."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seqmnist_tf import config as cfg
from seqmnist_tf.config import Config
from seqmnist_tf.data import pixel_order
from seqmnist_tf.engine import Job, JobEnd, engine, train_job
from seqmnist_tf.train import RunDirectory, load_run, summarize
from seqmnist_tf.tune import parse_space, search
from seqmnist_tf.tune.space import SearchFolder
from tests.engine.stand_in import ManySlots, write_epoch

SPACE: dict[str, Any] = {
    "optimizer.lr": {"low": 1e-3, "high": 1e-1, "scale": "log"},
    "optimizer.name": {"choices": ["SGD", "Adam"]},
    "optimizer.momentum": {"low": 0.1, "high": 0.9, "only_with": {"optimizer.name": "SGD"}},
    "train.batch_size": {"choices": [10, 20, 40]},
}


def toy_search(
    path: Path, tuner: str = "random", values: dict[str, Any] | None = None, space: dict[str, Any] = SPACE
) -> SearchFolder:
    """Return a search with trials of 4 epochs, whose folder is claimed; ``values`` changes the configuration."""
    base = {"train.n_epochs": 4, "test.enabled": False, "task.validation_size": 10_000, "task.limit_train": 40}
    config = cfg.with_values(Config(), {**base, **(values or {})})
    made = SearchFolder(path, tuner, config, parse_space(space), space, None)
    path.mkdir(parents=True, exist_ok=True)
    made.claim()
    return made


def trials_of(folder: Path) -> list[dict[str, Any]]:
    """Return the trials of a search, as ``trials.json`` has them."""
    return json.loads((folder / "trials.json").read_text())


def toy_score(config: Config, epoch: int) -> float:
    """Return a validation accuracy that depends on the configuration and the epoch alone: best at a
    learning rate of 0.01, after three epochs."""
    values = cfg.flatten(config)
    off = abs(values["optimizer.lr"] - 0.01) + 0.001 * values["train.batch_size"] + 1e-4 * values["train.seed"]
    return round(0.9 - off - 0.02 * abs(epoch - 3), 4)


def toy_train(config: Config, path: Path, *, stop_rule: Any, command: str = "", **_: Any) -> dict[str, Any]:
    """Stand in for ``train``."""
    run = RunDirectory.create(path, config, {"command": command, "resumed": []}, pixel_order("none"))
    return _run_epochs(run, config, stop_rule)


def toy_resume(path: Path, *, stop_rule: Any, command: str = "", **_: Any) -> dict[str, Any]:
    """Stand in for ``resume``."""
    run = load_run(path)
    record = run.environment
    run.write_json("environment.json", {**record, "resumed": [*record["resumed"], command]})
    return _run_epochs(run, run.config, stop_rule)


def _run_epochs(run: RunDirectory, config: Config, rule: Callable[[list[Any]], str | None]) -> dict[str, Any]:
    done = len(run.history())
    if not done:
        (run.path / "steps.csv").write_text("step,loss\n")
    run.begin_logs_at(done, done * config.steps_per_epoch)
    reason = None
    with run.lock():
        for epoch in range(done + 1, config.train.n_epochs + 1):
            write_epoch(run, epoch, toy_score(config, epoch))
            if reason := rule(run.history()):
                break
        summary = summarize(run.history(), config, "stopped" if reason else "completed", reason=reason)
        run.write_json("summary.json", summary)
    return summary


class ToySlots(ManySlots):
    """Slots in this process that train on the stand-ins; by default, the job that began first ends first."""

    def __init__(self, number: int, last: bool = False) -> None:
        super().__init__(number, last)

    def train(self, job: Job) -> JobEnd:
        return train_job(job)


def use_toys(patch: Callable[..., None] = setattr) -> None:
    """Let trials use the stand-ins."""
    patch(os, "fsync", lambda _: None)
    patch(search, "draw_search", lambda *_: None)
    patch(search, "write_figure", lambda *_, **__: None)
    patch(engine, "train", toy_train)
    patch(engine, "resume", toy_resume)


def die_at(number: int) -> None:
    """Let this process kill itself with SIGKILL: after half of a file, where ``number`` is odd, or after its move."""
    count, replace = itertools.count(1), Path.replace

    def replace_or_die(path: Path, target: Any) -> Path:
        if next(count) == number:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        moved = replace(path, target)
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return moved

    Path.replace = replace_or_die  # type: ignore


def killed_at(number: int, function: Callable[[], object]) -> bool:
    """Call a function in a fork of this process that is killed at a file; return whether it was."""
    if not (child := os.fork()):
        status = 1
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1)
            os.dup2(nothing, 2)
            die_at(number)
            function()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        assert os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)
