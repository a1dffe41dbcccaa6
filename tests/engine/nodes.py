"""Nodes of a Ray cluster on this machine, for tests that kill one."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compare.commands import wait_until
from tests.toy import ROOT


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


class Node:
    """A node of a Ray cluster on this machine."""

    def __init__(self, log: Path, environment: dict[str, str], *words: str) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", *words]
        common = ["--disable-usage-stats", "--object-store-memory=100000000"]
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [*command, *common], stdout=file, stderr=file, env={**os.environ, **environment}, cwd=ROOT
            )

    def kill(self) -> None:
        """Kill all processes of the node, as a failure of its machine would."""
        for pid in (*descendants(self.process.pid), self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def cluster(tmp_path: Path, environment: dict[str, str]) -> Iterator[tuple[str, Node]]:
    """Return the address of a cluster of two nodes, and the node that is not its head."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    logs = [tmp_path / "head.log", tmp_path / "other.log"]
    nodes = [Node(logs[0], environment, "--head", f"--port={port}", "--include-dashboard=false")]
    try:
        wait_until(lambda: "Ray runtime started" in logs[0].read_text(), logs[0], nodes[0].process)
        address = f"{re.findall(r'Local node IP: ([0-9.]+)', logs[0].read_text())[0]}:{port}"
        nodes.append(Node(logs[1], environment, f"--address={address}"))
        wait_until(lambda: "Ray runtime started" in logs[1].read_text(), logs[1], nodes[1].process)
        yield address, nodes[1]
    finally:
        for node in reversed(nodes):
            node.kill()
