"""All limits of the local server: sizes, times, connections, and the files that browsers may load."""

from __future__ import annotations

import asyncio

import h11
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..config import NUM_TIMESTEPS

MAX_CONNECTIONS = 512
MAX_BODY_BYTES = 8 * 2**20
# A client that is still sending does not read the answer: of a body that is too large, this much is read and ignored.
MAX_IGNORED_BYTES = 8 * MAX_BODY_BYTES
MAX_REQUEST_ROWS = 256
MAX_UNROLLED_PIXELS = 32 * NUM_TIMESTEPS  # of all rows, if the answer has probabilities after each pixel
HEAD_SECONDS, BODY_SECONDS, ANSWER_SECONDS = 10.0, 20.0, 60.0
SHUTDOWN_SECONDS = 10
SECURITY_HEADERS = [
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data: blob:"),
    (b"x-content-type-options", b"nosniff"),
]


class RequestError(Exception):
    """A request that cannot be answered: its HTTP status, and a text that says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class WithSecurityHeaders:
    """Middleware: every answer forbids browsers to load files from other servers and to guess content types."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SECURITY_HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class TimedProtocol(H11Protocol):
    """uvicorn's HTTP protocol with a time limit for the head of a request, which uvicorn lacks."""

    head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.head_timer:
            self.head_timer.cancel()

    def _watch_head(self) -> None:
        """Start the timer when the server begins to wait for a head; stop it when the head is complete."""
        if self.conn.their_state is h11.IDLE and self.head_timer is None:
            self.head_timer = self.loop.call_later(HEAD_SECONDS, self._refuse_head)
        elif self.conn.their_state is not h11.IDLE and self.head_timer:
            self.head_timer.cancel()
            self.head_timer = None

    def _refuse_head(self) -> None:
        if not self.transport.is_closing():
            self.send_400_response(f"the request head was not complete within {HEAD_SECONDS:g} s")


async def read_body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        RequestError: 408, the body takes too long; 413, it is too large; 400, the client closes the connection.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= MAX_BODY_BYTES:
                    chunks.append(chunk)
                elif size > MAX_IGNORED_BYTES:
                    break
    except TimeoutError:
        raise RequestError(408, f"the request body was not complete within {BODY_SECONDS:g} s") from None
    except ClientDisconnect:
        raise RequestError(400, "the client closed the connection") from None
    if size > MAX_BODY_BYTES:
        raise RequestError(413, f"a request body may have at most {MAX_BODY_BYTES:,} bytes")
    return b"".join(chunks)
