"""Limits of the local server and of the client: sizes, rows, times, connections. Those of pictures are in ``picture``.

``export/config/batching.config`` gives TF Serving the same number of rows; a test compares the two.
"""

from __future__ import annotations

from ..config import NUM_TIMESTEPS

# Of a request: bytes and rows
MAX_BODY_BYTES = 8 * 2**20
# A client that is still sending does not read the answer: of a body that is too large, this much is read and ignored.
MAX_IGNORED_BYTES = 8 * MAX_BODY_BYTES
MAX_REQUEST_ROWS = 256
MAX_UNROLLED_PIXELS = 32 * NUM_TIMESTEPS  # of all rows, if the answer has probabilities after each pixel

# Of the local server
MAX_CONNECTIONS = 512
DECODING_THREADS, MAX_WAITING_PICTURES = 2, 16
HEAD_SECONDS, BODY_SECONDS, ANSWER_SECONDS, DECODING_SECONDS = 10.0, 20.0, 60.0, 10.0
READER_SECONDS = 30.0  # within which a client must have read what was sent to it
SHUTDOWN_SECONDS = 10

# Of the client
CLIENT_ROWS = 64  # in one request; the size of TF Serving's batches
MAX_ANSWER_BYTES = 4 * 2**20
CONNECT_SECONDS, CONNECTION_TRIES = 3.0, 4
BACKOFF_SECONDS = 0.2  # before the second try; doubles before each further try
SILENT_SECONDS = 2.0  # after which the client says whom it waits for


class RequestError(Exception):
    """A request that cannot be answered: its HTTP status, and a text that says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
