"""The documents with generated tables: writing them and the pictures, and checking both against the records.

A table stands between ``<!-- results: NAME -->`` and ``<!-- end -->``; all other words are written by hand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from ..benchmark import benchmark_report
from ..system import RunError, write_atomically
from . import tables
from .checks import drawn_problems, recount_first
from .plots import draw_pictures, outdated_pictures
from .records import REQUIRED_DOCUMENTS, RESULTS_FOLDER, ResultsFolder
from .store import locked, read_manifest, record_problems, updated_manifest, write_manifest

DOCS_FOLDER = Path("docs")
OUTDATED = "does not match the records (python -m seqmnist_tf.results writes it again)"
MARKED_SECTION = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
LOCAL_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)[^)\s]+(?=\))")
TABLES: dict[str, Callable[[ResultsFolder], str]] = {
    "ranking": tables.ranking_table,
    "comparison": tables.comparison_table,
    "runs": tables.runs_table,
    "board": tables.board_tables,
    "board_runs": tables.board_runs_table,
    "searches": tables.searches_table,
    "speed": lambda results: _reports(results, "train_step"),
    "cells": lambda results: _reports(results, "cells"),
    "models": lambda results: _reports(results, "models"),
    "configuration": tables.configuration_table,
}


def _reports(results: ResultsFolder, key: str) -> str:
    """Return the reports of the benchmark's documents that have a key."""
    return "\n\n".join(benchmark_report(document) for document in results.speed if key in document)


def render_document(text: str, results: ResultsFolder, document: Path) -> str:
    """Return a document, whose path is relative to the root of the clone, with all its tables made anew."""

    def render(match: re.Match[str]) -> str:
        return match[1] + relative_links(TABLES[match[2]](results), document) + "\n" + match[3]

    return MARKED_SECTION.sub(render, text)


def relative_links(text: str, document: Path) -> str:
    """Return Markdown whose links, written relative to the root of the clone, are relative to a document's folder."""
    return LOCAL_LINK.sub(lambda match: Path(os.path.relpath(match[0], document.parent)).as_posix(), text)


def find_documents(root: Path = Path()) -> list[Path]:
    """Return the paths of all documents, relative to the root of the clone."""
    pages = sorted(path.relative_to(root) for path in (root / DOCS_FOLDER).rglob("*.md"))
    return [*REQUIRED_DOCUMENTS, *pages]


def write_documents(root: Path = Path()) -> list[Path]:
    """Draw outdated pictures, write outdated documents; return those that changed. RunError of a changed record."""
    folder = root / RESULTS_FOLDER
    with locked(folder):
        if problems := record_problems(folder, updated_manifest(folder)):
            raise RunError(f"nothing was written: {problems[0]}")
        results = ResultsFolder.read(folder)
        changed = draw_pictures(results, folder)
        write_manifest(folder, updated_manifest(folder))
        for path in find_documents(root):
            text = (root / path).read_text(encoding="utf-8")
            if (rendered := render_document(text, results, path)) != text:
                write_atomically(root / path, rendered.encode())
                changed.append(root / path)
    return changed


def clone_problems(root: Path = Path(), *, models: bool = True, allow_code: bool = False) -> list[str]:
    """Return where hashes, tables, pictures and models do not match the records of the clone at ``root``.

    ``models``: run the models too, once everything else agrees; ``allow_code``: also those with a ``layer.py``.
    """
    folder = root / RESULTS_FOLDER
    if problems := record_problems(folder, read_manifest(folder)):
        return problems
    results = ResultsFolder.read(folder)
    for path in find_documents(root):
        text = (root / path).read_text(encoding="utf-8")
        both = MARKED_SECTION.finditer(text), MARKED_SECTION.finditer(render_document(text, results, path))
        problems += [f"{path}: table {old[2]} {OUTDATED}" for old, new in zip(*both, strict=True) if old[0] != new[0]]
    problems += [f"{folder / picture.path} {OUTDATED}" for picture in outdated_pictures(results, folder)]
    problems += [problem for search in results.searches for problem in drawn_problems(search)]
    if problems or not models:
        return problems
    completed = [record for same in results.records.values() for record in same]
    return recount_first(sorted(completed, key=lambda one: str(one.config.task)), allow_code=allow_code)
