"""A job's process and the watch over it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seqmnist_tf.engine import JobEnd, job
from seqmnist_tf.engine.job import Watch, job_bytes, last_step, name_exit, supervise
from seqmnist_tf.train import RunDirectory
from tests.engine.nodes import descendants, is_running
from tests.engine.stand_in import TRAINER, make_job
from tests.toy import LONG_SECONDS, ROOT


def seconds_until_hanging(watch: Watch, steps: list[int]) -> float:
    """Return how long a watch waits after the last of these steps, of which it sees one at each poll."""
    assert not [step for step in steps if watch.hangs(step)]
    seconds = 1.0
    while not watch.hangs(steps[-1]):
        seconds += 1
    return seconds


def test_a_process_hangs_after_twice_an_epoch_of_its_own_pace() -> None:
    assert seconds_until_hanging(Watch(600, 100), [0]) == 3601  # the first batch may be traced for long
    assert seconds_until_hanging(Watch(600, 100), [0, 1]) == 3601
    assert seconds_until_hanging(Watch(600, 100), [0, 1, 5, 9]) == 601  # four batches a second
    slow = [0, *[1] * 20, *[2] * 20, *[3] * 20]  # twenty seconds a batch, after two seconds
    assert seconds_until_hanging(Watch(600, 100), slow) == 2 * (2 + 20 * 100) - 19 + 1
    assert seconds_until_hanging(Watch(600, 100), [700, 600, 601]) == 3601  # resumed, and cut back to a checkpoint


def test_the_last_step_in_a_log(tmp_path: Path) -> None:
    log = tmp_path / "steps.csv"
    assert last_step(log) == 0
    for content, step in (("step,loss\n", 0), ("step,loss\n1,2.5\n", 1), ("step,loss\n1,2.5\n2,0.", 1)):
        log.write_text(content)
        assert last_step(log) == step
    log.write_text("step,loss\n" + "".join(f"{step},0.1234567890123456\n" for step in range(1, 1235)))
    assert last_step(log) == 1234


def run_supervised(folder: Path, plan: str, watch: Watch | None = None) -> JobEnd:
    one = make_job(folder / "run", plan=plan)
    return supervise(job_bytes(one, folder), one.path, folder / "logs" / "run.log", watch or Watch(600, 1))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stand-in train."""
    monkeypatch.setattr(job, "TRAINER", TRAINER)


@pytest.mark.parametrize(
    ("plan", "first"),
    [
        ("none", JobEnd("completed")),
        ("fail", JobEnd("failed", "fail said so")),
        ("fail at length", JobEnd("failed", "fail at length said so", trace="x" * 100_000)),
        ("full disk", JobEnd("failed", "full disk said so", own=False)),
        ("interrupt", JobEnd("interrupted")),
        ("signal:9", JobEnd("died", "its process died (SIGKILL, as where memory ran out)")),
        ("exit", JobEnd("died", "its process died (exit status 3)")),
    ],
)
def test_how_a_process_ends(plan: str, first: JobEnd, tmp_path: Path, stand_in: None) -> None:
    assert run_supervised(tmp_path, plan) == first
    assert f"plan: {plan}" in (tmp_path / "logs/run.log").read_text()
    if first.status == "died":
        assert run_supervised(tmp_path, plan) == JobEnd("completed")
        assert [row["epoch"] for row in RunDirectory(tmp_path / "run").history()] == [1, 2]


@pytest.mark.slow
def test_a_process_that_hangs_or_is_stopped_is_ended(tmp_path: Path, stand_in: None) -> None:
    for plan in ("hang", "stop"):
        watch = Watch(600, 1)
        watch.first, watch.limit = (1.0, 0), 3.0
        (tmp_path / plan).mkdir()
        ended = run_supervised(tmp_path / plan, plan, watch)
        assert ended == JobEnd("died", "its process hung: no new batch for 4 s")


def test_the_names_of_signals() -> None:
    assert [name_exit(code) for code in (1, -15, -35, -64)] == ["exit status 1", "SIGTERM", "signal 35", "SIGRTMAX"]


def test_a_process_ends_with_its_watch(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from seqmnist_tf.engine import job
from tests.engine.test_job import run_supervised
job.TRAINER = {TRAINER!r}
run_supervised(Path({str(tmp_path)!r}), "hang")
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as watching:
        started = time.monotonic()
        while not (tmp_path / "run/history.jsonl").exists():
            assert time.monotonic() - started < LONG_SECONDS
            time.sleep(0.1)
        (child,) = descendants(watching.pid)
        os.kill(watching.pid, signal.SIGKILL)
    while is_running(child):
        assert time.monotonic() - started < LONG_SECONDS
        time.sleep(0.1)
