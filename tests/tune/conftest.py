"""Searches whose trials are made up."""

from __future__ import annotations

import pytest

from tests.engine.nodes import environment as environment
from tests.tune.toy_search import use_toys


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make up trials in place of training them."""
    use_toys(monkeypatch.setattr)
