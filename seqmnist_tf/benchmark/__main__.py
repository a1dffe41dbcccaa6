"""Speed of the baseline's training step and evaluation, measured side by side.

python -m seqmnist_tf.benchmark [--scaling] [--json]
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from .. import data, system
from ..config import Config
from .report import training_text
from .training import measure_scaling, measure_training
from .workload import Workload

TRAIN_IMAGES = 2000  # training steps go through these, again and again


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = system.Parser(
        prog="python -m seqmnist_tf.benchmark",
        description="Measure a training step and an evaluation of the baseline: stock Keras, jit_compile, the native "
        "kernel; PyTorch and JAX where the extra `bench` is installed. Some four minutes; --scaling takes longer.",
    )
    parser.add_argument("--scaling", action="store_true", help="also by batch size, number of steps and units")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sequences.npz"
        save_sequences(Config(), path)
        workload = Workload(str(path), threads=system.available_cores())
        document = measure_training(workload)
        if args.scaling:
            document["scaling"] = measure_scaling(workload)
    system.say(json.dumps(document) if args.json else training_text(document))
    return system.EXIT_DONE


def save_sequences(config: Config, path: Path) -> None:
    """Write the file that ``Workload.data`` names: the first training images and all test images as sequences."""
    mnist = data.load_mnist(config.data.source, config.data.dir)
    order = data.pixel_order(config.task.permutation)
    train, test = (
        data.encode(images, config.task.normalization, order)
        for images in (mnist["train"].images[:TRAIN_IMAGES], mnist["test"].images)
    )
    np.savez(path, train=train, labels=mnist["train"].labels[:TRAIN_IMAGES].astype(np.int32), test=test)


if __name__ == "__main__":
    system.run_command(main)
