"""The chief of a search: hands out its jobs to workers, and says and mends what is wrong with them."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import keras_tuner

from ..system import RunError, note, printable, say, write_atomically
from .folder import SearchFolder
from .job import Job
from .jobs import Jobs
from .processes import LocalWorkers
from .progress import WATCH_SECONDS, TrialReporter
from .roster import WORKER_NAME, Roster
from .service import start_server

ALONE_SECONDS = 3.0  # without any worker, after which that is said
STATUS_SECONDS = 30.0  # between two lines about what runs or is waited for
FAREWELL_SECONDS = 20.0  # for workers to hear that the search has ended


class Chief:
    """Answers the workers' calls, and watches over the workers.

    Args:
        search: the search.
        oracle: its oracle, loaded.
        max_trials: maximum number of trials, for reports.
        patience: seconds without a sign of a worker, after which its job is given to another.
        type_for: returns what a person types to start a worker of this name.
    """

    def __init__(
        self,
        search: SearchFolder,
        oracle: keras_tuner.Oracle,
        max_trials: int,
        patience: float,
        type_for: Callable[[str], str],
    ) -> None:
        self.search, self.type_for = search, type_for
        self.jobs, self.roster = Jobs(search, oracle), Roster(patience)
        self.reporter = TrialReporter(search, max_trials)
        self.token = uuid.uuid4().hex
        self.workers: LocalWorkers | None = None
        self._ended_repeats: list[str] = []
        self._reported = -1
        self._alone_since = self._say_at = time.monotonic()
        self._lock = threading.Lock()
        for name in oracle.ongoing_trials:
            self.roster.expect(name)

    def listen(self, address: str) -> int:
        """Begin to answer calls at ``HOST:PORT``; return the port.

        Raises:
            InputError: the address is in use, or not of this machine.
        """
        methods = {"beat": self.beat, "take": self.take, "end": self.end}
        self.server, port = start_server(address, methods)
        address = f"{address.rpartition(':')[0]}:{port}"
        write_atomically(self.search.path / ".chief", json.dumps({"oracle": address, "token": self.token}).encode())
        return port

    def beat(self, call: dict[str, Any]) -> dict[str, Any]:
        """Take note of a worker; say whether the job that it works on is still its own."""
        name, job, epoch = _caller(call), call.get("job"), call.get("epoch")
        if not self.roster.hear(name, str(call["instance"]), epoch and printable(str(epoch), 200)):
            return {"refused": f"another worker is named {name!r} (give each worker its own --worker-name)"}
        yours = job is None or self.jobs.held_by(name) == Job(**job) or self.jobs.claim(name, Job(**job))
        return {"yours": yours, "token": self.token}

    def take(self, call: dict[str, Any]) -> dict[str, Any]:
        """Return a worker's next job."""
        name = _caller(call)
        if not self.roster.hear(name, str(call["instance"]), "epoch 1"):
            return {"refused": f"another worker is named {name!r} (give each worker its own --worker-name)"}
        answer = self.jobs.take(name)
        if isinstance(answer, Job):
            note(f"{name}: {answer} begins")
            return {"job": asdict(answer)}
        if answer == "end":
            self.roster.members[name].dismissed = True
        return {"answer": answer}

    def end(self, call: dict[str, Any]) -> dict[str, Any]:
        """Record the result of a worker's job."""
        job, score, reason = Job(**call["job"]), call["score"], printable(str(call["reason"]), 200)
        if not self.jobs.end(_caller(call), job, score, reason):
            return {}
        if score is None:
            note(f"{job} failed: {reason}")
        elif job.seed is not None:
            with self._lock:
                self._ended_repeats.append(f"{job}: validation accuracy {score:.2%}")
        return {}

    def run(self) -> None:
        """Watch over the workers until the search has ended.

        Raises:
            RunError: trials failed repeatedly, or this machine's workers died repeatedly.
        """
        over: float | None = None
        while over is None or (self._undismissed() and time.monotonic() - over < FAREWELL_SECONDS):
            time.sleep(WATCH_SECONDS)
            self.look_after()
            if self.jobs.progress.error:
                raise RunError(f"the search cannot continue: {self.jobs.progress.error}")
            if over is None and self.jobs.over():
                over = time.monotonic()
        self._report()

    def look_after(self) -> None:
        """Report results, and say what is wrong with workers; give the jobs of dead ones to others."""
        self._report()
        if self.workers:
            self.workers.look_after(self.jobs.progress.ended)
        for name, job in self.jobs.holders().items():
            self._look_after_worker(name, job)
        now = time.monotonic()
        if self.roster.alive():
            self._alone_since = now
        if now >= self._say_at and (line := self._status(now - self._alone_since)):
            note(line)
            self._say_at = now + STATUS_SECONDS

    def close(self) -> None:
        """Stop answering calls."""
        self.server.stop(grace=1.0).wait()

    def _status(self, alone: float) -> str:
        """Return a line about what runs, or what is waited for; empty where there is nothing to say yet."""
        if running := self.jobs.holders():
            return f"running: {', '.join(f'{job} ({name}, {self._state(name)})' for name, job in running.items())}"
        if alone < ALONE_SECONDS:
            return ""
        if self.workers:
            return f"waiting for the workers to start, for {alone:.0f} s"
        return f"no worker is there, for {alone:.0f} s; start one, or several: {self.type_for('NAME')}"

    def _state(self, name: str) -> str:
        member = self.roster.members[name]
        return f"missing since {member.since}" if self.roster.missing(name) else member.epoch

    def _undismissed(self) -> bool:
        return any(not self.roster.members[name].dismissed for name in self.roster.alive())

    def _report(self) -> None:
        with self._lock:
            repeats, self._ended_repeats = self._ended_repeats, []
        if self.jobs.progress.ended != self._reported:
            self._reported = self.jobs.progress.ended
            if self.reporter.report_new():
                self._say_at = time.monotonic() + STATUS_SECONDS
        for line in repeats:
            say(line)

    def _look_after_worker(self, name: str, job: Job) -> None:
        if name not in self.roster.members:
            self.roster.expect(name)
        member = self.roster.members[name]
        if not self.roster.missing(name):
            if member.reported:
                note(f"worker {name} is back")
                member.reported = False
            return
        if not member.reported:
            cure = "" if self.workers else f"; start it again: {self.type_for(name)}"
            note(
                f"worker {name} is missing since {member.since} and has {job}, which is given to another worker "
                f"{member.patience / 60:.3g} min after that (--patience){cure}"
            )
            member.reported = True
        if self.roster.silence(name) > member.patience:
            self.jobs.release(name)
            note(f"{job} goes back to the queue, and another worker continues it from its last epoch")
            if self.workers:
                self.workers.kill(name)


def _caller(call: dict[str, Any]) -> str:
    """Return the name of the worker that calls, or raise ValueError where none can have it."""
    if not WORKER_NAME.fullmatch(name := str(call["name"])):
        raise ValueError("not a worker's name")
    return name
