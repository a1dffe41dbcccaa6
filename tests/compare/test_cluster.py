"""Ray: several runs at a time on this machine, and a cluster of two nodes, one of which is killed midway."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.compare import cluster as ray_cluster
from seqmnist_tf.compare.cluster import folder_problem
from seqmnist_tf.compare.plan import PlannedRun
from seqmnist_tf.system import InputError
from tests.compare.commands import TINY, run_compare
from tests.compare.test_compare import timeless
from tests.toy import ROOT

pytestmark = pytest.mark.timeout(600)
WORDS = ("adam", "SimpleRNN", "--seeds=0,1", *TINY, "--train.threads=1")


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
            "PYTHONPATH": str(ROOT),
            # Ray's own variable, which its workers inherit: a function that they call before their first task.
            "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR": "tests.compare.commands.use_toy_data",
        }


def weights(folder: Path) -> dict[str, list[np.ndarray]]:
    """Return the weights of the final model of each run in a comparison."""
    runs = sorted(folder.glob("*/seed*"))
    return {str(run.relative_to(folder)): keras.saving.load_model(run / "model.keras").get_weights() for run in runs}


def test_a_run_that_was_interrupted_after_its_last_batch_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(run: PlannedRun) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(ray_cluster, "train_planned", interrupt)
    path = tmp_path / "out" / "a" / "seed0"
    path.mkdir(parents=True)
    (tmp_path / "out" / "arms.json").write_bytes(b"{}")
    run = PlannedRun("a", 0, path, path, cfg.Config(), None, tmp_path / "log", "out")
    assert ray_cluster.train_on_node(run, b"{}") == "interrupted"
    (path / "config.json").write_text(cfg.config_to_json(cfg.Config()))
    (path / "summary.json").write_text('{"status": "completed"}')
    assert ray_cluster.train_on_node(run, b"{}") == "completed"


def require_equal(folder: Path, other: Path) -> None:
    ours, theirs = weights(folder), weights(other)
    assert list(ours) == list(theirs) == [f"{arm}/seed{seed}" for arm in ("SimpleRNN", "adam") for seed in (0, 1)]
    for name, arrays in ours.items():
        assert all(np.array_equal(a, b) for a, b in zip(arrays, theirs[name], strict=True)), name
    assert timeless(folder / "comparison.json") == timeless(other / "comparison.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a comparison whose runs were trained one after the other in one process."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    done = run_compare(*WORDS, f"--dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_two_at_a_time_on_this_machine(whole: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    done = run_compare(*WORDS, f"--dir={tmp_path / 'out'}", "--workers=2", **environment)
    assert done.returncode == 0, done.stderr
    assert "8/8 epochs" in done.stderr and "ray" not in done.stderr.lower()
    require_equal(tmp_path / "out", whole)
    (session,) = Path(environment["RAY_TMPDIR"]).glob("ray/session_2*")
    addresses = re.findall(r"node_address=(\S+)", (session / "logs/gcs_server.out").read_text())
    assert addresses and set(addresses) == {"127.0.0.1"}  # Ray's servers listen on the address of their node


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


def descendants(pid: int) -> list[int]:
    """Return the processes that a process and its children have started."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = [tuple(map(int, line.split())) for line in listed.splitlines()]
    children = [child for child, parent in parents if parent == pid]
    return [*children, *(other for child in children for other in descendants(child))]


@pytest.fixture
def cluster(tmp_path: Path, environment: dict[str, str]) -> Iterator[tuple[str, Node]]:
    """Return the address of a cluster of two nodes, and the node that is not its head."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = tmp_path / "head.log"
    nodes = [Node(log, environment, "--head", f"--port={port}", "--include-dashboard=false")]
    try:
        started = time.monotonic()
        while not (match := re.search(r"ray start --address='([\d.]+:\d+)'", log.read_text())):
            assert time.monotonic() - started < 120, log.read_text()
            time.sleep(0.5)
        nodes.append(Node(tmp_path / "other.log", environment, f"--address={match[1]}"))
        while "Ray runtime started" not in (tmp_path / "other.log").read_text():
            running = nodes[1].process.poll() is None and time.monotonic() - started < 240
            assert running, (tmp_path / "other.log").read_text()
            time.sleep(0.5)
        yield match[1], nodes[1]
    finally:
        for node in reversed(nodes):
            node.kill()


@pytest.mark.slow
def test_a_node_is_killed_midway(
    whole: Path, tmp_path: Path, cluster: tuple[str, Node], environment: dict[str, str]
) -> None:
    address, other = cluster
    folder, log = tmp_path / "out", tmp_path / "log"
    command = [sys.executable, "-m", "tests.compare.commands", *WORDS, f"--dir={folder}", f"--address={address}"]
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=file, stderr=file)
    try:
        started = time.monotonic()
        # Until both nodes train: two runs have begun, and none has ended.
        while len(list(folder.glob("*/seed*/config.json"))) < 2 and time.monotonic() - started < 200:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        assert len(list(folder.glob("*/seed*/config.json"))) == 2
        assert not list(folder.glob("*/seed*/summary.json"))
        other.kill()
        assert process.wait(timeout=400) == 0, log.read_text()
    finally:
        process.kill()
    require_equal(folder, whole)
    assert [line for line in log.read_text().splitlines() if line.startswith("report: ")]


def test_a_node_without_the_folder(tmp_path: Path) -> None:
    (tmp_path / "arms.json").write_text("{}")
    assert folder_problem(tmp_path, b"{}") is None
    for folder, marker in ((tmp_path / "missing", b"{}"), (tmp_path, b"other")):
        assert "(give a --dir on a folder that all nodes share)" in str(folder_problem(folder, marker))


@pytest.mark.slow
def test_something_else_than_ray_at_the_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        done = run_compare("adam", "--seeds=0", f"--dir={tmp_path / 'out'}", f"--address={address}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: no Ray cluster answers at {address} within 10 s")
    assert not (tmp_path / "out").exists()


def test_paths_mean_the_same_on_every_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = cfg.with_values(cfg.Config(), {"data.dir": "mnist", "task.permutation": "file:orders/a.txt"})
    path = Path("out/a/seed0")
    run = PlannedRun("a", 0, path, path, config, Path("out/a/layer.py"), Path("out/logs/a.log"), "out")
    run = ray_cluster._on_shared_paths(run, 3)
    assert (run.path, run.layer, run.log) == (tmp_path / path, tmp_path / "out/a/layer.py", tmp_path / "out/logs/a.log")
    assert (run.config.data.dir, run.config.train.threads) == (str(tmp_path / "mnist"), 3)
    assert run.config.task.permutation == f"file:{tmp_path}/orders/a.txt"


def test_a_run_has_the_cores_of_the_smallest_node(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Resources": {"memory": 1.0}}, {"Resources": {"CPU": 16.0}}, {"Resources": {"CPU": 4.0}}]
    monkeypatch.setattr(ray_cluster, "_nodes", lambda: nodes)
    assert (ray_cluster._cores_of_a_run(None, 0), ray_cluster._cores_of_a_run(None, 64)) == (4, 64)
    del nodes[1:]
    with pytest.raises(InputError, match="no node of the cluster has a core yet"):
        ray_cluster._cores_of_a_run(None, 0)
