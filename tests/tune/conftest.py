"""Searches whose trials are made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tune.toy_search import SPACE, use_toys


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make up trials in place of training them."""
    monkeypatch.setenv("WANDB_RUN_GROUP", "")  # so that it is as before after the test
    monkeypatch.delenv("WANDB_RUN_GROUP")
    use_toys(monkeypatch.setattr)


@pytest.fixture
def toy_space(tmp_path: Path) -> str:
    """Return the file of the toy searches' space."""
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    return str(tmp_path / "space.json")
