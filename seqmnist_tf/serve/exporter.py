"""Export of a finished run as a SavedModel for TF Serving: the next version in a folder."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from .. import config as cfg
from ..config import Config
from ..data import load_mnist
from ..system import folder_atomically, json_bytes, note, package_versions, start_tensorflow, utc_now
from ..train import RunDirectory, load_final_model, lock_folder
from .models import SavedModel
from .parity import Arrays, example_inputs, require_parity
from .signatures import has_block_lstm, save_signatures
from .versions import DESCRIPTION_FILE, EXTRA_ASSETS, IMAGE_SIDE, MODEL_NAME, WARM_UP_FILE, exported_versions

BATCH_SIZES = (1, 33)  # one block of rows, and several blocks


def export_run(run: RunDirectory, folder: Path, data_dir: str | None = None, *, allow_code: bool = False) -> Path:
    """Export a run's final model as the next version in a folder; return its path.

    The version is written under a temporary name, and each signature is compared with the Keras model on MNIST digits;
    only then is it renamed. A server that watches the folder therefore sees complete versions only, even if this
    process is killed. The run may be from another computer: its ``pixel_order.txt`` counts, its ``data.source`` and
    ``data.dir`` are ignored. With ``allow_code``, the code of a custom layer is run.

    Raises:
        InputError: the run has no model, or a model that is not its configuration's, or ``folder`` is not writable.
        RunError: a signature differs from the Keras model, or MNIST cannot be loaded.
    """
    start_tensorflow(run.config.train.threads)
    note(f"loading the model of {run.path}")
    model = load_final_model(run, allow_code=allow_code)
    described = describe_export(run)
    digits = load_mnist("auto", data_dir, ("train",))["train"].images
    with lock_folder(folder, f"folder {folder}", timeout=-1):
        version = max(exported_versions(folder), default=0) + 1
        note(f"writing version {version}")
        with folder_atomically(folder / str(version)) as new:
            _write_version(new, model, {"model": MODEL_NAME, "version": version, **described}, digits)
    return folder / str(version)


def write_warm_up(path: Path, requests: list[dict[str, Arrays]]) -> None:
    """Write the requests, inputs by signature, that TF Serving replays before it serves a version."""
    with tf.io.TFRecordWriter(str(path)) as file:
        for by_signature in requests:
            for signature, inputs in by_signature.items():
                request = predict_pb2.PredictRequest(
                    model_spec={"name": MODEL_NAME, "signature_name": signature},
                    inputs={name: tf.make_tensor_proto(value) for name, value in inputs.items()},
                )
                log = prediction_log_pb2.PredictLog(request=request)
                file.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def describe_export(run: RunDirectory) -> dict[str, Any]:
    """Return the description of an exported run, ready for JSON: configuration, commit, accuracy, order, versions.

    ``commit`` and ``trained_with`` are the commit and the package versions of the training; the SHA-256 is the one of
    the run's ``pixel_order.txt``.
    """
    record = run.environment
    final = (run.summary or {}).get("final") or {}
    return {
        "config": cfg.config_to_dict(_without_places(run.config)),
        "config_id": run.config_id,
        "preset": record["preset"],
        "seed": run.config.train.seed,
        **record["git"],
        **{key: final.get(key) for key in ("epoch", "test_correct", "test_total", "test_accuracy", "test_loss")},
        "pixel_order": run.pixel_order().tolist(),
        "pixel_order_sha256": hashlib.sha256((run.path / "pixel_order.txt").read_bytes()).hexdigest(),
        "trained_with": record["versions"],
        "versions": package_versions(),
        "exported": utc_now(),
    }


def _without_places(config: Config) -> Config:
    """Return a configuration without folders, of Unix or Windows, and without W&B's account."""
    default = Config()
    path, colon, name = config.model.layer.rpartition(":")
    model = replace(config.model, layer=f"{PureWindowsPath(path).name}{colon}{name}")
    task = config.task
    if task.permutation.startswith("file:"):
        task = replace(task, permutation=f"file:{PureWindowsPath(task.permutation[5:]).name}")
    return replace(config, model=model, task=task, data=default.data, wandb=default.wandb)


def _write_version(path: Path, model: keras.Sequential, described: dict[str, Any], digits: np.ndarray) -> None:
    """Write a version: the SavedModel, its warm-up requests and its description.

    Its signatures are compared with the model on ``digits``, uint8 (n, 28, 28), n at least 33.
    """
    encoding = described["config"]["task"]["normalization"], np.array(described["pixel_order"])
    save_signatures(model, *encoding, path)
    saved = SavedModel.load(path)
    if not has_block_lstm(model):
        note("the signatures trace and step are left out: they need the states of a stock LSTM")
    note(f"comparing {len(saved.signatures)} signatures with the Keras model on {max(BATCH_SIZES)} digits")
    differences = require_parity(saved, model, [example_inputs(digits[:n], model, *encoding) for n in BATCH_SIZES])
    noise = np.random.RandomState(0).randint(0, 256, (max(BATCH_SIZES), IMAGE_SIDE, IMAGE_SIDE)).astype(np.uint8)
    (path / EXTRA_ASSETS).mkdir()
    warm_up = [example_inputs(noise[:n], model, *encoding) for n in BATCH_SIZES]
    write_warm_up(path / EXTRA_ASSETS / WARM_UP_FILE, warm_up)
    (path / EXTRA_ASSETS / DESCRIPTION_FILE).write_bytes(json_bytes({**described, **differences}))
