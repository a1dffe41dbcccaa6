"""What a client may not do to the local server: send too much, too slowly, or have a browser load from elsewhere."""

from __future__ import annotations

import asyncio

import h11
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from .rest import RequestError

MAX_BODY = 8 * 2**20  # bytes
MAX_DRAINED = 8 * MAX_BODY  # of a body that is too large, so that its sender gets to read the answer
HEAD_SECONDS, BODY_SECONDS = 10.0, 20.0
HEADERS = [
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data: blob:"),
    (b"x-content-type-options", b"nosniff"),
]


class WithHeaders:
    """Adds what every answer says to browsers: load nothing from elsewhere, and take types as they are given."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class Protocol(H11Protocol):
    """uvicorn's HTTP protocol, which has no time limit of its own for the head of a request."""

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
        """Run the timer as long as a head is awaited that has not come yet, whole."""
        if self.conn.their_state is h11.IDLE and self.head_timer is None:
            self.head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)
        elif self.conn.their_state is not h11.IDLE and self.head_timer:
            self.head_timer.cancel()
            self.head_timer = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.send_400_response(f"no whole request head within {HEAD_SECONDS:g} s")


async def read_body(request: Request) -> bytes:
    """Return the body of a request, which may neither be too large nor take too long."""
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= MAX_BODY:
                    chunks.append(chunk)
                elif size > MAX_DRAINED:
                    break
    except TimeoutError:
        raise RequestError(408, f"no whole body within {BODY_SECONDS:g} s") from None
    except ClientDisconnect:
        raise RequestError(400, "the client went away") from None
    if size > MAX_BODY:
        raise RequestError(413, f"a body may have at most {MAX_BODY:,} bytes")
    return b"".join(chunks)
