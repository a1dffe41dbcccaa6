"""A chief and its workers: dead ones, wrong addresses, two chiefs, and what each of them says while it waits."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf.system import InputError, RunError
from seqmnist_tf.train import RunDirectory
from seqmnist_tf.tune import __main__ as tune_command
from seqmnist_tf.tune import chief as chief_module
from seqmnist_tf.tune import oracle, processes, roster, trials, work, worker
from seqmnist_tf.tune.chief import Chief
from seqmnist_tf.tune.folder import SearchFolder
from seqmnist_tf.tune.job import Job, JobLost
from seqmnist_tf.tune.lead import search_with_workers
from seqmnist_tf.tune.outcomes import read_trials
from seqmnist_tf.tune.processes import LocalWorkers
from seqmnist_tf.tune.recovery import load_oracle
from seqmnist_tf.tune.service import Line, Unreadable, start_server
from seqmnist_tf.tune.worker import ChiefJobs
from tests.conftest import Result
from tests.toy import LONG_SECONDS, ROOT
from tests.tune.toy_search import toy_search, toy_train

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all that takes seconds take tenths of them."""
    monkeypatch.setattr(roster, "MISSING_SECONDS", 0.5)
    for module, name in (
        (chief_module, "WATCH_SECONDS"),
        (work, "WATCH_SECONDS"),
        (worker, "BEAT_SECONDS"),
        (trials, "BUSY_SECONDS"),
        (worker, "RETRY_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.05)


Start = Callable[..., tuple[Chief, str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start chiefs in this process."""
    started: list[Chief] = []

    def make(search: SearchFolder, max_trials: int = 4, patience: float = 60.0) -> tuple[Chief, str]:
        search.path.mkdir(exist_ok=True)
        oracle = load_oracle(search, max_trials, keep_workers=True)
        chief = Chief(search, oracle, max_trials, patience, lambda name: f"COMMAND --worker-name {name}")
        started.append(chief)
        return chief, f"127.0.0.1:{chief.listen('127.0.0.1:0')}"

    yield make
    for chief in started:
        chief.close()


def run_worker(search: SearchFolder, address: str, name: str, patience: float = 60.0) -> threading.Thread:
    """Run a worker in a thread."""

    def run() -> None:
        jobs = ChiefJobs(search, address, name, patience)
        jobs.join()
        with jobs:
            work.work(search, jobs)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


class Died(BaseException):
    """A worker's thread ends, as its process would by SIGKILL."""


def dying_worker(
    search: SearchFolder, address: str, name: str, monkeypatch: pytest.MonkeyPatch, epochs: int = 2
) -> str:
    """Run a worker that dies after some epochs of its first job; return the job's trial."""

    def die(config: Any, path: Path, *, stop_rule: Any, **more: Any) -> Any:
        def rule(history: list[Any]) -> str | None:
            if len(history) == epochs:
                raise Died
            return stop_rule(history)

        return toy_train(config, path, stop_rule=rule, **more)

    with monkeypatch.context() as patch:
        patch.setattr(trials, "train", die)
        jobs = ChiefJobs(search, address, name, 60.0)
        jobs.join()
        answer = jobs.take()
        assert not isinstance(answer, str)
        with pytest.raises(Died), jobs:
            trials.run_job(search, answer, watcher=jobs.watch(answer))
    return answer.trial


def test_a_dead_workers_trial_continues_on_another_from_its_last_epoch(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search = toy_search(tmp_path / "search")
    chief, address = start(search, max_trials=3, patience=1.5)
    trial = dying_worker(search, address, "a", monkeypatch)
    assert len(RunDirectory(search.trial_path(trial)).history()) == 2
    heard = chief.roster.members["a"].heard
    thread = run_worker(search, address, "b")
    chief.run()
    thread.join(60)
    assert time.monotonic() - heard > 1.5
    assert [row["trial"] for row in read_trials(search)] == ["0", "1", "2"]
    run = RunDirectory(search.trial_path(trial))
    assert len(run.history()) == 4 and len(run.environment["resumed"]) == 1
    err = capsys.readouterr().err
    assert re.search(r"worker a is missing since \d\d:\d\d:\d\d", err)
    assert f"has trial {trial}, which is given to another worker 0.025 min after that (--patience)" in err
    assert "; start it again: COMMAND --worker-name a\n" in err
    assert f"trial {trial} goes back to the queue, and another worker continues it from its last epoch" in err
    assert f"b: trial {trial} begins" in err


def test_a_worker_that_comes_back_in_time_keeps_its_trial(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search = toy_search(tmp_path / "search")
    chief, address = start(search, max_trials=1)
    trial = dying_worker(search, address, "a", monkeypatch)
    time.sleep(0.6)
    chief.look_after()
    assert "worker a is missing since" in capsys.readouterr().err
    thread = run_worker(search, address, "a")
    chief.run()
    thread.join(10)
    assert f"a: trial {trial} begins" in (err := capsys.readouterr().err)
    assert "queue" not in err
    assert len(RunDirectory(search.trial_path(trial)).environment["resumed"]) == 1


def test_a_worker_whose_trial_was_given_away_leaves_it(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = toy_search(tmp_path / "search")
    chief, address = start(search, max_trials=1)
    jobs = ChiefJobs(search, address, "a", 60.0)
    jobs.join()
    with jobs:
        answer = jobs.take()
        assert not isinstance(answer, str)
        jobs.watch(answer)
        with chief.jobs._lock:  # else a beat of a between the two would take the trial back
            chief.jobs.release("a")
            assert chief.jobs.take("b") == answer
        end = time.monotonic() + 5
        while not jobs.lost():
            assert time.monotonic() < end
            time.sleep(0.02)
        with pytest.raises(JobLost):
            trials.run_job(search, answer, watcher=jobs.watch(answer))
        jobs.end(answer, 0.5)
    assert chief.jobs.oracle.trials[answer.trial].score is None  # the result of b counts


def test_a_chief_that_was_restarted_leaves_trials_to_the_workers_that_are_alive(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search = toy_search(tmp_path / "search")
    first, address = start(search, max_trials=3)
    assert not isinstance(first.jobs.take("a"), str) and not isinstance(first.jobs.take("b"), str)
    first.close()
    monkeypatch.setattr(roster, "INHERITED_SECONDS", 1.0)
    chief, address = start(search, max_trials=3)
    assert {name: job.trial for name, job in chief.jobs.holders().items()} == {"a": "0", "b": "1"}
    thread = run_worker(search, address, "a")
    chief.run()
    thread.join(10)
    assert [row["trial"] for row in read_trials(search)] == ["0", "1", "2"]
    err = capsys.readouterr().err
    assert "a: trial 0 begins" in err and "a: trial 1 begins" in err and "worker b is missing since" in err


def test_repeats_are_announced_and_run_by_the_workers(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = toy_search(tmp_path / "search")
    chief, address = start(search, max_trials=3)
    threads = [run_worker(search, address, name) for name in ("a", "b")]
    chief.run()
    for thread in threads:
        thread.join(10)
    best = max(read_trials(search), key=lambda row: row["score"])["trial"]
    out, err = capsys.readouterr()
    assert f"the trials have ended; the best, trial {best}, is repeated with seeds 1, 2, 3\n" in err
    for seed in (1, 2, 3):
        assert f"repeat of trial {best} with seed {seed}: validation accuracy 8" in out
        assert f": repeat of trial {best} with seed {seed} begins" in err
    assert len(list((search.path / "repeats").glob(f"trial{best}-*/seed*/summary.json"))) == 3
    assert "RMSProp" not in out + err and "SGD" not in out + err and "Reloading" not in out + err


def test_a_worker_with_a_wrong_address_says_whom_it_waits_for_and_gives_up(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = toy_search(tmp_path / "search")
    _, right = start(search)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        wrong = f"127.0.0.1:{probe.getsockname()[1]}"
    began = time.monotonic()
    with pytest.raises(RunError, match=f"the chief at {wrong} does not answer"):
        ChiefJobs(search, wrong, "a", 0.5).join()
    assert time.monotonic() - began < 10
    line = f"worker a waits: the chief at {wrong} does not answer (the last chief of {search.path} listened at {right}"
    assert line in capsys.readouterr().err


def test_a_worker_of_another_folder_says_so(start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, address = start(toy_search(tmp_path / "search"))
    with pytest.raises(RunError, match=r"leads a search in another folder than .*elsewhere"):
        ChiefJobs(toy_search(tmp_path / "elsewhere"), address, "a", 0.3).join()
    assert not (tmp_path / "elsewhere").exists()


def test_what_listens_need_not_be_a_chief(tmp_path: Path) -> None:
    server, port = start_server("127.0.0.1:0", {})
    with pytest.raises(RunError, match=f"what listens at 127.0.0.1:{port} is not the chief of a search"):
        ChiefJobs(toy_search(tmp_path / "search"), f"127.0.0.1:{port}", "a", 0.3).join()
    server.stop(0)


def test_a_worker_says_that_its_chief_is_gone_and_goes_on_when_it_is_back(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = toy_search(tmp_path / "search")
    chief, address = start(search)
    jobs = ChiefJobs(search, address, "a", 60.0)
    jobs.join()
    with jobs:
        chief.server.stop(0).wait()
        end = time.monotonic() + 10
        while f"worker a waits: the chief at {address} does not answer" not in (err := capsys.readouterr().err):
            assert time.monotonic() < end
            time.sleep(0.1)
        assert "giving up in 1 min (--patience)" in err
        again, _ = start(search)
        again.close()
        again.listen(address)
        assert not isinstance(jobs.take(), str)
    assert f"worker a: the chief at {address} answers" in capsys.readouterr().err


def test_two_workers_of_one_name_are_refused(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = toy_search(tmp_path / "search")
    _, address = start(search)
    monkeypatch.setattr(roster, "MISSING_SECONDS", 30.0)  # a late beat is not yet silence
    monkeypatch.setattr(worker, "MISSING_SECONDS", 0.3)
    first = ChiefJobs(search, address, "a", 60.0)
    first.join()
    with first, pytest.raises(InputError, match="another worker is named 'a'"):
        ChiefJobs(search, address, "a", 60.0).join()


def test_two_chiefs_on_one_port_are_refused(
    command: Callable[..., Result], start: Start, tmp_path: Path, toy_space: str
) -> None:
    _, address = start(toy_search(tmp_path / "search"))
    with pytest.raises(InputError, match=f"--oracle must be a free address of this machine .got {address}"):
        start_server(address, {})
    argv = ["--tuner=random", "--max-trials=2", f"--dir={tmp_path / 'other'}", f"--space={toy_space}"]
    answer = command(tune_command.main, *argv, "--role=chief", f"--oracle={address}")
    message = f"error: --oracle must be a free address of this machine (got {address}"
    assert answer.status == 2 and answer.err.startswith(message)
    assert answer.err.count("\n") == 1 and not (tmp_path / "other").exists()


def test_only_this_machine_reaches_the_chief_of_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def listen(_: Chief, address: str) -> int:
        asked.append(address)
        raise RunError("enough")

    monkeypatch.setattr(Chief, "listen", listen)
    search = toy_search(tmp_path / "search")
    search.claim()
    with pytest.raises(RunError, match="enough"):
        search_with_workers(search, 1, 60.0, [], 2)
    assert asked == ["127.0.0.1:0"]


def test_a_chief_without_workers_says_what_to_type(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chief, _ = start(toy_search(tmp_path / "search"))
    chief.look_after()
    assert capsys.readouterr().err == ""
    chief._alone_since -= chief_module.ALONE_SECONDS + 1
    chief.look_after()
    chief.look_after()
    said = r"no worker is there, for \d+ s; start one, or several: COMMAND --worker-name NAME\n"
    assert re.fullmatch(said, capsys.readouterr().err)


def test_a_chief_says_what_runs(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chief_module, "STATUS_SECONDS", 0.0)
    chief, address = start(toy_search(tmp_path / "search"))
    jobs = ChiefJobs(chief.search, address, "a", 60.0)
    jobs.join()
    with jobs:
        answer = jobs.take()
        assert not isinstance(answer, str)
        jobs.watch(answer).epoch_ended(1, 4)
        end = time.monotonic() + 5
        while "running: trial 0 (a, epoch 2 of 4)\n" not in capsys.readouterr().err:
            assert time.monotonic() < end
            chief.look_after()
            time.sleep(0.05)


def test_trials_that_fail_in_a_row_end_the_search(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(trials, "train", fail)
    search = toy_search(tmp_path / "search")
    chief, address = start(search, max_trials=oracle.FAILURES + 2)
    thread = run_worker(search, address, "a")
    with pytest.raises(RunError, match=r"the search cannot continue: Number of consecutive failures .* of 10.* a bug"):
        chief.run()
    thread.join(10)


def test_a_worker_that_dies_is_started_again_and_a_sixth_death_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, "-c", "import sys; sys.exit('error: no disk')"])
    workers = LocalWorkers([], "127.0.0.1:1", tmp_path / "logs")
    workers.start("worker0")
    with pytest.raises(RunError, match=r"workers died repeatedly .*worker0.log.: error: no disk"):
        while True:
            workers.look_after(0)
            time.sleep(0.02)
    assert capsys.readouterr().err == 5 * "worker0 died (exit status 1) and is started again\n"


def test_deaths_between_which_jobs_end_do_not_end_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, "-c", "import sys; sys.exit(1)"])
    workers = LocalWorkers([], "127.0.0.1:1", tmp_path / "logs")
    workers.start("worker0")
    for ended in range(processes.RESTARTS + 2):
        workers.running["worker0"].wait(LONG_SECONDS)
        workers.look_after(ended)
    assert workers.restarts == 1
    workers.wait()


def test_a_worker_that_settles_while_it_says_that_it_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    complaint = worker.Complaint(toy_search(tmp_path / "search"), "127.0.0.1:1", "a", 60.0)
    settle = iter([complaint.settle])  # as the other thread does, at the worst moment
    monkeypatch.setattr(worker, "note", lambda text: next(settle, lambda: None)())
    complaint.wait("the chief does not answer")
    assert complaint.since is None and not complaint.exhausted


def test_the_repeat_of_a_worker_that_died_goes_to_another(start: Start, tmp_path: Path) -> None:
    search = toy_search(tmp_path / "search")
    chief, _ = start(search, max_trials=1)
    trial = chief.jobs.take("first")
    assert isinstance(trial, Job) and chief.jobs.end("first", trial, trials.run_job(search, trial))
    repeat = chief.jobs.take("first")
    assert isinstance(repeat, Job) and repeat.seed is not None
    chief.jobs.release("first")
    assert "first" not in chief.jobs.holders()
    assert chief.jobs.take("second") == repeat


def test_a_worker_that_ends_in_order_has_not_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, "-c", ""])
    workers = LocalWorkers([], "127.0.0.1:1", tmp_path / "logs")
    workers.start("worker0")
    while workers.running:
        workers.look_after(0)
    assert capsys.readouterr().err == ""


def test_what_strangers_send_never_reaches_the_terminal_and_ends_nothing(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chief, address = start(toy_search(tmp_path / "search"))
    line, me = Line(address), {"name": "a", "instance": "1"}
    for method, fields in (
        ("beat", {"name": "\x1b[2J", "instance": "1"}),
        ("beat", {}),
        ("beat", {**me, "job": 7}),
        ("take", {"name": "a\nb", "instance": "1"}),
        ("end", {**me, "job": {"trial": "0"}, "score": 1.0}),
        ("end", {**me, "job": {"trial": "0", "values": {}}, "score": None}),
    ):
        with pytest.raises(Unreadable, match="answers: "):
            line.call(method, 5.0, **fields)
    assert "job" in line.call("take", 5.0, **me)
    line.call("beat", 5.0, **me, epoch="\x1b[2Jepoch 2")
    chief.look_after()
    assert "running: trial 0 (a, \\x1b[2Jepoch 2)" in capsys.readouterr().err
    line.close()


@pytest.mark.slow
def test_a_process_that_hangs_is_started_again_and_continues_its_trial(tmp_path: Path, toy_space: str) -> None:
    folder = tmp_path / "search"
    argv = ["--tuner=random", "--max-trials=1", "--epochs=4", f"--dir={folder}", f"--space={toy_space}"]
    command = [sys.executable, "-m", "tests.tune.toy_search", *argv, "--workers=1", "--patience=0.05"]
    environment = {**os.environ, "TOY_EPOCH_SECONDS": "0.5", "TOY_MISSING_SECONDS": "10"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + LONG_SECONDS
        while not (folder / "trials" / "0" / "history.jsonl").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        listed = subprocess.run(["pgrep", "-f", f"{folder}.*worker-name worker0"], capture_output=True, text=True)
        os.kill(int(listed.stdout.split()[0]), signal.SIGSTOP)
        _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "worker worker0 is missing since" in err
    assert "worker0 died (SIGKILL) and is started again\n" in err
    run = RunDirectory(folder / "trials" / "0")
    assert len(run.environment["resumed"]) == 1 and len(run.history()) == 4
