"""A worker's side of the connection to its chief: waiting for it, and showing that the worker is alive."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import asdict
from typing import Any

from ..system import InputError, RunError, note
from .folder import SearchFolder, read_object
from .job import Answer, Job, Watcher
from .roster import BEAT_SECONDS, MISSING_SECONDS
from .service import ChiefSilent, Line, Unreadable

BEAT_TIMEOUT = 2.5
CHOICE_SECONDS = 120.0  # for the chief to choose the values of a trial
REMIND_SECONDS = 30.0
SAY_SECONDS = 3.0
RETRY_SECONDS = 1.0


class Complaint:
    """Says that a worker waits for its chief, at once and then twice a minute; gives up after ``patience`` seconds."""

    def __init__(self, search: SearchFolder, address: str, name: str, patience: float) -> None:
        self.search, self.address, self.name, self.patience = search, address, name, patience
        self.since: float | None = None
        self.reported = 0.0
        self._lock = threading.Lock()

    def wait(self, problem: str) -> None:
        """Say what is wrong, unless that was said shortly before."""
        with self._lock:
            now = time.monotonic()
            if self.since is None:
                self.since, self.reported = now, -REMIND_SECONDS
            if now - self.reported < REMIND_SECONDS:
                return
            self.reported = now
            left = (self.patience - (now - self.since)) / 60
        note(f"worker {self.name} waits: {problem}{self._hint()}; giving up in {max(0, left):.3g} min (--patience)")

    def settle(self) -> None:
        """Say that the chief answers, where something else was said before."""
        with self._lock:
            if self.since is not None:
                note(f"worker {self.name}: the chief at {self.address} answers")
            self.since = None

    @property
    def exhausted(self) -> bool:
        """Whether the patience is at its end."""
        since = self.since  # another thread may settle it in between
        return since is not None and time.monotonic() - since > self.patience

    def _hint(self) -> str:
        chief = read_object(self.search.path / ".chief") or {}
        listens = chief.get("oracle")
        if listens and listens != self.address:
            return f" (the last chief of {self.search.path} listened at {listens}: is --oracle right?)"
        return " (start it with the same arguments and --role chief; is --oracle right?)"


class ChiefJobs(Watcher):
    """The jobs of a search, from its chief. As a context, it shows the chief that this worker is alive.

    Args:
        search: the search.
        address: ``HOST:PORT`` of the chief.
        name: the worker's name.
        patience: seconds to wait for a chief that does not answer.

    Raises:
        InputError: another worker has the name.
        RunError: the chief did not answer for ``patience`` seconds.
    """

    def __init__(self, search: SearchFolder, address: str, name: str, patience: float) -> None:
        self.search, self.name, self.instance = search, name, uuid.uuid4().hex
        self._line = Line(address)
        self._complaint = Complaint(search, address, name, patience)
        self._stopped = threading.Event()
        self._job: Job | None = None
        self._lost = False
        self._epoch = "epoch 1"

    def join(self) -> None:
        """Wait until the chief answers and leads the search of the same folder."""
        began = time.monotonic()
        while True:
            try:
                answer = self._call("beat", BEAT_TIMEOUT)
            except (ChiefSilent, Unreadable) as error:
                problem = str(error) or f"the chief at {self._line.address} does not answer"
            else:
                if "refused" not in answer and self._same_folder(answer):
                    self._complaint.settle()
                    return
                if "refused" in answer and time.monotonic() - began > MISSING_SECONDS:
                    raise InputError(answer["refused"])
                problem = answer.get("refused") or (
                    f"the chief at {self._line.address} leads a search in another folder than {self.search.path} "
                    "(give both the same --dir, on a folder that both see)"
                )
            self._wait(problem)

    def __enter__(self) -> ChiefJobs:
        self._heart = threading.Thread(target=self._beat_forever, daemon=True)
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._heart.join()
        self._line.close()

    def take(self) -> Answer:
        """Return the next job."""
        self._job, self._lost = None, False
        answer = self._ask("take")
        return Job(**answer["job"]) if "job" in answer else answer["answer"]

    def watch(self, job: Job) -> Watcher:
        """Return a watcher that tells the chief how far a job is."""
        self._job, self._epoch = job, "epoch 1"
        return self

    def end(self, job: Job, score: float | None, reason: str = "") -> None:
        """Hand in the result of a job; None where it failed."""
        self._ask("end", job=asdict(job), score=score, reason=reason)
        self._job = None

    def epoch_ended(self, epochs: int, n_epochs: int) -> None:
        """Take note of how far the job is."""
        self._epoch = f"epoch {min(epochs + 1, n_epochs)} of {n_epochs}"

    def lost(self) -> bool:
        """Return whether the chief has given the job to another worker."""
        return self._lost

    def _ask(self, method: str, **fields: Any) -> dict[str, Any]:
        """Call the chief until it answers, saying so where that takes longer."""
        while True:
            slow = threading.Timer(SAY_SECONDS, note, [f"worker {self.name} waits for the chief's answer"])
            slow.start()
            try:
                answer = self._call(method, CHOICE_SECONDS, **fields)
            except (ChiefSilent, Unreadable) as error:
                self._wait(str(error) or f"the chief at {self._line.address} does not answer")
                continue
            finally:
                slow.cancel()
            self._complaint.settle()
            if "refused" in answer:
                raise RunError(answer["refused"])
            return answer

    def _wait(self, problem: str) -> None:
        self._complaint.wait(problem)
        if self._complaint.exhausted:
            raise RunError(f"{problem} (the same command joins the search again)")
        time.sleep(RETRY_SECONDS)

    def _call(self, method: str, timeout: float, **fields: Any) -> dict[str, Any]:
        return self._line.call(method, timeout, name=self.name, instance=self.instance, **fields)

    def _same_folder(self, answer: dict[str, Any]) -> bool:
        chief = read_object(self.search.path / ".chief") or {}
        return chief.get("token") == answer.get("token")

    def _beat_forever(self) -> None:
        while not self._stopped.wait(BEAT_SECONDS):
            job = self._job
            try:
                answer = self._call("beat", BEAT_TIMEOUT * 2, job=job and asdict(job), epoch=self._epoch)
            except (ChiefSilent, Unreadable) as error:
                if self._stopped.is_set():
                    return
                self._complaint.wait(str(error) or f"the chief at {self._line.address} does not answer")
                answer = {"yours": not self._complaint.exhausted}
            else:
                self._complaint.settle()
            if job is self._job and not answer.get("yours", False):
                self._lost = job is not None
