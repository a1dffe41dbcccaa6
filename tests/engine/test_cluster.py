"""Ray: several jobs at a time on this machine, and a cluster of two nodes, one of which is killed midway."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import ray

from seqmnist_tf import config as cfg
from seqmnist_tf.engine import Job, JobEnd, job, run_jobs
from seqmnist_tf.engine import cluster as ray_cluster
from seqmnist_tf.system import InputError, RunError
from seqmnist_tf.train import RunDirectory
from tests.compare.commands import TINY, run, started, wait_until
from tests.compare.test_compare import masked, timeless
from tests.engine.nodes import Node, is_running, processes, trainers
from tests.engine.stand_in import TRAINER, Listed, make_job
from tests.toy import LONG_SECONDS

pytestmark = pytest.mark.timeout(900)
WORDS = ("compare", "adam", "SimpleRNN", "--seeds=0,1", *TINY, "--train.threads=1")


def weights(folder: Path) -> dict[str, list[np.ndarray]]:
    """Return the weights of the final model of each run in a comparison."""
    runs = sorted(folder.glob("*/seed*"))
    return {str(run.relative_to(folder)): keras.saving.load_model(run / "model.keras").get_weights() for run in runs}


def require_equal(folder: Path, other: Path) -> None:
    ours, theirs = weights(folder), weights(other)
    assert list(ours) == list(theirs) == [f"{arm}/seed{seed}" for arm in ("SimpleRNN", "adam") for seed in (0, 1)]
    for name, arrays in ours.items():
        assert all(np.array_equal(a, b) for a, b in zip(arrays, theirs[name], strict=True)), name
    assert timeless(folder / "comparison.json") == timeless(other / "comparison.json")
    assert masked(folder / "report.md") == masked(other / "report.md")
    for name in ("row.tex", "row.md", "curves.png", "differences.png", "disagreements.png"):
        assert (folder / name).read_bytes() == (other / name).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a comparison whose runs were trained one after the other in one process."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    run(folder.with_suffix(".log"), *WORDS, f"--dir={folder}")
    return folder


@contextlib.contextmanager
def comparing(folder: Path, log: Path, environment: dict[str, str], *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a comparison on toy data, and wait until two of its runs have begun, whose ends wait for FOLDER.hold."""
    hold = folder.with_suffix(".hold")
    hold.touch()
    with started(log, *WORDS, f"--dir={folder}", *words, **environment) as process:
        wait_until(lambda: len(list(folder.glob("*/seed*/config.json"))) == 2, log, process)
        assert not list(folder.glob("*/seed*/summary.json"))
        yield process
        hold.unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_processes_and_the_command_are_killed(
    number: signal.Signals, whole: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    folder, log = tmp_path / "out", tmp_path / "log"
    with comparing(folder, log, environment, "--workers=2") as process:
        killed = trainers(process.pid)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(set(trainers(process.pid)) - set(killed)) == 2, log, process)
        left = set(trainers(process.pid)) - set(killed)
        process.send_signal(number)
        folder.with_suffix(".hold").unlink()
        assert process.wait(timeout=LONG_SECONDS) == (130 if number == signal.SIGINT else -number), log.read_text()
        wait_until(lambda: not any(map(is_running, left)), log)  # none goes on training without its command
    # Where a run was trained makes no difference.
    where = ["--workers=2"] if number == signal.SIGKILL else []
    run(log, *WORDS, f"--dir={folder}", *where, **environment)
    require_equal(folder, whole)
    sessions = Path(environment["RAY_TMPDIR"]).glob("ray/session_2*")
    servers = "".join((session / "logs/gcs_server.out").read_text() for session in sessions)
    addresses = re.findall(r"node_address=(\S+)", servers)
    assert addresses and set(addresses) == {"127.0.0.1"}  # Ray's servers listen on the address of their node


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["ray::DashboardAgent", "raylet/raylet", "gcs_server"])
def test_ray_itself_dies(
    victim: str, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", environment["RAY_TMPDIR"])
    monkeypatch.setattr(job, "TRAINER", TRAINER)

    class Deadly(Listed):
        def epoch(self, job: Job, history: list[dict[str, Any]]) -> None:
            if victims := processes(os.getpid(), victim):
                os.kill(victims[0], signal.SIGKILL)

    def listed(kind: type[Listed], plan: str) -> Listed:
        return kind([make_job(tmp_path / f"run{number}", plan=plan) for number in range(3)])

    source = listed(Deadly, "wait")
    with pytest.raises(RunError, match="the same command resumes"):
        run_jobs(source, tmp_path, workers=2)
    assert source.ends == {}
    source = listed(Listed, "none")
    run_jobs(source, tmp_path, workers=2)
    assert source.ends == {f"run{number}": JobEnd("completed") for number in range(3)}
    assert [len(RunDirectory(tmp_path / f"run{number}").history()) for number in range(3)] == [2, 2, 2]


@pytest.mark.slow
def test_a_process_that_dies_is_started_again_and_the_others_go_on(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", environment["RAY_TMPDIR"])
    monkeypatch.setattr(job, "TRAINER", TRAINER)
    monkeypatch.setattr(ray_cluster, "RETRIES", 2)
    jobs = [make_job(tmp_path / plan, plan=plan) for plan in ("kill", "kill always", "interrupt", "fail", "none")]
    source, at_sigterm = Listed(jobs), signal.getsignal(signal.SIGTERM)
    run_jobs(source, tmp_path, workers=2)
    assert source.ends == {
        "kill": JobEnd("completed"),
        "kill always": JobEnd("failed", "its process died 3 times"),
        "interrupt": JobEnd("completed"),
        "fail": JobEnd("failed", "fail said so"),
        "none": JobEnd("completed"),
    }
    assert len(RunDirectory(tmp_path / "kill").history()) == 2
    assert "plan: fail" in (tmp_path / "logs/log").read_text()
    assert signal.getsignal(signal.SIGTERM) == at_sigterm  # Ray's own would end a command with another status


@pytest.mark.slow
def test_a_node_is_killed_midway(
    whole: Path, tmp_path: Path, cluster: tuple[str, Node], environment: dict[str, str]
) -> None:
    address, other = cluster
    folder, log = tmp_path / "out", tmp_path / "log"
    with comparing(folder, log, environment, f"--address={address}") as process:
        other.kill()
        folder.with_suffix(".hold").unlink()
        assert process.wait(timeout=400) == 0, log.read_text()
    require_equal(folder, whole)
    assert [line for line in log.read_text().splitlines() if line.startswith("report: ")]


def test_a_node_without_the_folder(tmp_path: Path) -> None:
    ended = ray_cluster.train_on_node(TRAINER, [], make_job(tmp_path / "run"), tmp_path / "missing")
    assert (ended.status, ended.own) == ("failed", False) and str(tmp_path / "missing") in str(ended.error)


def test_paths_mean_the_same_on_every_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = cfg.with_values(cfg.Config(), {"data.dir": "mnist", "task.permutation": "file:orders/a.txt"})
    for log in (Path("out/logs/a.log"), None):
        one = Job(path=Path("out/a/seed0"), name="a seed 0", config=config, log=log)
        one = ray_cluster.on_shared_paths(one, tmp_path / "out", 3)
        assert one.path == tmp_path / "out/a/seed0"
        assert one.log == tmp_path / "out/logs" / ("a.log" if log else "a-seed0.log")
        assert (one.config.data.dir, one.config.train.threads) == (str(tmp_path / "mnist"), 3)
        assert one.config.task.permutation == f"file:{tmp_path}/orders/a.txt"
    monkeypatch.setenv("HOME", str(tmp_path))
    at_home = Job(path=Path("out/a/seed0"), name="a", config=cfg.with_values(cfg.Config(), {"data.dir": "~/mnist"}))
    assert ray_cluster.on_shared_paths(at_home, tmp_path / "out", 3).config.data.dir == str(tmp_path / "mnist")


def test_cores_and_slots_follow_the_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = {"head": (0, 0), "large": (9, 0), "small": (4, 0)}
    monkeypatch.setattr(ray_cluster, "_nodes", lambda: nodes)
    place = ray_cluster.RayPlace(tmp_path, None, 0)
    assert (place.cores, place.slots()) == (4, 3)  # of the smallest node that has any
    nodes["small"] = (400, 0)
    assert place.slots() == 102
    with pytest.raises(InputError, match="401 cores"):
        ray_cluster.RayPlace(tmp_path, None, 401)
    nodes["large"], nodes["small"] = (9, 2), (16, 0)
    place = ray_cluster.RayPlace(tmp_path, None, 0)
    assert (place.cores, place.slots()) == (4, 2)  # each job has a GPU of the large node, and half of its cores
    assert ray_cluster.RayPlace(tmp_path, None, 9).slots() == 1
    monkeypatch.setattr(ray_cluster, "_nodes", lambda: {"here": (4, 2)})  # with --workers 4
    assert ray_cluster.RayPlace(tmp_path, 4, 1).slots() == 2


@pytest.mark.slow
def test_each_job_sees_one_gpu(tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray hands out GPUs that a node says it has, also where there is none."""
    monkeypatch.setenv("RAY_TMPDIR", environment["RAY_TMPDIR"])
    monkeypatch.setattr(job, "TRAINER", TRAINER)
    source = Listed([make_job(tmp_path / f"run{number}", plan="none") for number in range(2)])
    ray.init(address="local", num_cpus=6, num_gpus=2, include_dashboard=False, object_store_memory=100_000_000)
    try:
        place = ray_cluster.RayPlace(tmp_path, None, 0)
        assert (place.cores, place.slots()) == (3, 2)
        run_jobs(source, tmp_path, place=place)
    finally:
        ray.shutdown()
    assert [end.status for end in source.ends.values()] == ["completed"] * 2
    assert set(source.slots.values()) == {"slot0", "slot1"}
    visible = re.findall(r"GPUs: (.*)", (tmp_path / "logs/log").read_text())
    assert sorted(visible) == ["0", "1"]
