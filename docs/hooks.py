"""mkdocs hook: links from docs/ to files elsewhere in the repository.

On GitHub such a link is relative. In the built site, the documents and pictures of ``ADDED`` are pages and files of the
site, and a link to any other file of the repository (a record, code, the notebook) becomes its text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
ADDED = ("results/README.md", "results/*/README.md", "export/README.md", "results/plots/*.png", "export/*.png")
FOLDER = "repository/"  # of the added files in the site
FENCED = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the documents and pictures from outside docs/."""
    for pattern in ADDED:
        for path in sorted(ROOT.glob(pattern)):
            uri = FOLDER + path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Rewrite the links of a page, except in fenced code."""
    here = Path(page.file.abs_src_path or "").parent

    def rewrite(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups()
        path = (here / target).resolve()
        if not path.is_relative_to(ROOT) or not path.exists():
            return match[0]  # mkdocs reports it
        name = path.relative_to(ROOT).as_posix()
        uri = name.removeprefix("docs/") if name.startswith("docs/") else FOLDER + name
        if files.get_file_from_path(uri) is None:
            return text
        relative = posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")
        return f"{image}[{text}]({relative}{anchor or ''})"

    parts = FENCED.split(markdown)
    return "".join(part if n % 2 else LINK.sub(rewrite, part) for n, part in enumerate(parts))
