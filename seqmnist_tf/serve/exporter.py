"""Export of a finished run as a SavedModel for TF Serving: the next version in a folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import filelock
import keras
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from .. import config as cfg
from ..data import load_mnist
from ..system import InputError, folder_atomically, package_versions, start_tensorflow, utc_now
from ..train import RunDirectory, load_final_model
from .parity import Arrays, example_inputs, require_parity
from .picture import IMAGE_SIDE
from .saved_model import SavedModel
from .signatures import save_signatures
from .versions import DESCRIPTION_FILE, EXTRA_ASSETS, MODEL_NAME, WARM_UP_FILE, exported_versions

BATCH_SIZES = (1, 33)  # one block of rows, and several blocks


def export_run(run: RunDirectory, folder: Path) -> Path:
    """Export a run's final model as the next version in a folder.

    The version is written under a temporary name, and each signature is compared with the Keras model on MNIST digits;
    only then is it renamed. A server that watches the folder therefore sees complete versions only, even if this
    process is killed.

    Args:
        run: a finished run.
        folder: the folder of the versions, made if it does not exist.

    Returns:
        The new version's path, ``folder/<version>``.

    Raises:
        InputError: the run has no model, or ``folder`` is not writable.
        RunError: a signature differs from the Keras model, or MNIST cannot be loaded.
        OSError: the disk is full.

    Example::

        path = export_run(seqmnist_tf.load_run("results/strong/seed0"), Path("export/mine"))
        print(SavedModel.load(path).description["test_accuracy"])
    """
    run.require_model()
    start_tensorflow(run.config.train.threads)
    model, order = load_final_model(run), run.pixel_order()
    digits = load_mnist(run.config.data.source, run.config.data.dir, ("train",))["train"].images
    with _lock(folder):
        for incomplete in folder.glob(".new-*"):
            shutil.rmtree(incomplete, ignore_errors=True)
        version = max(exported_versions(folder), default=0) + 1
        with folder_atomically(folder / str(version)) as new:
            _write_version(new, version, run, model, order, digits)
    return folder / str(version)


def write_warm_up(path: Path, requests: list[dict[str, Arrays]]) -> None:
    """Write the requests that TF Serving replays before it serves a version.

    Args:
        path: the file to write.
        requests: inputs by signature.
    """
    with tf.io.TFRecordWriter(str(path)) as file:
        for by_signature in requests:
            for signature, inputs in by_signature.items():
                request = predict_pb2.PredictRequest()
                request.model_spec.name = MODEL_NAME
                request.model_spec.signature_name = signature
                for name, value in inputs.items():
                    request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
                log = prediction_log_pb2.PredictLog(request=request)
                file.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def describe_export(run: RunDirectory, order: np.ndarray) -> dict[str, Any]:
    """Return the description of an exported run, ready for JSON: configuration, commit, accuracy, order, versions.

    ``commit`` and ``trained_with`` are the commit and the package versions of the training; the SHA-256 is the one of
    the run's ``pixel_order.txt``.
    """
    record, final = run.environment, (run.summary or {}).get("final") or {}
    return {
        "config": cfg.config_to_dict(run.config),
        "config_id": cfg.config_id(run.config),
        "preset": record.get("preset"),
        "seed": run.config.train.seed,
        **{key: record.get("git", {}).get(key) for key in ("commit", "dirty")},
        **{key: final.get(key) for key in ("epoch", "test_accuracy", "test_correct", "test_total", "test_loss")},
        "pixel_order": order.tolist(),
        "pixel_order_sha256": hashlib.sha256((run.path / "pixel_order.txt").read_bytes()).hexdigest(),
        "trained_with": record.get("versions"),
        "versions": package_versions(),
        "exported": utc_now(),
    }


def _lock(folder: Path) -> filelock.AcquireReturnProxy:
    """Make a folder and lock it for this process: two exports at once must not choose the same version."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(folder / ".lock").acquire()
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror} (give a writable folder)") from None


def _write_version(
    path: Path, version: int, run: RunDirectory, model: keras.Sequential, order: np.ndarray, digits: np.ndarray
) -> None:
    """Write a version: the SavedModel, its warm-up requests and its description.

    Args:
        path: the folder to write to.
        version: the number of the version.
        run: the run to describe.
        model: the run's final model.
        order: int (784,), the run's pixel order.
        digits: uint8 (n, 28, 28), the images on which the signatures are compared with the model; n at least 33.
    """
    normalization = run.config.task.normalization
    save_signatures(model, normalization, order, path)
    saved = SavedModel.load(path)
    differences = [
        require_parity(saved, model, example_inputs(digits[:n], model, normalization, order)) for n in BATCH_SIZES
    ]
    noise = np.random.RandomState(0).randint(0, 256, (max(BATCH_SIZES), IMAGE_SIDE, IMAGE_SIDE)).astype(np.uint8)
    assets = path / EXTRA_ASSETS
    assets.mkdir()
    write_warm_up(assets / WARM_UP_FILE, [example_inputs(noise[:n], model, normalization, order) for n in BATCH_SIZES])
    description = {
        "model": MODEL_NAME,
        "version": version,
        **describe_export(run, order),
        "difference_from_keras": {name: max(by_size[name] for by_size in differences) for name in saved.signatures},
    }
    (assets / DESCRIPTION_FILE).write_text(json.dumps(description, indent=1, allow_nan=False) + "\n")
