"""mkdocs hook: the live page, links from docs/ to files elsewhere in the repository, and words of code in one piece.

The site's folder live/ has the page that `serve` shows, with the version that `serve` chooses. The first page shows it
in place of its picture.

On GitHub such a link is relative. In the built site, the documents, pictures and notebooks of ``ADDED`` are pages and
files of the site. A link to any other file of the repository (a record, code), or to a notebook, leads to the address
that pyproject.toml has under project.urls, Repository. Without an address a notebook is downloaded, and another link
becomes its text.
"""

from __future__ import annotations

import json
import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from seqmnist_tf.serve import DEFAULT_FOLDER, choose_version, lstm_weights, read_description

ROOT = Path(__file__).resolve().parents[1]
ADDED = (
    *("results/README.md", "results/*/README.md", "export/README.md"),
    *("results/plots/*.png", "export/*.png", "notebooks/*.ipynb"),
)
FOLDER = "repository/"  # of the added files in the site
WEB = ROOT / "seqmnist_tf" / "serve" / "web"
PICTURE = re.compile(r"^!\[.*unfolding\.png\)\n\n\*.*?\*$", re.DOTALL | re.MULTILINE)  # with its caption
LIVE_PAGE = '<iframe class="live" src="live/index.html" title="How an LSTM reads a digit"></iframe>'
FENCED = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)
INLINE_CODE = re.compile(r"(<pre.*?</pre>)|(?<=<code>).*?(?=</code>)", re.DOTALL)
ABOUT_DOCUMENT = re.compile(r"<code>docs/(\w+)\.md</code>")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Link the repository in the head of each page."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    config.repo_url, config.repo_name = project["urls"].get("Repository"), "Repository"
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the documents and pictures from outside docs/, and the live page with its model."""
    for pattern in ADDED:
        for path in sorted(ROOT.glob(pattern)):
            uri = FOLDER + path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    for path in sorted(path for path in WEB.iterdir() if path.is_file()):  # without the folder __pycache__
        files.append(File.generated(config, f"live/{path.name}", content=_in_site(path)))
    version = choose_version(ROOT / DEFAULT_FOLDER)
    files.append(File.generated(config, "live/model.json", content=json.dumps(read_description(version))))
    files.append(File.generated(config, "live/weights.bin", content=lstm_weights(version)))
    return files


def _in_site(path: Path) -> str:
    """Return a file of the live page; its text about the page names documents, which are pages here."""
    text = path.read_text(encoding="utf-8")
    if path.name == "about.html":
        text = text.replace('<a href="./">Back to the page</a>', '<a href="../">Back to the documentation</a>')
        text = ABOUT_DOCUMENT.sub(r'<a href="../\1/">\1</a>', text)
    return text


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Rewrite the links of a page, except in fenced code, and put the live page into the first one."""
    if page.file.src_uri == "index.md":
        page.meta["hide"] = ["toc"]
        markdown = PICTURE.sub(LIVE_PAGE, markdown)
    here = Path(page.file.abs_src_path or "").parent

    def rewrite(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups()
        path = (here / target).resolve()
        if not path.is_relative_to(ROOT) or not path.exists():
            return match[0]  # mkdocs reports it
        name = path.relative_to(ROOT).as_posix()
        uri = name.removeprefix("docs/") if name.startswith("docs/") else FOLDER + name
        file = files.get_file_from_path(uri)
        if config.repo_url and (file is None or name.endswith(".ipynb")):
            kind = "tree" if path.is_dir() else "blob"
            return f"{image}[{text}]({config.repo_url.rstrip('/')}/{kind}/main/{name}{anchor or ''})"
        if file is None:
            return text
        relative = posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")
        return f"{image}[{text}]({relative}{anchor or ''})"

    parts = FENCED.split(markdown)
    return "".join(part if n % 2 else LINK.sub(rewrite, part) for n, part in enumerate(parts))


def on_page_content(html: str, page: Page, config: Any, files: Files) -> str:
    """Keep each word of inline code, such as --train.seed, on one line: browsers break lines behind hyphens."""

    def keep(match: re.Match[str]) -> str:
        return match[1] or re.sub(r"\S*-\S*", r'<span class="word">\g<0></span>', match[0])

    return INLINE_CODE.sub(keep, html)
