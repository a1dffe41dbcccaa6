"""A fixture for comparisons and runs whose pictures nobody looks at."""

from __future__ import annotations

import pytest

from seqmnist_tf.compare import comparing
from seqmnist_tf.train import training


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no pictures: they take as long as a small training."""
    monkeypatch.setattr(comparing, "draw_comparison", lambda *_: {})
    monkeypatch.setattr(training, "write_overview", lambda *_: None)
