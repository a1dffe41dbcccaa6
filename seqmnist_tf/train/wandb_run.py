"""Weights & Biases: a copy of the run's own files, which are authoritative. Nothing else imports wandb."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..config import NUM_CLASSES, Config, config_to_dict
from ..data import Split
from ..system import first_line, say, warn

NUM_MISREAD = 24


class Tracker:
    """The W&B run of a training run; it does nothing where ``wandb.mode`` is disabled.

    W&B keeps its files in the ``wandb/`` of ``folder`` and knows a resumed run by its ``run_id``. The run's group is
    WANDB_RUN_GROUP, else ``group``, else the ``config_id``, which all seeds share.
    """

    def __init__(
        self, config: Config, config_id: str, folder: Path, run_id: str | None, group: str | None = None
    ) -> None:
        self.config, self.folder = config, folder
        self.run: Any = None
        if config.wandb.mode == "disabled":
            return
        import wandb  # late: it takes a second

        self.wandb: Any = wandb
        words: dict[str, Any] = {
            "project": config.wandb.project,
            "entity": config.wandb.entity,
            "dir": folder,
            "id": run_id,
            "name": folder.name,
            "group": os.environ.get("WANDB_RUN_GROUP", group or config_id),
            "config": {**config_to_dict(config), "config_id": config_id},
            "resume": "allow",
            "reinit": "create_new",  # a run of the user in this process goes on
            "settings": wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        }
        mode: Any = self._mode_of_wandb() if config.wandb.mode == "auto" else config.wandb.mode
        try:
            self.run = wandb.init(mode=mode, **words)
        except wandb.Error as error:
            warn(f"W&B failed, tracking offline: {first_line(error)}")
            self.run = wandb.init(mode="offline", **words)
        if self.run.offline:
            files = Path(self.run.dir).parent
            say(f"W&B: offline, in {files} (upload it: wandb sync {shlex.quote(str(files))})")
        elif self.run.url:
            say(f"W&B: {self.run.url}")

    def _mode_of_wandb(self) -> str:
        """Return the mode that the user told wandb; offline where that is online and there is no key."""
        from wandb.sdk.lib import wbauth  # its public login would ask for a key

        settings = self.wandb.setup().settings
        if settings.mode == "online" and not wbauth.authenticate_session(
            host=settings.base_url, source="seqmnist_tf", prompt=False, update_session=False
        ):
            return "offline"
        return str(settings.mode)

    def callbacks(self, train: Split) -> list[keras.callbacks.Callback]:
        """Return the Keras callbacks that log to the run."""
        if self.run is None:
            return []
        made: list[keras.callbacks.Callback] = [MetricsLogger(self.run)]
        if self.config.wandb.histograms:
            batch = slice(self.config.train.batch_size)  # the first one
            made.append(Histograms(self, train.sequences[batch], train.labels[batch]))
        return made

    def log_model(self, path: Path) -> None:
        """Log the file of the final model as an artifact."""
        if self.run is not None:
            artifact = self.wandb.Artifact(f"model-{self.run.id}", type="model", metadata={"run_dir": self.folder.name})
            artifact.add_file(str(path))
            self.run.log_artifact(artifact)

    def log_predictions(self, test: Split, predictions: np.ndarray) -> None:
        """Log the confusion matrix and some misread digits; ``predictions`` are int (n,), 0 to 9."""
        if self.run is None:
            return
        labels = test.labels
        names = [str(digit) for digit in range(NUM_CLASSES)]
        matrix = self.wandb.plot.confusion_matrix(y_true=labels.tolist(), preds=predictions.tolist(), class_names=names)
        misread = [
            self.wandb.Image(test.images[i], caption=f"{labels[i]} classified as {predictions[i]} (test image {i})")
            for i in np.flatnonzero(labels != predictions)[:NUM_MISREAD]
        ]
        self.run.log({"test/confusion_matrix": matrix, "test/misread": misread})

    def finish(self, summary: dict[str, Any]) -> None:
        """End the W&B run with the content of ``summary.json``."""
        if self.run is not None:
            self.run.summary.update(summary)
            self.run.finish(exit_code=0 if summary["status"] == "completed" else 1)


class MetricsLogger(keras.callbacks.Callback):
    """Logs each batch, and the rows of ``history.jsonl``, by the number of optimizer steps.

    W&B drops steps that it has already. A resumed run repeats those after its checkpoint exactly, so nothing is lost.
    wandb's own callback counts from 0 after a resume, and its epochs have the learning rate of the next one.
    """

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run, self.step = run, 0
        run.define_metric("epoch/epoch")
        run.define_metric("epoch/*", step_metric="epoch/epoch")

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.step = int(self.model.optimizer.iterations)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self.step += 1
        self.run.log({f"batch/{key}": value for key, value in logs.items()}, step=self.step)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        row = {f"epoch/{key}": value for key, value in logs.items()}
        self.run.log({"epoch/epoch": epoch + 1, **row}, step=self.step)


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
        histograms: dict[str, Any] = {}
        for variable, gradient in zip(self.model.trainable_variables, gradients, strict=True):
            for kind, tensor in (("weights", variable), ("gradients", gradient)):
                if tensor is not None:  # the gradient of a weight that the loss does not depend on
                    values = keras.ops.convert_to_numpy(tensor).tolist()
                    histograms[f"epoch/{kind}/{variable.path}"] = self.tracker.wandb.Histogram(values)
        self.tracker.run.log(histograms, step=int(self.model.optimizer.iterations))
