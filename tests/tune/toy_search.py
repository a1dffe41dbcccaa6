"""Searches whose trials are made up in milliseconds, with the files that a training leaves.

    python -m tests.tune.toy_search ARGUMENTS OF seqmnist_tf.tune
    python -m tests.tune.toy_search --kill-at-each-file ARGUMENTS

The second form runs a command again and again, and kills it with SIGKILL at the first file that it writes, the second
one, and so on, until it ends by itself. It prints how often it was killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seqmnist_tf import config as cfg
from seqmnist_tf.config import Config
from seqmnist_tf.data import pixel_order
from seqmnist_tf.system import run_command, start_tensorflow
from seqmnist_tf.train import RunDirectory, StopRule
from seqmnist_tf.tune import parse_space
from seqmnist_tf.tune.folder import SearchFolder

SPACE: dict[str, Any] = {
    "optimizer.lr": {"low": 1e-3, "high": 1e-1, "scale": "log"},
    "optimizer.name": {"choices": ["SGD", "Adam"]},
    "optimizer.momentum": {"low": 0.1, "high": 0.9, "only_with": {"optimizer.name": "SGD"}},
    "train.batch_size": {"choices": [10, 20, 40]},
}
EPOCH_SECONDS = float(os.environ.get("TOY_EPOCH_SECONDS", "0"))


def toy_search(path: Path, tuner: str = "random", values: dict[str, Any] | None = None) -> SearchFolder:
    """Return a search over SPACE with trials of 4 epochs; ``values`` changes the configuration."""
    values = {"train.n_epochs": 4, "test.enabled": False, "task.validation_size": 60, **(values or {})}
    return SearchFolder(path, tuner, cfg.with_values(Config(), values), parse_space(SPACE), SPACE, None)


def toy_score(config: Config, epoch: int) -> float:
    """Return a validation accuracy that depends on the configuration alone: best at a learning rate of 0.01."""
    values = cfg.flatten(config)
    off = abs(values["optimizer.lr"] - 0.01) + 0.001 * values["train.batch_size"] + 1e-4 * values["train.seed"]
    return round(0.9 - off - 0.2 / (epoch + 1), 6)


def toy_train(
    config: Config,
    path: Path,
    *,
    preset: str | None = None,
    command: str = "",
    stop_rule: StopRule | None = None,
) -> dict[str, Any]:
    """Stand in for ``train``."""
    environment: dict[str, Any] = {
        "preset": preset,
        "command": command,
        "config_id": cfg.config_id(config),
        "resumed": [],
    }
    run = RunDirectory.create(path, config, environment, pixel_order(config.task.permutation))
    with run.lock():
        return _run_epochs(run, config, stop_rule)


def toy_resume(
    path: Path, *, command: str = "", stop_rule: StopRule | None = None, machine: Config | None = None
) -> dict[str, Any]:
    """Stand in for ``resume``."""
    run = RunDirectory.open(path)
    with run.lock():
        record = run.environment
        run.write_json("environment.json", {**record, "resumed": [*record.get("resumed", []), command]})
        return _run_epochs(run, run.config, stop_rule)


def _run_epochs(run: RunDirectory, config: Config, rule: StopRule | None) -> dict[str, Any]:
    status, reason = "failed", None
    run.truncate(len(run.history()), 0)
    try:
        status = "completed"
        for epoch in range(len(run.history()) + 1, config.train.n_epochs + 1):
            time.sleep(EPOCH_SECONDS)
            score = toy_score(config, epoch)
            run.append_history({"epoch": epoch, "train_accuracy": score, "val_accuracy": score, "val_loss": 1.0})
            if rule and (reason := rule(run.history())):
                status = "stopped"
                break
    except BaseException:
        status = "failed"
        raise
    finally:
        history = run.history()
        summary = {"status": status, "reason": reason, "epochs": len(history), "escape_epoch": 1, "seconds_total": 1.0}
        run.write_json("summary.json", summary)
    return summary


def use_toys(patch: Callable[..., None] = setattr) -> None:
    """Let trials use the stand-ins."""
    from seqmnist_tf.tune import processes, result, roster, trials

    if seconds := os.environ.get("TOY_MISSING_SECONDS"):
        patch(roster, "MISSING_SECONDS", float(seconds))
    patch(os, "fsync", lambda _: None)
    patch(trials.keras.utils, "clear_session", lambda: None)  # half a second each
    patch(result, "draw_search", lambda *_: None)
    patch(trials, "train", toy_train)
    patch(trials, "resume", toy_resume)
    patch(processes, "COMMAND", [sys.executable, "-m", "tests.tune.toy_search"])


def _kill_at(number: int) -> None:
    """Kill this process in the middle of the ``number``-th file that it writes."""
    count = iter(range(1, 100_000))
    write_bytes, write_text, replace = Path.write_bytes, Path.write_text, Path.replace

    def half(path: Path, content: Any, write: Callable[..., int]) -> int:
        if next(count) == number:
            write(path, content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(path, content)

    Path.write_bytes = lambda path, content: half(path, content, write_bytes)  # type: ignore
    Path.write_text = lambda path, content, *a, **k: half(path, content, write_text)  # type: ignore

    def replace_or_die(path: Path, target: Any) -> Path:
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        moved = replace(path, target)
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return moved

    Path.replace = replace_or_die  # type: ignore


def _kill_at_each_file(argv: list[str]) -> None:
    from seqmnist_tf.tune import lead
    from seqmnist_tf.tune.__main__ import main

    _ = lead  # imported once, before the forks
    number = kills = 0
    while True:
        number += 1
        if not (child := os.fork()):
            _kill_at(number)
            run_command(main, argv)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            kills += 1
            continue
        print(json.dumps({"kills": kills, "status": os.WEXITSTATUS(status)}))
        return


if __name__ == "__main__":
    start_tensorflow()
    use_toys()
    words = sys.argv[1:]
    if words[:1] == ["--kill-at-each-file"]:
        _kill_at_each_file(words[1:])
    else:
        from seqmnist_tf.tune.__main__ import main as tune_main

        run_command(tune_main, words)
