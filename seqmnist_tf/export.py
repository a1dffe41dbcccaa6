"""Export a finished run as a SavedModel for TF Serving: the next version in a folder.

python -m seqmnist_tf.export RUN_DIR [--export-dir DIR]
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from . import cli, environment, runtime
from . import config as cfg
from .errors import InputError
from .mnist import load_mnist
from .run_dir import RunDirectory, folder_atomically
from .saved_model import ASSETS, DEFAULT_FOLDER, DESCRIPTION, MODEL_NAME, WARM_UP, SavedModel, versions

BATCH_SIZES = (1, 33)  # one block of rows, and several


def export(run: RunDirectory, folder: Path) -> Path:
    """Export a run's final model as the next version in ``folder`` and return the version's path.

    The version is written beside its place, each signature is compared with the Keras model on real digits, and only
    then is it renamed into place: who watches the folder sees whole versions only, whenever this process is killed.

    Raises:
        InputError: the run has no model, or ``folder`` cannot be written.
        RunError: a signature differs from the Keras model, or the digits cannot be had.
        OSError: the disk is full.
    """
    run.require_model()
    runtime.start_tensorflow(run.config.train.threads)
    from . import parity, signatures

    config, order, model = run.config, run.pixel_order(), run.load_model()
    digits = load_mnist(config.data.source, config.data.dir, ("train",))["train"].images
    noise = np.random.RandomState(0).randint(0, 256, (max(BATCH_SIZES), 28, 28)).astype(np.uint8)
    reading = (model, config.task.normalization, order)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock").acquire()
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror} (give a folder that can be written)") from None
    with lock:
        for left_over in folder.glob(".new-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        version = max(versions(folder), default=0) + 1
        with folder_atomically(folder / str(version)) as new:
            signatures.save(*reading, new)
            saved = SavedModel.load(new)
            found = [parity.compare(saved, model, parity.example_inputs(digits[:n], *reading)) for n in BATCH_SIZES]
            differences = {name: max(by_size[name] for by_size in found) for name in saved.signatures}
            requests = [parity.example_inputs(noise[:n], *reading) for n in BATCH_SIZES]
            (new / ASSETS).mkdir()
            write_warm_up(new / ASSETS / WARM_UP, requests)
            description = {"model": MODEL_NAME, "version": version, **describe(run, order)}
            description["difference_from_keras"] = differences
            (new / ASSETS / DESCRIPTION).write_text(json.dumps(description, indent=1, allow_nan=False) + "\n")
    return folder / str(version)


def write_warm_up(path: Path, requests: list[dict[str, dict[str, np.ndarray]]]) -> None:
    """Write the requests that TF Serving replays; each of ``requests`` holds inputs by signature."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

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


def describe(run: RunDirectory, order: np.ndarray) -> dict[str, Any]:
    """Return what is known of an exported run, ready for JSON: where it comes from, its accuracy, how it reads.

    ``commit`` and ``trained_with`` are those of the training; the SHA-256 is that of the run's ``pixel_order.txt``.
    """
    record, final = run.environment, (run.summary or {}).get("final") or {}
    return {
        "config": cfg.to_dict(run.config),
        "config_id": cfg.config_id(run.config),
        "preset": record.get("preset"),
        "seed": run.config.train.seed,
        **{key: record.get("git", {}).get(key) for key in ("commit", "dirty")},
        **{key: final.get(key) for key in ("epoch", "test_accuracy", "test_correct", "test_total", "test_loss")},
        "pixel_order": order.tolist(),
        "pixel_order_sha256": hashlib.sha256((run.path / "pixel_order.txt").read_bytes()).hexdigest(),
        "trained_with": record.get("versions"),
        "versions": environment.versions(),
        "exported": environment.utc_now(),
    }


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = cli.Parser(prog="python -m seqmnist_tf.export", description="Export a finished run for TF Serving.")
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a run directory of seqmnist_tf.train")
    parser.add_argument(
        "--export-dir",
        type=Path,
        metavar="DIR",
        default=DEFAULT_FOLDER,
        help=f"where the versions are; the new one is the highest plus 1 (default: {DEFAULT_FOLDER})",
    )
    args = parser.parse_args(argv)
    print(export(RunDirectory.open(args.run_dir), args.export_dir))
    return cli.EXIT_DONE


if __name__ == "__main__":
    cli.run(main)
