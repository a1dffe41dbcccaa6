"""Speed of training and of serving on this machine, measured side by side.

python -m seqmnist_tf.benchmark [training] [--scaling] [--json]
python -m seqmnist_tf.benchmark --cells [LAYER ...] [--json]
python -m seqmnist_tf.benchmark serving [--model-dir DIR] [--seconds 20] [--server URL] [--json]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, system
from ..config import Config, read_layer
from ..serve import DEFAULT_FOLDER, require_versions, server_address
from ..system import InputError
from .contenders import Workload
from .report import cells_report, serving_report, training_report
from .training import CELLS, measure_cells, measure_scaling, measure_training

LOAD_SECONDS = 20.0  # for each number of clients
TRAIN_IMAGES = 2000  # training steps go through these, again and again


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = system.Parser(
        prog="python -m seqmnist_tf.benchmark",
        description="training: a training step and an evaluation of the baseline: stock Keras, jit_compile, the\n"
        "native kernel; PyTorch and JAX where the extra `bench` is installed. Four minutes; more with --scaling.\n"
        "serving: the newest exported version beside stock model.export(), and the local server under load.\n"
        "Two minutes.",
    )
    parser.add_argument("subject", nargs="?", choices=("training", "serving"), default="training")
    more = parser.add_mutually_exclusive_group()
    more.add_argument(
        "--scaling", action="store_true", help="training: also by batch size, steps, features, units, layers"
    )
    more.add_argument(
        "--cells",
        nargs="*",
        metavar="LAYER",
        help="training: the step of layers on stock Keras and on the native kernel in place of the contenders; LAYER "
        "as model.layer (default: Keras's layers, and examples/ where it is)",
    )
    parser.add_argument(
        "--model-dir", type=Path, metavar="DIR", help=f"serving: the versions (default: {DEFAULT_FOLDER})"
    )
    parser.add_argument(
        "--seconds", type=float, metavar="S", help=f"serving: of load per number of clients (default: {LOAD_SECONDS:g})"
    )
    parser.add_argument("--server", metavar="URL", help="serving: measure this server too, http://HOST:8501")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args(argv)
    document = _serving(args) if args.subject == "serving" else _training(args)
    report = serving_report if args.subject == "serving" else training_report if args.cells is None else cells_report
    if args.json:
        system.say_json(document)
    else:
        system.say(report(document))
    return system.EXIT_DONE


def _training(args: argparse.Namespace) -> dict[str, Any]:
    """Measure training; return the JSON document."""
    for option in ("model_dir", "seconds", "server"):
        if getattr(args, option) is not None:
            raise InputError(f"--{option.replace('_', '-')} is an option of the subject serving (got training)")
    layers = args.cells
    if layers is not None:
        here = [layer for layer in CELLS if ":" not in layer or Path(layer.partition(":")[0]).is_file()]
        layers = layers or here
        _ = [read_layer(Workload("", layer=layer).config) for layer in layers]  # before anything is measured
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sequences.npz"
        save_sequences(path)
        workload = Workload(str(path), threads=system.available_cores())
        if layers is not None:
            return measure_cells(workload, layers)
        document = measure_training(workload)
        if args.scaling:
            document["scaling"] = measure_scaling(workload)
    return document


def _serving(args: argparse.Namespace) -> dict[str, Any]:
    """Measure serving; return the JSON document."""
    for option in ("scaling", "cells"):
        if getattr(args, option) not in (False, None):
            raise InputError(f"--{option} is an option of the subject training (got serving)")
    seconds = LOAD_SECONDS if args.seconds is None else args.seconds
    if not 0 < seconds <= 3600:
        raise InputError(f"--seconds must be above 0 and at most 3600 (got {seconds:g})")
    server = None if args.server is None else server_address(args.server)
    if server and server.startswith("grpc"):
        raise InputError(f"--server must be http://HOST:PORT or https://HOST:PORT (got {args.server!r})")
    folder = args.model_dir or DEFAULT_FOLDER
    require_versions(folder)
    from .serving import measure_serving  # late, so that bad input does not wait for TensorFlow

    return measure_serving(folder, seconds, server)


def save_sequences(path: Path) -> None:
    """Write the file that ``Workload.data`` names: the first training images and all test images as sequences."""
    config = Config()
    mnist = data.load_mnist(config.data.source, config.data.dir)
    order = data.pixel_order(config.task.permutation)
    train, test = (
        data.encode(images, config.task.normalization, order)
        for images in (mnist["train"].images[:TRAIN_IMAGES], mnist["test"].images)
    )
    np.savez(path, train=train, labels=mnist["train"].labels[:TRAIN_IMAGES].astype(np.int32), test=test)


if __name__ == "__main__":
    system.run_command(main)
