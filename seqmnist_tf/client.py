"""Classify pictures of digits on TF Serving or the local server.

python -m seqmnist_tf.client IMAGE... [--server URL] [--json]
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from . import system
from .serve import DEFAULT_SERVER, classify, picture_to_text, prepare_picture, printable
from .system import InputError, note, say, warn


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = system.Parser(
        prog="python -m seqmnist_tf.client",
        description="Classify pictures of digits on TF Serving or on python -m seqmnist_tf.serve.\n"
        "Pictures may be grey, coloured or transparent, of any size, dark on light or light on dark.",
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="picture of one digit")
    parser.add_argument(
        "--server",
        default=DEFAULT_SERVER,
        metavar="URL",
        help=f"http://HOST:8501 for REST, grpc://HOST:8500 for gRPC (default: {DEFAULT_SERVER})",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--show", action="store_true", help="also print each picture in MNIST's form, as the model reads it"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="longest time to wait for an answer (default: 30)",
    )
    args = parser.parse_args(argv)
    if not 0 < args.timeout < 1e6:
        raise InputError(f"--timeout must be a number of seconds above 0 (got {args.timeout:g})")
    pictures = [prepare_picture(path) for path in args.images]
    images = np.stack([picture.image for picture in pictures])
    names = [printable(str(path)) for path in args.images]
    for name, picture in zip(names, pictures, strict=True):
        if picture.digits > 1:
            warn(f"{name} seems to show {picture.digits} digits, and the model reads one (give a picture of each)")
    if args.show:
        show = note if args.json else say  # with --json, stdout holds the document alone
        for name, image in zip(names, images, strict=True):
            show(f"{name}\n{picture_to_text(image)}")
    answers = classify(images, args.server, args.timeout)
    if args.json:
        rows = zip(args.images, answers, strict=True)
        document = [{"file": str(path), **dataclasses.asdict(answer)} for path, answer in rows]
        say(json.dumps(document, allow_nan=False))
    else:
        width = max(map(len, names))
        for name, answer in zip(names, answers, strict=True):
            say(f"{name:{width}}  {answer.class_id}  ({answer.probabilities[answer.class_id]:.1%})")
    return system.EXIT_DONE


if __name__ == "__main__":
    system.run_command(main)
