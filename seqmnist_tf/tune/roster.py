"""Which workers have been heard, and when, by the chief's own clock."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass

WORKER_NAME = re.compile(r"[\w.-]{1,100}")
BEAT_SECONDS = 2.0  # between two beats of a worker
MISSING_SECONDS = 20.0  # without a beat, after which a worker counts as missing
INHERITED_SECONDS = 60.0  # for a worker to report after the chief was restarted


@dataclass
class Member:
    """A worker.

    Attributes:
        instance: the process that bears the name; empty for a worker of a chief before.
        heard: when it was heard last, in seconds of the chief's clock.
        since: the time of day of that.
        patience: seconds without a beat, after which its job is given to another.
        epoch: how far its job is, for people.
        reported: whether people know that it is missing.
        dismissed: whether it knows that the search has ended.
    """

    instance: str
    heard: float
    since: str
    patience: float
    epoch: str = ""
    reported: bool = False
    dismissed: bool = False


class Roster:
    """The workers of a chief.

    Args:
        patience: seconds without a beat, after which a worker's job is given to another.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.members: dict[str, Member] = {}
        self._lock = threading.Lock()

    def expect(self, name: str) -> None:
        """Wait for a worker of the chief before."""
        self.members[name] = Member("", time.monotonic(), _time_of_day(), min(self.patience, INHERITED_SECONDS))

    def hear(self, name: str, instance: str, epoch: str | None = None) -> bool:
        """Take note of a beat; return False where another process bears the name and is alive."""
        with self._lock:
            member = self.members.get(name)
            if member and member.instance not in ("", instance) and self.silence(name) < MISSING_SECONDS / 2:
                return False
            if member is None or member.instance != instance:
                member = Member(instance, 0, "", self.patience, reported=bool(member and member.reported))
            member.heard, member.since = time.monotonic(), _time_of_day()
            self.members[name] = member  # whole: the chief reads it without the lock
            if epoch is not None:
                member.epoch = epoch
            return True

    def silence(self, name: str) -> float:
        """Return the seconds since a worker was heard."""
        return time.monotonic() - self.members[name].heard

    def missing(self, name: str) -> bool:
        """Return whether a worker has not been heard for so long that people should know."""
        return self.silence(name) > MISSING_SECONDS

    def alive(self) -> list[str]:
        """Return the workers that are not missing."""
        return [name for name in list(self.members) if not self.missing(name)]


def _time_of_day() -> str:
    return time.strftime("%H:%M:%S")
