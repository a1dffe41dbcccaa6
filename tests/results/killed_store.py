"""Writing into a results folder while processes are killed or write at the same time, in a process without TensorFlow.

    python -m tests.results.killed_store kill FOLDER      prints how many moments there were to be killed at
    python -m tests.results.killed_store together FOLDER

A process that was forked is killed right before its n-th operation on a file; then the same is written again.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from seqmnist_tf.results.records import OF_COMPLETED_RUNS, REPLAYS_FILE, REQUIRED_FILES
from seqmnist_tf.results.store import add_files, locked, manifest_problems, read_manifest, set_files

OPERATIONS = ("open", "os.", "shutil.")  # beginnings of the names of audit events
FILES = {name: f"content of {name}".encode() for name in (*REQUIRED_FILES, *OF_COMPLETED_RUNS, REPLAYS_FILE)}


def add(folder: Path, name: str = "strong/seed1", date: str = "") -> None:
    with locked(folder):
        add_files(folder, folder / name, {**FILES, REPLAYS_FILE: f"replayed {date}".encode()})


def note_replay(folder: Path, date: str = "") -> None:
    with locked(folder):
        set_files(folder, folder / "strong/seed0", {REPLAYS_FILE: f"replayed again {date}".encode()})


def new_folder(folder: Path) -> None:
    """Make a results folder with one record."""
    shutil.rmtree(folder, ignore_errors=True)
    add(folder, "strong/seed0")


def killed_before(number: int, action: Callable[[], None]) -> bool:
    """Do something in a process that is killed before its operation ``number``; return whether it was."""
    child = os.fork()
    if child == 0:
        count = 0

        def hook(event: str, _: object) -> None:
            nonlocal count
            if event.startswith(OPERATIONS):
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        action()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"failed before operation {number}")
    return os.WIFSIGNALED(status)


def kill(folder: Path) -> None:
    moments = 0
    for action in (add, note_replay):
        number = 1
        while True:
            new_folder(folder)
            if not killed_before(number, lambda: action(folder, date="1")):  # noqa: B023 ends within the turn
                break
            if action is add and (folder / "strong/seed1").exists():
                after = "complete" if "strong/seed1/model.keras" in read_manifest(folder) else "renamed"
            else:
                after = "nothing"
            if after != "complete":
                action(folder, date="2")
            check(folder, after)
            number, moments = number + 1, moments + 1
        check(folder, "not killed")
    print(moments)


def check(folder: Path, after: str) -> None:
    """Exit with a message where the folder is not whole; what is hidden may be left until the next command."""
    if problems := manifest_problems(folder):
        raise SystemExit(f"{after}: {problems}")
    names = {path.relative_to(folder).parts[1] for path in folder.glob("*/*")}
    if after in ("nothing", "renamed") and any(name.startswith(".new-") for name in names):
        raise SystemExit(f"{after}: left {names}")
    for name in read_manifest(folder):
        if not name.endswith(REPLAYS_FILE) and (folder / name).read_bytes() != FILES[Path(name).name]:
            raise SystemExit(f"{after}: {name} has other content")


def together(folder: Path) -> None:
    children = []
    for number in range(20):
        child = os.fork()
        if child == 0:
            add(folder, f"strong/seed{number}")
            os._exit(0)
        children.append(child)
    if any(os.waitpid(child, 0)[1] for child in children):
        raise SystemExit("a process failed")
    check(folder, "together")
    print(len({name.split("/")[1] for name in read_manifest(folder)}))


if __name__ == "__main__":
    {"kill": kill, "together": together}[sys.argv[1]](Path(sys.argv[2]))
