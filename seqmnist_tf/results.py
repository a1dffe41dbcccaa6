"""The published results: records in ``results/``, and the tables and pictures made of them.

python -m seqmnist_tf.results [--check]
python -m seqmnist_tf.results add RUN_DIR --name NAME
"""

from __future__ import annotations

import re
from pathlib import Path

from . import cli, plots, records, tables
from .errors import InputError, RunError
from .run_dir import RunDirectory, write_atomically
from .tables import Board

DOCUMENTS = (Path("README.md"), records.FOLDER / records.PAGE, Path("export", "README.md"))
SECTION = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str, board: Board) -> str:
    """Return a document with each of its marked sections as the records have it.

    Raises:
        InputError: a section that there is not.
    """

    def section(match: re.Match[str]) -> str:
        if match[2] not in tables.SECTIONS:
            raise InputError(f"section must be one of {', '.join(tables.SECTIONS)} (got {match[2]!r})")
        return match[1] + tables.SECTIONS[match[2]](board) + "\n" + match[3]

    return SECTION.sub(section, text)


def write(root: Path = Path()) -> list[Path]:
    """Write pictures and documents from the records and return the documents that changed.

    Raises:
        RunError: records differ from their manifest or from each other; nothing is written.
    """
    folder = root / records.FOLDER
    found = records.differences(folder, records_only=True)
    if found:
        raise RunError(f"nothing is written: {found[0]}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else ""))
    board = Board.read(folder)
    plots.draw(board, folder)
    records.update_manifest(folder)
    changed = []
    for path in DOCUMENTS:
        old = (root / path).read_text(encoding="utf-8")
        new = render(old, board)
        if new != old:
            write_atomically(root / path, new.encode())
            changed.append(path)
    return changed


def check(root: Path = Path()) -> list[str]:
    """Return in what documents, records, pictures and manifest differ."""
    folder = root / records.FOLDER
    found = records.differences(folder)
    if found:
        return found
    board = Board.read(folder)
    for path in DOCUMENTS:
        text = (root / path).read_text(encoding="utf-8")
        for old, new in zip(SECTION.finditer(text), SECTION.finditer(render(text, board)), strict=True):
            if old[0] != new[0]:
                found.append(f"{path}: section {old[2]} is not what the records give")
    return found + plots.differences(folder)


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    if argv[:1] == ["add"]:
        return _add(argv[1:])
    parser = cli.Parser(
        prog="python -m seqmnist_tf.results",
        description="Write the READMEs' tables and the pictures from the records in results/. To publish a run:\n"
        "python -m seqmnist_tf.results add RUN_DIR --name NAME",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where anything differs")
    args = parser.parse_args(argv)
    _require_clone()
    if not args.check:
        changed = write()
        print(f"written: {', '.join(map(str, changed))}" if changed else "all documents were up to date")
        return cli.EXIT_DONE
    found = check()
    for line in found:
        print(line)
    if found:
        raise RunError(f"{len(found)} differences between records, manifest, documents and pictures")
    print("records, manifest, documents and pictures agree")
    return cli.EXIT_DONE


def _add(argv: list[str]) -> int:
    parser = cli.Parser(
        prog="python -m seqmnist_tf.results add", description="Publish a finished run: results/NAME/seed<k>/."
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a run directory of seqmnist_tf.train")
    parser.add_argument("--name", required=True, help="its preset's name, or a new one")
    args = parser.parse_args(argv)
    _require_clone()
    path = records.add(RunDirectory.open(args.run_dir), args.name, records.FOLDER)
    print(path)
    return cli.EXIT_DONE


def _require_clone() -> None:
    for path in DOCUMENTS:
        if not path.is_file():
            raise InputError(f"{path} is not here (run this in the root of a clone)")


if __name__ == "__main__":
    cli.run(main)
