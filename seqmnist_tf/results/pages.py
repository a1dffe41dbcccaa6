"""The documents with generated sections: what is in each section, writing them and the pictures, and checking both.

A section stands between ``<!-- results: NAME -->`` and ``<!-- end -->``. It is a function from the board to Markdown,
whose links are relative to the root of the clone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from ..benchmark import cells_report, serving_report, training_report
from ..system import InputError, RunError, write_atomically
from . import accuracy, cells, model_card, recipes, sections
from .board import Board
from .model_card import model_cards
from .origin import commit_problems
from .plots import draw_pictures, picture_problems
from .records import REQUIRED_DOCUMENTS, RESULTS_FOLDER
from .store import locked, update_manifest
from .verify import all_model_problems, folder_problems

DOCS_FOLDER = Path("docs")
OUTDATED = "does not match the records (python -m seqmnist_tf.results writes it again)"
MARKED_SECTION = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
# A fence ends at one that is at least as long, or at the end of the text.
FENCED_CODE = r"^ *(?P<fence>`{3,})[^`\n]*\n.*?(?:^ *(?P=fence)`*[ \t]*$|\Z)"
LOCAL_LINK = r"(?<=\]\()(?!\w+:|#)[^)\s]+(?=\))"
CODE_OR_LINK = re.compile(f"{FENCED_CODE}|{LOCAL_LINK}", re.DOTALL | re.MULTILINE)
DOCUMENT_SECTIONS: dict[str, Callable[[Board], str]] = {
    "headline": accuracy.headline_text,
    "quick_start": accuracy.quick_start_text,
    "main": accuracy.main_table,
    "board": cells.board_table,
    "board_cells": cells.board_text,
    "settings": cells.settings_text,
    "summary": accuracy.summary_table,
    "runs": accuracy.runs_table,
    "exported": accuracy.exported_text,
    "rows_to_paste": sections.rows_to_paste,
    "original": sections.original_table,
    "literature": sections.literature_table,
    "other_cells": sections.other_cells_table,
    "cost": sections.cost_table,
    "targets": sections.targets_table,
    "speed": lambda board: training_report(board.speed),
    "cells": lambda board: "\n\n".join(map(cells_report, board.speed["cells"])),
    "stock_keras": sections.stock_keras_text,
    "serving": lambda board: serving_report(board.serving),
    "one_image": sections.one_image_text,
    "seeds": accuracy.seeds_text,
    "trials": recipes.trials_text,
    "searches": recipes.searches_text,
    "plateau": accuracy.plateau_text,
    "layers": sections.layers_text,
    "configuration": sections.configuration_table,
    "presets": sections.presets_list,
    "bibtex": model_card.bibtex_text,
}


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
    """Return a document, whose path is relative to the root of the clone, with all its sections made anew."""

    def render(match: re.Match[str]) -> str:
        return match[1] + relative_links(render_section(match[2], board), document) + "\n" + match[3]

    return MARKED_SECTION.sub(render, text)


def write_documents(root: Path = Path()) -> list[Path]:
    """Draw outdated pictures, write outdated documents; return the pictures and documents that changed.

    Raises:
        RunError: a record does not pass its checks; nothing is written.
    """
    folder = root / RESULTS_FOLDER
    with locked(folder):
        if problems := folder_problems(folder, records_only=True):
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise RunError(f"nothing was written: {problems[0]}{more}")
        board = Board.read(folder)
        changed = draw_pictures(board, folder)
        update_manifest(folder)
        documents = {path: render_document(_text(root / path) or "", board, path) for path in find_documents(root)}
        for path, text in {**documents, **model_cards(board)}.items():
            if text != _text(root / path):
                write_atomically(root / path, text.encode())
                changed.append(root / path)
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
    problems = [
        f"{folder / name}: {problem}"
        for name, documents in (
            ("benchmark.json", [board.speed, *board.speed["cells"]]),
            ("serving.json", [board.serving]),
        )
        for document in documents
        for problem in commit_problems(root, document["git"]["commit"])
    ]
    problems += [problem for path in find_documents(root) for problem in document_problems(root, path, board)]
    cards = model_cards(board).items()
    problems += [f"{path} {OUTDATED}" for path, card in cards if _text(root / path) != card]
    problems += picture_problems(board, folder)
    if problems or not models:
        return problems
    return all_model_problems(board.all_records + board.trials, allow_code=allow_code)


def document_problems(root: Path, document: Path, board: Board) -> list[str]:
    """Return the sections of a document, whose path is relative to the root, that do not match the records."""
    text = (root / document).read_text(encoding="utf-8")
    rendered = render_document(text, board, document)
    pairs = zip(MARKED_SECTION.finditer(text), MARKED_SECTION.finditer(rendered), strict=True)
    return [f"{document}: section {old[2]} {OUTDATED}" for old, new in pairs if old[0] != new[0]]


def find_documents(root: Path = Path()) -> list[Path]:
    """Return the paths of all documents, relative to the root of the clone."""
    pages = sorted(path.relative_to(root) for path in (root / DOCS_FOLDER).rglob("*.md"))
    return [*REQUIRED_DOCUMENTS, *pages]


def relative_links(text: str, document: Path) -> str:
    """Return Markdown whose links, written relative to the root of the clone, are relative to a document's folder.

    Fenced code has no links and stays as it is.

    Example::

        relative_links("[record](results/strong/seed0)", Path("docs/results.md"))  # [record](../results/strong/seed0)
    """

    def relative(match: re.Match[str]) -> str:
        return match[0] if match["fence"] else Path(os.path.relpath(match[0], document.parent)).as_posix()

    return CODE_OR_LINK.sub(relative, text)
