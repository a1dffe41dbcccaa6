"""Classify pictures of digits on TF Serving or the local server.

python -m seqmnist_tf.client IMAGE... [--server URL] [--label NAME] [--json]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import system
from .serve import DEFAULT_SERVER, classify, picture_files, picture_to_text, prepare_picture, verdict
from .system import InputError, note, say, say_json


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
    parser.add_argument("--label", metavar="NAME", help="ask TF Serving for the version of this label")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--show", action="store_true", help="also print each picture in MNIST's form, as the model reads it"
    )
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="longest wait for an answer (default: 30)"
    )
    args = parser.parse_args(argv)
    if not args.timeout > 0:
        raise InputError(f"--timeout must be > 0 (got {args.timeout:g})")
    pictures = list(_read_pictures(args.images))
    if not pictures:
        raise InputError(f"no picture in {' '.join(args.images)}")
    found = [image for _, image in pictures if image is not None]
    classified = iter(classify(np.stack(found), args.server, args.timeout, label=args.label) if found else [])
    answers = [(name, image, None if image is None else next(classified)) for name, image in pictures]
    for version in {answer.version for _, _, answer in answers if answer}:
        note(f"version {version} at {args.server} answered")
    for name, image, _ in answers:
        if args.show and image is not None:
            (note if args.json else say)(f"{name}\n{picture_to_text(image)}")
    if args.json:
        empty = {"class_id": None, "probabilities": None, "version": None}
        say_json([{"file": n, **(vars(a) if a else empty), "verdict": verdict(a)} for n, _, a in answers])
        return system.EXIT_DONE
    width = max(len(name) for name in ("picture", *(name for name, _, _ in answers)))
    say(f"{'picture':{width}}  digit  probability  verdict")
    for name, _, answer in answers:
        digit, probability = (answer.class_id, f"{answer.probabilities[answer.class_id]:.1%}") if answer else ("-", "-")
        say(f"{name:{width}}  {digit:>5}  {probability:>11}  {verdict(answer)}")
    return system.EXIT_DONE


def _read_pictures(words: list[str]) -> Iterator[tuple[str, np.ndarray | None]]:
    """Yield the name of each picture, and its digit in MNIST's form, or None where it is blank."""
    for word in words:
        if word == "-":
            yield word, prepare_picture(sys.stdin.buffer, "stdin")
        else:
            for path in picture_files(Path(word)) if Path(word).is_dir() else [Path(word)]:
                yield str(path), prepare_picture(path)


if __name__ == "__main__":
    system.run_command(main)
