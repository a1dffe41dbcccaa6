"""Nodes of a Ray cluster on this machine, for tests that kill one."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """Return variables for Ray: its own files in a folder whose name is short, since paths of sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        token = Path(folder) / "token"
        token.write_text(64 * "0")
        yield {
            "RAY_TMPDIR": folder,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # lets nodes join a machine whose only address is 127.0.0.1
        }


def descendants(pid: int) -> list[int]:
    """Return the processes that a process and its children have started."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = [tuple(map(int, line.split())) for line in listed.splitlines()]
    children = [child for child, parent in parents if parent == pid]
    return [*children, *(other for child in children for other in descendants(child))]


def processes(pid: int, name: str) -> list[int]:
    """Return the processes below a process whose command, or title, has ``name`` in its first 100 characters."""
    commands = {child: Path(f"/proc/{child}/cmdline") for child in descendants(pid)}
    return [child for child, path in commands.items() if path.exists() and name.encode() in path.read_bytes()[:100]]


def trainers(pid: int) -> list[int]:
    """Return the processes below a process that train jobs."""
    return processes(pid, "ray::train_on_node")


def is_running(pid: int) -> bool:
    """Return whether a process is there, and no zombie that nobody has waited for."""
    with contextlib.suppress(OSError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


@pytest.fixture
def cluster(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Return a cluster of two nodes with one core each."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        made.add_node(num_cpus=1)
        yield made
    finally:
        made.shutdown()
