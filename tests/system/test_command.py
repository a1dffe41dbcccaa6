"""Terminals and pipes that fail: the status of a command stays its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seqmnist_tf.system import InputError, Parser, folder_atomically, require_folder
from tests.toy import LONG_SECONDS, ROOT, SMALL

PROGRAM = "from seqmnist_tf.system import run_command, say, note, warn\n"


def run(code: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = ["bash", "-c", f'{sys.executable} -c "$CODE" {shell}']
    variables = {**os.environ, "CODE": PROGRAM + code, **environment}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, timeout=LONG_SECONDS)


def test_characters_that_a_terminal_lacks_are_escaped() -> None:
    code = "run_command(lambda argv: (say('Zürich 数'), note('é'), 3)[2], [])"
    done = run(code, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 3
    assert done.stdout == b"Z\\xfcrich \\u6570\n"
    assert done.stderr == b"\\xe9\n"


def test_a_path_is_printed_as_it_is() -> None:
    for path in ("実験\u30001", "a\u00a0b", "9\u202fPM", "\u0645\u06cc\u200c\u062e\u0648"):
        done = run(f"run_command(lambda argv: (say({path!r}), 0)[1], [])", PYTHONIOENCODING="utf-8")
        assert done.stdout.decode() == f"{path}\n"


def test_control_characters_of_others_do_not_reach_a_terminal() -> None:
    evil = "'\\x1b[2J\\u202ea\\tb\\nc'"
    done = run(f"run_command(lambda argv: (say({evil}), note({evil}), int({evil}))[2], [])")
    shown = b"\\x1b[2J\\u202ea\tb\nc\n"
    assert done.stdout == shown and done.stderr.startswith(shown)
    done = run(
        f"from seqmnist_tf.system import InputError\ndef fail(argv): raise InputError({evil})\nrun_command(fail, [])"
    )
    assert (done.returncode, done.stderr) == (2, b"error: \\x1b[2J\\u202ea b c\n")


@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full", "2> >(exit)"])
def test_a_closed_stderr_changes_nothing(shell: str) -> None:
    code = (
        "import time; run_command(lambda argv: (time.sleep(0.3), warn('x' * 9999), note('y'), say('done'), 0)[4], [])"
    )
    done = run(code, shell)
    assert (done.returncode, done.stdout) == (0, b"done\n")


@pytest.mark.parametrize("shell", [">&-", "> >(exit)"])
def test_a_closed_stdout_changes_nothing(shell: str) -> None:
    code = "import time; run_command(lambda argv: (time.sleep(0.3), say('x'), note('done'), 3)[3], [])"
    done = run(code, shell)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"done\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_stdout_is_an_error(unbuffered: str) -> None:
    code = "run_command(lambda argv: (say('x'), 0)[1], [])"
    done = run(code, ">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (1, b"error: [Errno 28] No space left on device\n")


def test_an_empty_path_is_not_the_working_directory() -> None:
    parser = Parser(prog="p")
    parser.add_argument("--dir", type=Path)
    assert parser.parse_args(["--dir", "a"]).dir == Path("a")
    with pytest.raises(InputError, match=r"argument --dir: must be a path \(got ''\)"):
        parser.parse_args(["--dir", ""])


@pytest.mark.parametrize("word", ["1_0", " 5", "٣", "1.0", ""])
def test_an_integer_has_digits_alone(word: str) -> None:
    parser = Parser(prog="p")
    parser.add_argument("--port", type=int)
    assert parser.parse_args(["--port", "-05"]).port == -5
    with pytest.raises(InputError, match=f"argument --port: invalid int value: '{word}'"):
        parser.parse_args(["--port", word])


def test_a_terminated_command_ends_as_an_interrupted_one() -> None:
    code = "import os, signal; run_command(lambda argv: os.kill(os.getpid(), signal.SIGTERM), [])"
    done = run(code)
    assert (done.returncode, done.stderr) == (130, b"interrupted\n")


def test_a_folder_that_appears_at_once_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with folder_atomically(tmp_path / "new"):
        pass
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_terminal_that_was_closed_changes_nothing(tmp_path: Path) -> None:
    code = f"""
import os, pathlib, time
def main(argv):
    pathlib.Path("{tmp_path}/ready").touch()
    while os.path.exists("{tmp_path}/ready"):
        time.sleep(0.01)
    say("x"), say("y"), note("z")
    pathlib.Path("{tmp_path}/said").touch()
    return 3
run_command(main, [])
"""
    controller, terminal = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM + code], cwd=ROOT, stdout=terminal, stderr=terminal, start_new_session=True
    ) as process:
        os.close(terminal)
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        os.close(controller)
        (tmp_path / "ready").unlink()
        assert process.wait(60) == 3
    assert (tmp_path / "said").exists()


@pytest.mark.slow
def test_a_run_whose_output_nobody_reads_completes(tmp_path: Path) -> None:
    run_dir = tmp_path / "Zürich"
    words = " ".join(
        [*SMALL, "--train.n-epochs=2", "--train.kernel=keras", "--train.threads=3", f"--run-dir={run_dir}"]
    )
    command = f"{sys.executable} -m tests.toy {words} 2>&- | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, timeout=LONG_SECONDS)
    assert done.returncode == 0, done
    assert '"status": "completed"' in (run_dir / "summary.json").read_text()
    assert '"threads": 3,' in (run_dir / "environment.json").read_text()  # of TensorFlow, where Keras computes the LSTM


def test_unfinished_folders_of_the_day_before_are_removed(tmp_path: Path) -> None:
    names = ((".new-a-12345678.part", 2), (".new-b-12345678.part", 0), (".new-site-20240101", 9), ("old", 9))
    for name, age in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
        os.utime(tmp_path / name, (time.time() - age * 86_400,) * 2)
    with folder_atomically(tmp_path / "run") as new:
        (new / "file").write_text("x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".new-b-12345678.part",
        ".new-site-20240101",
        "old",
        "run",
    ]


@pytest.mark.parametrize(("code", "status"), [("3", 3), ("None", 0)])
def test_the_status_of_a_command_that_exits(code: str, status: int) -> None:
    done = run(f"import sys; run_command(lambda argv: sys.exit({code}), [])")
    assert (done.returncode, done.stderr) == (status, b"")


def test_a_folder_with_hidden_files_alone_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".lock").touch()
    require_folder(tmp_path, ("mark",), "search")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"holds other files and no search \(give a new --dir\)"):
        require_folder(tmp_path, ("mark",), "search")
    require_folder(tmp_path, ("mark", "file"), "search")

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)  # root may read all
    with pytest.raises(InputError, match=r"cannot read .*: Permission denied \(give a writable --dir\)"):
        require_folder(tmp_path, ("mark",), "search")
