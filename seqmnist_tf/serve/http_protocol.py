"""The local server's HTTP: slow clients are cut off, and bodies have a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import h11
from starlette.requests import ClientDisconnect, Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..system import printable
from . import http_limits
from .http_limits import MAX_BODY_BYTES, MAX_IGNORED_BYTES, RequestError

LOOKS = 20  # at a reader, within its time


class TimedProtocol(H11Protocol):
    """uvicorn's HTTP protocol with the time limits that it lacks.

    They are for the head of a request, for a body that goes on after its answer, and for reading answers.
    """

    head_timer: asyncio.TimerHandle | None = None
    reader_timer: asyncio.TimerHandle | None = None
    rest_timer: asyncio.TimerHandle | None = None
    unread_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()
        self._watch_reader()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()
        self._watch_rest()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self.head_timer, self.reader_timer, self.rest_timer):
            if timer:
                timer.cancel()

    def _watch_head(self) -> None:
        """Time the wait for a head, from its beginning until the head is complete."""
        waiting = self.conn.their_state is h11.IDLE
        self.head_timer = self._timer(self.head_timer, waiting, http_limits.HEAD_SECONDS, self._refuse_head)

    def _refuse_head(self) -> None:
        if not self.transport.is_closing():
            self.send_400_response(f"the request head was not complete within {http_limits.HEAD_SECONDS:g} s")

    def _watch_rest(self) -> None:
        """Bound the rest of a body whose answer was sent before its end: no application reads it any more."""
        answered = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        self.rest_timer = self._timer(self.rest_timer, answered, http_limits.BODY_SECONDS, self.transport.close)

    def _timer(
        self, timer: asyncio.TimerHandle | None, waiting: bool, seconds: float, end: Callable[[], None]
    ) -> asyncio.TimerHandle | None:
        """Return a timer that runs while ``waiting``: the running one, a new one, or none."""
        if waiting:
            return timer or self.loop.call_later(seconds, end)
        if timer:
            timer.cancel()
        return None

    def _watch_reader(self) -> None:
        """Look again and again at what the client has not read; after READER_SECONDS, drop it and the connection.

        An answer that is complete waits in the transport too, so that uvicorn's own events do not tell.
        """
        now = self.loop.time()
        if not self.transport.get_write_buffer_size():
            self.unread_since = None
        elif self.unread_since is None:
            self.unread_since = now
        elif now - self.unread_since > http_limits.READER_SECONDS:
            self.transport.abort()
            return
        self.reader_timer = self.loop.call_later(http_limits.READER_SECONDS / LOOKS, self._watch_reader)


async def read_body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        RequestError: 408, the body takes too long; 413, it is too large; 415, it is compressed; 400, the client closes
            the connection.
    """
    if (encoding := request.headers.get("content-encoding", "identity").lower()) != "identity":
        raise RequestError(415, f"Content-Encoding must be identity (got {printable(encoding, 80)!r})")
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(http_limits.BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= MAX_BODY_BYTES:
                    chunks.append(chunk)
                elif size > MAX_IGNORED_BYTES:
                    break
    except TimeoutError:
        raise RequestError(408, f"the request body was not complete within {http_limits.BODY_SECONDS:g} s") from None
    except ClientDisconnect:
        raise RequestError(400, "the client closed the connection") from None
    if size > MAX_BODY_BYTES:
        raise RequestError(413, f"a request body may have at most {MAX_BODY_BYTES:,} bytes")
    return b"".join(chunks)
