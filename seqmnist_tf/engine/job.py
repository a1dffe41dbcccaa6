"""A job, and the process of its own that it is trained in, with a watch over it.

The watch runs in a worker of Ray, so nothing heavy is imported here. The process ends with its watch, and the watch
with the command: whichever is killed, nothing goes on training.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..config import Config, LayerFile

POLL_SECONDS = 1.0
HANG_SECONDS = 600.0  # without a new batch, at least
FIRST_BATCH = 6  # times as long for the first batch: a large graph may be traced for a quarter of an hour
TRAINER = "seqmnist_tf.engine:train_job"  # MODULE:NAME of the function that trains a job in its process
CHILD = "from seqmnist_tf.engine.job import main; main()"


@dataclass(frozen=True)
class Job:
    """A run that is to be trained, or resumed, in plain values that can be sent to another process.

    Attributes:
        path: its run directory.
        name: how lines name it, such as ``MinLSTM seed 3`` or ``trial 12``.
        config: its whole configuration.
        preset: the preset that its command starts from, for its record.
        command, resume_command: the command that trains it, and the one that resumes it, for its record.
        layer: the file of its layer, with the modules that it imports; None reads what the configuration names.
        log: the file of what it prints; None is the terminal, for jobs in this process.
        group: its group in W&B.
        code: the hash of the module that its layer is from, where it must not change.
        stop_rule: as for ``train``; a function of a module, or a ``functools.partial`` of one.
    """

    path: Path
    name: str
    config: Config
    preset: str | None = None
    command: str = ""
    resume_command: str = ""
    layer: LayerFile | None = None
    log: Path | None = None
    group: str | None = None
    code: str | None = None
    stop_rule: Callable[[list[dict[str, Any]]], str | None] | None = None


@dataclass(frozen=True)
class JobEnd:
    """How a job ended.

    Attributes:
        status: completed, stopped, diverged, interrupted, failed, or died where its process or node has gone.
        error: the reason of a failure or a death.
        own: whether a failure is the job's own, of its layer or its values; otherwise it is the machine's.
        notes: what was done about a damaged run.
        reason: why a run was stopped.
        trace: the traceback of a failure.
    """

    status: str
    error: str | None = None
    own: bool = True
    notes: tuple[str, ...] = ()
    reason: str | None = None
    trace: str = ""


class Watch:
    """Says when a process hangs: no new batch for twice the time of an epoch at its own pace, at least a minimum.

    Time is counted in polls, so that a machine that sleeps, or suspends its jobs, does not look like one that hangs.

    Args:
        minimum: seconds.
        batches: of an epoch, with those of its evaluation.
    """

    def __init__(self, minimum: float, batches: float) -> None:
        self.minimum, self.batches = minimum, batches
        self.seconds = self.silent = 0.0
        self.step: int | None = None
        self.first: tuple[float, int] | None = None
        self.limit = FIRST_BATCH * minimum

    def hangs(self, step: int) -> bool:
        """Take note of the last step in the log, at each poll; return whether the process hangs."""
        self.seconds += POLL_SECONDS
        self.silent += POLL_SECONDS
        if step == self.step:
            return self.silent > self.limit
        if self.step is None or step < self.step:  # what was there, or was cut off when the run was resumed
            self.first = None
        elif self.first is None:
            self.first = (self.seconds, step)
        else:
            pace = (self.seconds - self.first[0]) / (step - self.first[1])
            self.limit = max(self.minimum, 2 * (self.first[0] + pace * self.batches))
        self.step, self.silent = step, 0.0
        return False


def last_step(path: Path) -> int:
    """Return the last step in a run's ``steps.csv``; 0 where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 100))
            return int(file.read().split(b"\n")[-2].split(b",")[0])
    except (OSError, ValueError, IndexError):
        return 0


def job_bytes(job: Job, folder: Path) -> bytes:
    """Return a job, of the experiment in ``folder``, as its process reads it."""
    paths = [os.path.abspath(path) for path in sys.path]  # a layer's module is where the command finds it
    content = pickle.dumps((TRAINER, paths, pickle.dumps((job, folder))))
    return b"%d\n%b" % (len(content), content)


def supervise(content: bytes, path: Path, log: Path, watch: Watch) -> JobEnd:
    """Train a job, by :func:`job_bytes`, in a process of its own; return how it ended, or why its process is gone.

    ``path`` is its run directory, ``log`` the file of all that its process prints; ``watch`` says when it hangs.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # Unbuffered: the log has all that was printed, and the place of a crash, however the process ends.
    command = [sys.executable, "-u", "-P", "-X", "faulthandler", "-c", CHILD]
    with log.open("ab") as file, tempfile.TemporaryFile() as answer:  # no pipe: a long traceback would fill it
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=answer, stderr=file)
        if process.stdin is None:
            raise OSError("no pipe to the process of a job")
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(content)
                process.stdin.flush()  # and stays open: the process ends when it is closed
            while True:
                try:
                    code = process.wait(POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    if watch.hangs(last_step(path / "steps.csv")):
                        return JobEnd("died", f"its process hung: no new batch for {watch.silent:,.0f} s")
            answer.seek(0)
            if (text := answer.read()).endswith(b"}"):  # whatever happened to the process after it
                fields = json.loads(text)
                return JobEnd(**{**fields, "notes": tuple(fields["notes"])})
            return JobEnd("died", f"its process died ({name_exit(code)})")
        finally:
            process.kill()
            process.wait()
            process.stdin.close()


def name_exit(code: int) -> str:
    """Return what ended a process, by its return code.

    Example:
        >>> name_exit(3), name_exit(-11), name_exit(-35)
        ('exit status 3', 'SIGSEGV', 'signal 35')
    """
    if code >= 0:
        return f"exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"
    return f"{name}, as where memory ran out" if name == "SIGKILL" else name


def main() -> None:
    """Train the job that standard input gives, and answer on standard output how it ended."""
    sys.stdout.flush()
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # all that is printed goes to the log
    content = sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_watch, daemon=True).start()
    trainer, paths, rest = pickle.loads(content)
    sys.path[:0] = [path for path in paths if path not in sys.path]
    module, _, name = trainer.partition(":")
    train = getattr(importlib.import_module(module), name)
    job, folder = pickle.loads(rest)
    try:
        end = train(job, folder)
    except KeyboardInterrupt:
        end = JobEnd("interrupted")
    json.dump(asdict(end), answer)
    answer.close()
    sys.stderr.flush()
    os._exit(0)  # whatever threads others have left


def _end_with_watch() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)
