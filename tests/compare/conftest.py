"""A fixture for comparisons whose pictures nobody looks at."""

from __future__ import annotations

import pytest

from seqmnist_tf.compare import comparing


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no pictures, which takes a second."""
    monkeypatch.setattr(comparing, "draw_comparison", lambda *_: {})
