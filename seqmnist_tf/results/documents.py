"""The documents with generated sections, and their links.

A section stands between ``<!-- results: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from .records import RESULTS_FOLDER

REQUIRED_DOCUMENTS = (Path("README.md"), RESULTS_FOLDER / "README.md", Path("export", "README.md"))
DOCS_FOLDER = Path("docs")
MARKED_SECTION = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
LOCAL_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)[^)\s]+(?=\))")


def find_documents(root: Path = Path()) -> list[Path]:
    """Return the paths of all documents, relative to the root of the clone."""
    pages = sorted(path.relative_to(root) for path in (root / DOCS_FOLDER).rglob("*.md"))
    return [*REQUIRED_DOCUMENTS, *pages]


def relative_links(text: str, document: Path) -> str:
    """Return Markdown whose links, written relative to the root of the clone, are relative to a document's folder.

    Args:
        text: Markdown.
        document: path of the document, relative to the root.

    Example::

        relative_links("[record](results/strong/seed0)", Path("docs/results.md"))  # [record](../results/strong/seed0)
    """
    return LOCAL_LINK.sub(lambda match: Path(os.path.relpath(match[0], document.parent)).as_posix(), text)
