"""Weights & Biases: a copy of the run's own files, which are authoritative. The only importer of wandb.

Nothing here asks questions, waits for minutes, or stops a training: without a key or a network the run is tracked
offline, and after a failure training continues untracked, with one warning.
"""

from __future__ import annotations

import contextlib
import netrc
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import keras
import numpy as np
import tensorflow as tf
import wandb
from wandb.integration.keras import WandbMetricsLogger

from ..config import NUM_CLASSES, Config, config_to_dict
from ..data import Split
from ..system import PROBE_SECONDS, first_line, host_answers, say, warn

INIT_SECONDS, FINISH_SECONDS = 30, 60
NUM_MISREAD = 24
FOLDERS = ("WANDB_DATA_DIR", "WANDB_CACHE_DIR")  # W&B's defaults are in the user's home
# One service, the second its former address: wandb also takes a key of the second for the first.
CLOUD = ("api.forge.coreweave.com", "api.wandb.ai")

Mode = Literal["online", "offline", "disabled"]


class Tracker:
    """The W&B run of a training run; it does nothing where W&B is disabled or has failed.

    W&B groups the seeds of an experiment by its ``config_id``, keeps its files in the ``wandb/`` of ``folder``, and
    knows a resumed run, which has taken ``first_step`` optimizer steps before, by its ``run_id``.
    """

    def __init__(self, config: Config, config_id: str, folder: Path, run_id: str | None, first_step: int) -> None:
        self.config, self.config_id, self.folder, self.first_step = config, config_id, folder, first_step
        self.run: Any = None
        self.own_folders: list[str] = []  # names that are set in the environment for this run
        self.guard(lambda: self._start(run_id), started=False)

    def callbacks(self, train: Split) -> list[keras.callbacks.Callback]:
        """Return the Keras callbacks that log to the run."""
        made: list[keras.callbacks.Callback] = []
        self.guard(lambda: made.append(self._metrics_logger()))
        if self.config.wandb.histograms:
            batch = slice(self.config.train.batch_size)  # the first one
            made.append(Histograms(self, train.sequences[batch], train.labels[batch]))
        return [Guarded(self, callback) for callback in made]

    def log_predictions(self, test: Split, predictions: np.ndarray) -> None:
        """Log the confusion matrix and some misread digits; ``predictions`` are int (n,), 0 to 9."""
        self.guard(lambda: self._log_predictions(test, predictions))

    def log_model(self, path: Path) -> None:
        """Log the file of the final model as an artifact."""
        self.guard(lambda: self._log_model(path))

    def finish(self, summary: dict[str, Any]) -> None:
        """End the W&B run with the content of ``summary.json``."""

        def finish() -> None:
            self.run.summary.update(summary)
            self.run.finish(exit_code=0 if summary["status"] == "completed" else 1)

        self.guard(finish)
        self.run = None
        self._forget_folders()

    def guard(self, action: Callable[[], Any], started: bool = True) -> None:
        """Call ``action`` if W&B is running; an exception ends W&B for this run."""
        if started and self.run is None:
            return
        try:
            action()
        except Exception as error:
            failed, self.run = self.run, None
            warn(f"W&B failed and is off for this run, training continues: {first_line(error)}")
            if failed is not None:
                with contextlib.suppress(Exception):  # else the next run of this process would be a part of it
                    failed.finish(exit_code=1)
            self._forget_folders()

    def _forget_folders(self) -> None:
        """Let W&B's later runs in this process not write into this run directory."""
        while self.own_folders:
            os.environ.pop(self.own_folders.pop(), None)

    def _start(self, run_id: str | None) -> None:
        if self.config.wandb.mode != "disabled" and wandb.run is None:  # else they are for the user's own runs
            for name in FOLDERS:
                if name not in os.environ:
                    os.environ[name] = str(self.folder / "wandb")
                    self.own_folders.append(name)
        mode = resolve_mode(self.config.wandb.mode)
        if mode == "disabled":
            say("W&B: disabled")
            return
        if wandb.run is not None:  # wandb would return it instead of a new one, and it is not ours to write in or end
            warn(
                f"W&B: the run {wandb.run.name or wandb.run.id} of this process has not ended, so that this one is not "
                "tracked (end it before: wandb.finish())"
            )
            return
        try:
            self.run = self._init(run_id, mode)
        except Exception as error:
            if mode == "offline":
                raise
            warn(f"W&B online failed, tracking offline: {first_line(error)}")
            self.run = self._init(run_id, "offline")
        if self.run.offline:
            files = Path(self.run.dir).parent
            say(f"W&B: offline, in {files} (upload it: wandb sync {shlex.quote(str(files))})")
        else:
            say(f"W&B: {self.run.url}")
        if self.first_step:
            # W&B drops steps that do not rise. Continue above all that earlier processes can have logged: a row for
            # each batch of their epochs and of the one that was cut off, and at most two for each epoch.
            self.run.log({"resumed_at_step": self.first_step}, step=4 * self.first_step + 4)

    def _init(self, run_id: str | None, mode: Mode) -> Any:
        settings = wandb.Settings(
            silent=True,
            console="off",
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            disable_git=True,
            save_code=False,
        )
        return wandb.init(
            project=self.config.wandb.project,
            entity=self.config.wandb.entity,
            dir=self.folder,
            id=run_id,
            name=self.folder.name,
            group=os.environ.get("WANDB_RUN_GROUP", self.config_id),
            config={**config_to_dict(self.config), "config_id": self.config_id},
            mode=mode,
            resume="allow",
            settings=settings,
        )

    def _metrics_logger(self) -> keras.callbacks.Callback:
        logger = MetricsLogger(log_freq="batch", initial_global_step=self.first_step)
        logger.global_batch = self.first_step
        self.run.define_metric("epoch/epoch")
        self.run.define_metric("epoch/*", step_metric="epoch/epoch")
        return logger

    def _log_predictions(self, test: Split, predictions: np.ndarray) -> None:
        labels = test.labels
        names = [str(digit) for digit in range(NUM_CLASSES)]
        matrix = wandb.plot.confusion_matrix(y_true=labels.tolist(), preds=predictions.tolist(), class_names=names)
        misread = [
            wandb.Image(test.images[i], caption=f"{labels[i]} classified as {predictions[i]} (test image {i})")
            for i in np.flatnonzero(labels != predictions)[:NUM_MISREAD]
        ]
        self.run.log({"test/confusion_matrix": matrix, "test/misread": misread})

    def _log_model(self, model: Path) -> None:
        artifact = wandb.Artifact(f"model-{self.run.id}", type="model", metadata={"run_dir": self.folder.name})
        artifact.add_file(str(model))
        self.run.log_artifact(artifact)


class MetricsLogger(WandbMetricsLogger):
    """W&B's callback, with the rows of ``history.jsonl`` for epochs.

    Its own rows count epochs from 0 and have the learning rate of the next epoch.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        wandb.log({"epoch/epoch": epoch + 1, **{f"epoch/{key}": value for key, value in (logs or {}).items()}})


class Guarded(keras.callbacks.Callback):
    """Passes the ends of batches and epochs on to a callback, as long as W&B works."""

    def __init__(self, tracker: Tracker, inner: keras.callbacks.Callback) -> None:
        super().__init__()
        self.tracker, self.inner = tracker, inner

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self.inner.set_model(model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.tracker.guard(lambda: self.inner.on_train_batch_end(batch, logs))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.tracker.guard(lambda: self.inner.on_epoch_end(epoch, logs))


class Histograms(keras.callbacks.Callback):
    """Logs after each epoch histograms of the weights, and of their gradients on one fixed batch."""

    def __init__(self, tracker: Tracker, sequences: np.ndarray, labels: np.ndarray) -> None:
        super().__init__()
        self.tracker, self.sequences, self.labels = tracker, sequences, labels

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        states = self.model.non_trainable_variables  # seeds of dropout, moving means: training goes on from the same
        before = [keras.ops.convert_to_numpy(state) for state in states]
        with tf.GradientTape() as tape:
            logits = self.model(self.sequences, training=True)
            loss = self.model.compute_loss(x=self.sequences, y=self.labels, y_pred=logits)
        gradients = tape.gradient(loss, self.model.trainable_variables)
        for state, value in zip(states, before, strict=True):
            state.assign(value)
        histograms: dict[str, Any] = {"epoch/epoch": epoch + 1}
        for variable, gradient in zip(self.model.trainable_variables, gradients, strict=True):
            for kind, tensor in (("weights", variable), ("gradients", gradient)):
                if tensor is not None:  # the gradient of a weight that the loss does not depend on
                    values = keras.ops.convert_to_numpy(tensor).tolist()
                    histograms[f"epoch/{kind}/{variable.path}"] = wandb.Histogram(values)
        self.tracker.run.log(histograms)


def resolve_mode(mode: str) -> Mode:
    """Return ``online``, ``offline`` or ``disabled``: online only where there is a key and the server answers.

    For ``auto``, what the user told wandb counts: ``WANDB_MODE``, or ``wandb offline`` and ``wandb disabled``.
    """
    if mode == "auto":
        mode = _mode_of_wandb()
    if mode == "disabled":
        return "disabled"
    if mode == "offline":
        return "offline"
    server = os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
    if not _has_key(server):
        lack = "no W&B API key is configured (`wandb login` stores one)"
    elif not host_answers(server):
        lack = f"{server} does not answer within {PROBE_SECONDS:.0f} s"
    else:
        return "online"
    if mode == "online":
        warn(f"wandb.mode is online, but {lack}: tracking offline")
    return "offline"


def _mode_of_wandb() -> str:
    """Return the mode of wandb's environment variable or settings files; ``auto`` where they choose none."""
    names = dict.fromkeys(("online", "run", "shared"), "online")
    names |= {"offline": "offline", "dryrun": "offline", "disabled": "disabled"}
    word = os.environ.get("WANDB_MODE")
    if word is not None:
        if word not in names:  # wandb would fail
            warn(f"WANDB_MODE must be online, offline or disabled (got {word!r}): W&B is off")
        return names.get(word, "disabled")
    chosen = names[wandb.setup().settings.mode]
    return "auto" if chosen == "online" else chosen  # online is its default


def _has_key(server: str) -> bool:
    """Return whether wandb would find a key, in its environment variable or in the netrc file where it stores keys."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(server).netloc
    with contextlib.suppress(OSError, RuntimeError, netrc.NetrcParseError):  # RuntimeError: nobody's home
        for place in [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]:
            if (path := Path(place).expanduser()).exists():
                stored = netrc.netrc(path)
                return any(stored.authenticators(name) is not None for name in (CLOUD if host == CLOUD[0] else (host,)))
    return False
