"""Classify pictures of digits on TF Serving or the local server.

python -m seqmnist_tf.client IMAGE... [--server URL] [--label NAME] [--json]
"""

from __future__ import annotations

import dataclasses
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import system
from .serve import (
    DEFAULT_SERVER,
    Classification,
    Prepared,
    classify,
    picture_files,
    picture_to_text,
    prepare_picture,
    server_address,
    verdict,
    version_label,
)
from .system import InputError, note, printable, say, say_json


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = system.Parser(
        prog="python -m seqmnist_tf.client",
        description="Classify pictures of digits on TF Serving or on python -m seqmnist_tf.serve.\n"
        "Pictures may be grey, coloured or transparent, of any size, dark on light or light on dark.",
    )
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="picture of one digit, a folder of pictures, or - for stdin"
    )
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
    pictures = list(_read_pictures(args.images))
    found = [picture for _, picture in pictures if isinstance(picture, Prepared)]
    if not found:
        raise next(picture for _, picture in pictures if isinstance(picture, InputError))
    if args.show:
        show = note if args.json else say  # with --json, stdout holds the document alone
        for name, picture in pictures:
            if isinstance(picture, Prepared):
                text = "no digit found" if picture.image is None else picture_to_text(picture.image)
                show(f"{printable(name)}\n{text}")
    images = [picture.image for picture in found if picture.image is not None]
    classified = iter(classify(np.stack(images), server, args.timeout, label=label) if images else [])
    answers = [
        next(classified) if isinstance(picture, Prepared) and picture.image is not None else None
        for _, picture in pictures
    ]
    if args.json:
        rows = zip(pictures, answers, strict=True)
        say_json([_row(name, picture, answer) for (name, picture), answer in rows])
    else:
        width = max(len(printable(name)) for name, picture in pictures if isinstance(picture, Prepared))
        for (name, picture), answer in zip(pictures, answers, strict=True):
            if isinstance(picture, InputError):
                say(str(picture))  # which has the name
            else:
                say(f"{printable(name):{width}}  {_sentence(picture, answer)}")
    return system.EXIT_DONE if len(found) == len(pictures) else system.EXIT_FAILED


def _read_pictures(words: list[str]) -> Iterator[tuple[str, Prepared | InputError]]:
    """Yield the name of each picture and what was found in it, or why it cannot be read."""
    for word in words:
        try:
            names = [str(file) for file in picture_files(Path(word))] if os.path.isdir(word) else [word]
        except InputError as error:
            yield word, error
            continue
        for name in names:
            try:
                if name == "-":
                    yield name, prepare_picture(sys.stdin.buffer if sys.stdin else io.BytesIO(), "stdin")
                else:
                    yield name, prepare_picture(name)
            except InputError as error:
                yield name, error


def _row(name: str, picture: Prepared | InputError, answer: Classification | None) -> dict[str, Any]:
    outputs = {"class_id": None, "probabilities": None} if answer is None else dataclasses.asdict(answer)
    if isinstance(picture, InputError):
        return {"file": name, **outputs, "verdict": "unreadable", "error": str(picture)}
    return {"file": name, **outputs, "verdict": verdict(picture.digits, answer)}


def _sentence(picture: Prepared, answer: Classification | None) -> str:
    if answer is None:
        return "no digit found (give one whole digit on plain paper)"
    comment = {"several digits": "  several digits found: the largest is read", "unsure": "  unsure"}
    word = comment.get(verdict(picture.digits, answer), "")
    return f"{answer.class_id}  ({answer.probabilities[answer.class_id]:.1%}){word}"


if __name__ == "__main__":
    system.run_command(main)
