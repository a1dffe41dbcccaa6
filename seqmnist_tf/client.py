"""Classify pictures of digits on TF Serving or the local server.

python -m seqmnist_tf.client IMAGE... [--server URL] [--label NAME] [--json]
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from . import system
from .serve import (
    DEFAULT_SERVER,
    Classification,
    classify,
    picture_to_text,
    prepare_picture,
    server_address,
    verdict,
    version_label,
)
from .system import InputError, note, printable, say


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
    parser.add_argument("--label", metavar="NAME", help="ask the version of this label (default: the highest version)")
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
        raise InputError(f"--timeout must be a number of seconds above 0 and below 1,000,000 (got {args.timeout:g})")
    server, label = server_address(args.server), version_label(args.label)
    pictures = [prepare_picture(path) for path in args.images]
    names = [printable(str(path)) for path in args.images]
    if args.show:
        show = note if args.json else say  # with --json, stdout holds the document alone
        for name, picture in zip(names, pictures, strict=True):
            show(f"{name}\n{'no digit found' if picture.image is None else picture_to_text(picture.image)}")
    answers = _answers([picture.image for picture in pictures], server, args.timeout, label)
    verdicts = [verdict(picture.digits, answer) for picture, answer in zip(pictures, answers, strict=True)]
    if args.json:
        rows = zip(args.images, answers, verdicts, strict=True)
        say(json.dumps([_row(*row) for row in rows], allow_nan=False))
    else:
        width = max(map(len, names))
        for name, answer, word in zip(names, answers, verdicts, strict=True):
            say(f"{name:{width}}  {_sentence(answer, word)}")
    return system.EXIT_DONE


def _answers(
    images: list[np.ndarray | None], server: str, timeout: float, label: str | None
) -> list[Classification | None]:
    """Return the model's answer for each image, and None where there is none."""
    digits = [image for image in images if image is not None]
    answers = iter(classify(np.stack(digits), server, timeout, label=label) if digits else [])
    return [None if image is None else next(answers) for image in images]


def _row(path: Path, answer: Classification | None, verdict: str) -> dict[str, Any]:
    outputs = {"class_id": None, "probabilities": None} if answer is None else dataclasses.asdict(answer)
    return {"file": str(path), **outputs, "verdict": verdict}


def _sentence(answer: Classification | None, verdict: str) -> str:
    if answer is None:
        return "no digit found (give one whole digit on plain paper)"
    comment = {"several digits": "  several digits found: the largest is read", "unsure": "  unsure"}
    return f"{answer.class_id}  ({answer.probabilities[answer.class_id]:.1%}){comment.get(verdict, '')}"


if __name__ == "__main__":
    system.run_command(main)
