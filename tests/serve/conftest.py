"""Fixtures: a local server of toy models."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from seqmnist_tf.serve import exported_versions
from seqmnist_tf.serve.app import create_app
from seqmnist_tf.serve.models import ServedModels
from seqmnist_tf.serve.server import create_server, listen


@pytest.fixture
def server(toy_versions: Path) -> Iterator[str]:
    """Return the address of a local server of the toy versions, in a thread of this process."""
    listener = listen("127.0.0.1", 0)
    running = create_server(create_app(ServedModels(exported_versions(toy_versions))))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    running.should_exit = True
    thread.join()
