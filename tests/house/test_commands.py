"""The list of commands, and the one entry that starts them."""

from __future__ import annotations

import pytest

from seqmnist_tf.__main__ import COMMANDS, main
from tests.conftest import Command
from tests.house.test_packaging import COMMANDS as MODULES


def test_every_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(COMMANDS) == MODULES
    for argv in ([], ["--help"]):
        assert main(argv) == 0
        out = capsys.readouterr().out
        assert all(f"\n  {name} " in out for name in COMMANDS)


def test_a_command_runs_with_its_arguments(command: Command) -> None:
    assert '"hidden_size": 128' in command(main, "train", "--print-config").out
    result = command(main, "evaluate", "nowhere")
    assert (result.status, result.err.startswith("error: no run at nowhere")) == (2, True)
    result = command(main, "tain")
    assert result.status == 2 and result.err.startswith("error: unknown command 'tain' (allowed: data, train, ")
