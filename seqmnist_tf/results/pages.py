"""Writing and checking the documents and pictures that are made from the records."""

from __future__ import annotations

import re
from pathlib import Path

from ..system import InputError, RunError, write_atomically
from .board import Board
from .clone import commit_problems
from .documents import MARKED_SECTION, find_documents, relative_links
from .manifest import update_manifest
from .model_card import model_cards
from .plots import draw_pictures, picture_problems
from .records import RESULTS_FOLDER
from .sections import DOCUMENT_SECTIONS
from .store import locked
from .verify import all_model_problems, folder_problems


def render_section(name: str, board: Board) -> str:
    """Return a section as Markdown; its links are relative to the root of the clone.

    Raises:
        InputError: unknown section.

    Example::

        render_section("summary", Board.read(Path("results")))
    """
    if name not in DOCUMENT_SECTIONS:
        raise InputError(f"unknown section {name!r} (allowed: {', '.join(DOCUMENT_SECTIONS)})")
    return DOCUMENT_SECTIONS[name](board)


def render_document(text: str, board: Board, document: Path) -> str:
    """Return a document with all its sections made anew.

    Args:
        text: its present content.
        board: the content of the results folder.
        document: its path, relative to the root of the clone.

    Raises:
        InputError: unknown section.
    """

    def render(match: re.Match[str]) -> str:
        return match[1] + relative_links(render_section(match[2], board), document) + "\n" + match[3]

    return MARKED_SECTION.sub(render, text)


def write_documents(root: Path = Path()) -> list[Path]:
    """Draw outdated pictures, write outdated documents; return the documents that changed.

    Raises:
        RunError: a record does not pass its checks; nothing is written.
    """
    folder = root / RESULTS_FOLDER
    with locked(folder):
        if problems := folder_problems(folder, records_only=True):
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise RunError(f"nothing was written: {problems[0]}{more}")
        board = Board.read(folder)
        draw_pictures(board, folder)
        update_manifest(folder)
        documents = {path: render_document(_text(root / path) or "", board, path) for path in find_documents(root)}
        changed = []
        for path, text in {**documents, **model_cards(board)}.items():
            if text != _text(root / path):
                write_atomically(root / path, text.encode())
                changed.append(path)
    return changed


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def clone_problems(root: Path = Path(), *, models: bool = True, allow_code: bool = False) -> list[str]:
    """Return where records, benchmarks, manifest, documents, pictures, models and the clone contradict each other.

    Args:
        root: the root of the clone.
        models: load the models too, once everything else agrees, and run them on the first test images.
        allow_code: run the code of ``layer.py`` of records.

    Raises:
        InputError: the manifest cannot be read.
        RunError: no source of MNIST could be reached.
    """
    folder = root / RESULTS_FOLDER
    if problems := folder_problems(folder):
        return problems
    board = Board.read(folder)
    documents = [problem for path in find_documents(root) for problem in document_problems(root, path, board)]
    documents += [
        f"{path} does not match the records" for path, card in model_cards(board).items() if _text(root / path) != card
    ]
    benchmarks = [
        f"{folder / name}: {problem}"
        for name, document in (("benchmark.json", board.speed), ("serving.json", board.serving))
        for problem in commit_problems(root, document["git"]["commit"])
    ]
    problems = benchmarks + documents + picture_problems(board, folder)
    return (
        problems
        if problems or not models
        else all_model_problems(board.all_records + board.trials, allow_code=allow_code)
    )


def document_problems(root: Path, document: Path, board: Board) -> list[str]:
    """Return the sections of a document that do not match the records.

    Args:
        root: root of the clone.
        document: path of the document, relative to the root.
        board: the content of the results folder.
    """
    text = (root / document).read_text(encoding="utf-8")
    rendered = render_document(text, board, document)
    pairs = zip(MARKED_SECTION.finditer(text), MARKED_SECTION.finditer(rendered), strict=True)
    return [f"{document}: section {old[2]} does not match the records" for old, new in pairs if old[0] != new[0]]
