"""A fixture for comparisons whose pictures nobody looks at."""

from __future__ import annotations

import pytest

from seqmnist_tf.compare import comparing


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no pictures of the comparison: they take as long as a small training."""
    monkeypatch.setattr(comparing, "draw_comparison", lambda *_: {})
