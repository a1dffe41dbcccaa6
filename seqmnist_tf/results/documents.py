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
# A fence ends at one that is at least as long, or at the end of the text.
FENCED_CODE = r"^ *(?P<fence>`{3,})[^`\n]*\n.*?(?:^ *(?P=fence)`*[ \t]*$|\Z)"
LOCAL_LINK = r"(?<=\]\()(?!\w+:|#)[^)\s]+(?=\))"
CODE_OR_LINK = re.compile(f"{FENCED_CODE}|{LOCAL_LINK}", re.DOTALL | re.MULTILINE)


def find_documents(root: Path = Path()) -> list[Path]:
    """Return the paths of all documents, relative to the root of the clone."""
    pages = sorted(path.relative_to(root) for path in (root / DOCS_FOLDER).rglob("*.md"))
    return [*REQUIRED_DOCUMENTS, *pages]


def relative_links(text: str, document: Path) -> str:
    """Return Markdown whose links, written relative to the root of the clone, are relative to a document's folder.

    Args:
        text: Markdown; its fenced code has no links and stays as it is.
        document: path of the document, relative to the root.

    Example::

        relative_links("[record](results/strong/seed0)", Path("docs/results.md"))  # [record](../results/strong/seed0)
    """

    def relative(match: re.Match[str]) -> str:
        return match[0] if match["fence"] else Path(os.path.relpath(match[0], document.parent)).as_posix()

    return CODE_OR_LINK.sub(relative, text)
