"""Speed of training and evaluation on this machine: stock Keras beside the native kernel.

python -m seqmnist_tf.benchmark [--cells [LAYER ...] | --models] [--json]
"""

from __future__ import annotations

from pathlib import Path

from .. import system
from .report import benchmark_report

EXAMPLE_LAYERS = ("ur_lstm.py:URLSTM", "lem.py:LEM", "min_lstm.py:MinLSTM", "cornn.py:CoRNN")


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = system.Parser(
        prog="python -m seqmnist_tf.benchmark",
        description="Measure a training step of the baseline (100 images) and an evaluation of 10,000 images on\n"
        "stock Keras and on the native kernel, in turns. Two minutes; five with --cells or --models.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--cells",
        nargs="*",
        metavar="LAYER",
        help="the training step of these layers instead, each with the baseline's number of parameters; LAYER as "
        "model.layer (default: Keras's layers, and those of examples/ where it is)",
    )
    which.add_argument("--models", action="store_true", help="twelve everyday models instead: fit and predict")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args(argv)
    system.start_tensorflow()
    from .training import measure_cells, measure_models, measure_training  # late, so that --help does not wait

    if args.models:
        document = measure_models()
    elif args.cells is None:
        document = measure_training()
    else:
        examples = [f"examples/{layer}" for layer in EXAMPLE_LAYERS]
        found = [layer for layer in examples if Path(layer.partition(":")[0]).is_file()]
        document = measure_cells(args.cells or ["LSTM", "GRU", "SimpleRNN", *found])
    if args.json:
        system.say_json(document)
    else:
        system.say(benchmark_report(document))
    return system.EXIT_DONE


if __name__ == "__main__":
    system.run_command(main)
