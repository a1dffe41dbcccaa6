"""What git knows of a clone: its commits, its tags, and the sources of each."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from ..system import RunError, ask_git, is_source

HASHED_SINCE = "seqmnist_tf/system/sources.py"  # a commit that has this file records a hash of its sources


def commit_problems(root: Path, commit: object) -> list[str]:
    """Return why something is not a commit of the clone at ``root``."""
    if not isinstance(commit, str) or not re.fullmatch("[0-9a-f]{40}", commit):
        return [f"its commit must be 40 hexadecimal digits (got {commit!a})"]
    if ask_git(root, "rev-parse", "--git-dir") is None:
        return [
            f"its commit {commit[:7]} cannot be checked: {root.absolute()} is not a git clone (or git cannot read it)"
        ]
    if ask_git(root, "cat-file", "-t", commit) == b"commit\n":
        return []
    if ask_git(root, "rev-parse", "--is-shallow-repository") == b"true\n":
        return [f"its commit {commit[:7]} is not in this clone, which is shallow (git fetch --unshallow)"]
    return [f"its commit {commit[:7]} is not a commit of this clone"]


def ancestor_problems(root: Path, commit: str) -> list[str]:
    """Return whether a commit of the clone at ``root`` is not in the history of HEAD: other clones will lack it."""
    if ask_git(root, "merge-base", "--is-ancestor", commit, "HEAD") is not None:
        return []
    return [f"its commit {commit[:7]} is not in the history of HEAD (commits of runs must not be amended or squashed)"]


def commit_of_version(root: Path, version: object) -> str | None:
    """Return the commit of a released version, tagged ``v<version>``, or None where the clone has no such tag."""
    if not isinstance(version, str) or not re.fullmatch(r"[0-9][0-9A-Za-z.+-]{0,40}", version):
        return None
    answer = ask_git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/v{version}^{{commit}}")
    return answer.decode().strip() if answer else None


@functools.cache
def sources_at(root: Path, commit: str) -> dict[str, bytes]:
    """Return the sources of a commit, by their path, as :func:`seqmnist_tf.system.package_sources`.

    Raises:
        RunError: git fails.
    """
    listing = ask_git(root, "ls-tree", "-r", "-z", "--full-tree", commit)
    if listing is None:
        raise RunError(f"git cannot list the files of {commit} in {root.absolute()}")
    entries = [entry.partition(b"\t") for entry in listing.split(b"\0") if entry]
    objects = {name.decode(): info.split()[2] for info, _, name in entries if is_source(name.decode(errors="replace"))}
    answer = ask_git(root, "cat-file", "--batch", content=b"".join(digest + b"\n" for digest in objects.values()))
    sources, at = {}, 0
    for name in objects:
        if answer is None or not (header := re.match(rb"[0-9a-f]+ blob (\d+)\n", answer[at : at + 120])):
            raise RunError(f"git cannot read {name} of {commit} in {root.absolute()}")
        start = at + header.end()
        sources[name] = answer[start : start + int(header[1])]
        at = start + int(header[1]) + 1
    return sources
