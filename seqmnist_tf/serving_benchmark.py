"""Speed of an exported version: its signatures beside stock ``model.export()``, and the local server under load.

python -m seqmnist_tf.serving_benchmark [--model-dir DIR] [--seconds 20] [--json]
"""

from __future__ import annotations

import json
from pathlib import Path

from . import benchmark, system
from .serve import DEFAULT_FOLDER, exported_versions
from .system import InputError


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = system.Parser(
        prog="python -m seqmnist_tf.serving_benchmark",
        description="Measure the newest exported version beside stock model.export(), and the local server\n"
        "under load. Some two minutes.",
    )
    parser.add_argument(
        "--model-dir", type=Path, default=DEFAULT_FOLDER, metavar="DIR", help=f"versions (default: {DEFAULT_FOLDER})"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of load for each number of clients (default: 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args(argv)
    if not 0 < args.seconds <= 3600:
        raise InputError(f"--seconds must be above 0 and at most 3600 (got {args.seconds:g})")
    folder = args.model_dir
    if not folder.is_dir() or not exported_versions(folder):
        raise InputError(f"{folder} holds no version (give --model-dir a folder that seqmnist_tf.export wrote to)")
    document = benchmark.measure_serving(folder, args.seconds)
    system.say(json.dumps(document) if args.json else benchmark.serving_report(document))
    return system.EXIT_DONE


if __name__ == "__main__":
    system.run_command(main)
