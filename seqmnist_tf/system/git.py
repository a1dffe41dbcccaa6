"""Asking git about a clone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

LIMIT_SECONDS = 60


def ask_git(root: Path, *words: str, content: bytes = b"") -> bytes | None:
    """Return the output of a command of git in a clone; None where it fails, or there is no git.

    Args:
        root: the root of the clone.
        words: the command, such as ``"rev-parse", "HEAD"``.
        content: what it reads.
    """
    command = ["git", "-C", str(root), *words]
    # What git tells its hooks would name another repository, and a replacement object could stand in for a commit.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_NO_REPLACE_OBJECTS"] = "1"
    try:
        done = subprocess.run(
            command, input=content, capture_output=True, check=True, timeout=LIMIT_SECONDS, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
