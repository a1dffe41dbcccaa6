"""Toy data in MNIST's form, and training commands on it in a process of their own.

    python -m tests.toy ARGUMENTS OF seqmnist_tf.train

``KILL=write:N`` in the environment makes the process kill itself with SIGKILL in the middle of the N-th file that is
replaced atomically.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.system import replace_atomically, run_command, start_tensorflow

start_tensorflow()  # without its notes on stderr

from seqmnist_tf.data import Examples, pixel_order, sequences  # noqa: E402
from seqmnist_tf.model import build_model  # noqa: E402
from seqmnist_tf.train import RunDirectory, callbacks, summarize  # noqa: E402
from seqmnist_tf.train.__main__ import main  # noqa: E402
from seqmnist_tf.train.callbacks import BatchLog  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
TRAIN = (sys.executable, "-m", "tests.toy")
LONG_SECONDS = 240  # for what takes a few; a loaded machine may need ten times as long
SMALL_VALUES: dict[str, Any] = {
    "model.hidden_size": 4,
    "task.limit_train": 40,
    "task.limit_test": 30,
    "train.batch_size": 16,
    "wandb.mode": "disabled",
}
SMALL = tuple(f"--{key.replace('_', '-')}={value}" for key, value in SMALL_VALUES.items())


def toy_mnist(
    source: str = "auto", folder: Any = None, splits: Sequence[str] = ("train", "test")
) -> dict[str, Examples]:
    """Stand in for ``load_mnist``: 200 training and 60 test images whose ink depends on the label."""
    made = {}
    for split, n in (("train", 200), ("test", 60)):
        random = np.random.RandomState(n)
        labels = random.randint(0, 10, n).astype(np.uint8)
        images = np.zeros((n, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[4 + 2 * label : 8 + 2 * label, 8:20] = random.randint(100, 256, (4, 12))
        made[split] = Examples(images, labels)
    return {split: made[split] for split in splits}


def configure(**values: Any) -> cfg.Config:
    """Return a valid configuration; ``section__key`` sets a key."""
    return cfg.validate(cfg.with_values(cfg.Config(), {k.replace("__", "."): v for k, v in values.items()}))


def finished_run(path: Path, **values: Any) -> RunDirectory:
    """Make a run directory as a training leaves it, with its initial weights times four, so that answers differ."""
    config = configure(**{"model__hidden_size": 8, **values})
    environment = {"preset": "baseline", "git": {"commit": "c0ffee", "dirty": False}, "versions": {"keras": "3"}}
    run = RunDirectory.create(path, config, environment, pixel_order(config.task.permutation))
    model = build_model(config)
    model.set_weights([4 * weights for weights in model.get_weights()])
    model.save(path / "model.keras")
    final = {"epoch": 3, "test_loss": 1.5, "test_accuracy": 0.5, "test_correct": 5000, "test_total": 10000}
    run.write_json("summary.json", {"status": "completed", "final": final})
    return run


def write_logs(run: RunDirectory, accuracies: Sequence[float], status: str = "completed") -> None:
    """Write history, batch losses and summary of a run that agree, without a training.

    ``accuracies`` are those after each epoch, on all images that the run scores: test images, held-out images, or both.
    """
    config = run.config
    losses = [f"{step},{2 / step!r}\n" for step in range(1, len(accuracies) * config.steps_per_epoch + 1)]
    (run.path / "steps.csv").write_text("".join(["step,loss\n", *losses]))
    for epoch, accuracy in enumerate(accuracies, start=1):
        steps = range((epoch - 1) * config.steps_per_epoch + 1, epoch * config.steps_per_epoch + 1)
        fraction = (epoch - 1) / config.train.n_epochs if config.optimizer.schedule == "cosine" else 0.0
        train_loss = math.fsum(2 / step for step in steps) / len(steps)
        row: dict[str, Any] = {"epoch": epoch, "train_loss": train_loss, "train_accuracy": 0.0}
        row |= {"test_loss": None, "test_accuracy": None}
        row |= {"test_loss": 1.0, "test_accuracy": accuracy} if config.test.enabled else {}
        row |= {"val_loss": 1.0, "val_accuracy": accuracy} if config.task.validation_size else {}
        row |= {"learning_rate": config.optimizer.lr * (1 + math.cos(math.pi * fraction)) / 2, "seconds": 3.0}
        run.append_history(row)
    run.write_json("summary.json", summarize(run.history(), config, status, experiment=run.config_id))


def git(root: Path, *words: str) -> str:
    """Run git in a folder, under a name of its own, and return its output."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(root), *identity, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class _Killed(BaseException):
    pass


def killed_run(path: Path, *words: str, step: int) -> Path:
    """Make the run directory that a training leaves which is killed after a step, in this process, on toy data."""
    on_batch_end = BatchLog.on_train_batch_end

    def batch_end(self: BatchLog, batch: int, logs: dict[str, Any]) -> None:
        on_batch_end(self, batch, logs)
        if int(self.model.optimizer.iterations) == step:
            raise _Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(_Killed):
        patch.setattr(sequences, "load_mnist", toy_mnist)
        patch.setattr(BatchLog, "on_train_batch_end", batch_end)
        main([*words, f"--run-dir={path}"])
    (path / "summary.json").unlink()  # no killed process writes it
    return path


def run_train(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``seqmnist_tf.train`` on the toy data in another process, which is killed where it takes too long."""
    command, variables = [*TRAIN, *argv], {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=LONG_SECONDS)


def _plan_kill(plan: str) -> None:
    writes = iter(range(1, 1000))

    def replace_half(path: Path, write: Callable[[Path], None]) -> None:
        def write_half(new: Path) -> None:
            write(new)
            if next(writes) == int(plan.removeprefix("write:")):
                os.truncate(new, new.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        replace_atomically(path, write_half)

    callbacks.replace_atomically = replace_half


if __name__ == "__main__":
    sequences.load_mnist = toy_mnist
    if plan := os.environ.get("KILL"):
        _plan_kill(plan)
    run_command(main)
