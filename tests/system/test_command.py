"""Commands: their words, the status of each end, and the files and folders that they write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqmnist_tf.system import InputError, Parser, folder_atomically, require_folder, run_command, write_atomically
from tests.toy import LONG_SECONDS, ROOT


def run(code: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-c", f"from seqmnist_tf.system import run_command, say, note\n{code}"]
    variables = {**os.environ, **environment}
    return subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, timeout=LONG_SECONDS)


def test_characters_that_a_terminal_lacks_are_escaped() -> None:
    code = "run_command(lambda argv: (say('Zürich 数'), note('é'), 3)[2], [])"
    done = run(code, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"Z\\xfcrich \\u6570\n", b"\\xe9\n")


def test_a_terminated_command_ends_as_an_interrupted_one() -> None:
    done = run("import os, signal; run_command(lambda argv: os.kill(os.getpid(), signal.SIGTERM), [])")
    assert (done.returncode, done.stderr) == (130, b"interrupted\n")


def test_dashes_and_underscores_are_the_same_in_names() -> None:
    parser = Parser(prog="p")
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--a.b_c")
    args = parser.parse_args(["--run_dir", "x_y", "--a.b-c", "-1"])
    assert (args.run_dir, vars(args)["a.b_c"]) == (Path("x_y"), "-1")
    with pytest.raises(InputError, match=r"unrecognized arguments: --run.*p --help"):
        parser.parse_args(["--run", "x"])


def test_a_traceback_is_printed_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(argv: list[str]) -> int:
        raise InputError("no\nsuch thing")

    for words in ([], ["--traceback"]):
        with pytest.raises(SystemExit) as ended:
            run_command(fail, words)
        err = capsys.readouterr().err
        assert ended.value.code == 2 and err.endswith("error: no such thing\n")
        assert ("Traceback" in err) == bool(words)


def test_a_file_or_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with folder_atomically(tmp_path / "new") as new:
        (new / "file").touch()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode
    with pytest.raises(KeyError), folder_atomically(tmp_path / "other") as new:
        raise KeyError
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "file", 3)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "plain"]


def test_a_folder_with_hidden_files_alone_can_be_used(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    require_folder(tmp_path, ("mark",), "search")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--dir"):
        require_folder(tmp_path, ("mark",), "search")
    require_folder(tmp_path, ("mark", "file"), "search")
