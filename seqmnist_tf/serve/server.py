"""The local server's socket and its HTTP server: uvicorn, which cuts off slow clients here."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..system import InputError
from .guard import Limits

LOOKS = 20  # at a connection, within the shortest of its times
SHUTDOWN_SECONDS = 10
SECURITY_HEADERS = [
    ("content-security-policy", "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
]


class TimedProtocol(H11Protocol):
    """uvicorn's HTTP protocol with the time limits that it lacks.

    They are for the head of a request, for a body that goes on after its answer, and for reading answers.
    """

    def __init__(self, limits: Limits, **options: Any) -> None:
        super().__init__(**options)
        self.limits = limits
        self.waiting_since: dict[object, float] = {}
        self.next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.next_look:
            self.next_look.cancel()

    def _look(self) -> None:
        """See what the client keeps the server waiting for, end what takes too long, and look again later."""
        limits, now = self.limits, self.loop.time()
        # Between two requests uvicorn itself closes an idle connection; a head has begun when there are bytes of it.
        has_begun = self.cycle is None or bool(self.conn.trailing_data[0])
        is_answered = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        waits = [
            (("head", self.cycle), self.conn.their_state is h11.IDLE and has_begun, limits.head_seconds),
            (("rest of a body", self.cycle), is_answered, limits.body_seconds),  # which no application reads any more
            # An answer that is complete waits in the transport too, so that uvicorn's own events do not tell.
            (("reader", None), self.transport.get_write_buffer_size() > 0, limits.reader_seconds),
        ]
        self.waiting_since = {key: self.waiting_since.get(key, now) for key, is_waiting, _ in waits if is_waiting}
        for key, _, seconds in waits:
            if now - self.waiting_since.get(key, now) > seconds:
                self._end(key[0])
        shortest = min(seconds for _, _, seconds in waits)
        self.next_look = self.loop.call_later(shortest / LOOKS, self._look)

    def _end(self, wait: str) -> None:
        if wait == "reader":
            self.transport.abort()
        elif wait == "head" and not self.transport.is_closing():
            self.send_400_response(f"the request head was not complete within {self.limits.head_seconds:g} s")
        else:
            self.transport.close()


def create_server(app: ASGIApp, limits: Limits) -> uvicorn.Server:
    """Return an HTTP server for an application; its ``run`` takes the sockets to listen on."""
    config = uvicorn.Config(
        app,
        http=functools.partial(TimedProtocol, limits),  # type: ignore[arg-type]  # any function that makes a protocol
        ws="none",
        log_config=None,  # Python's own logging prints warnings and errors
        log_level="warning",
        access_log=False,
        server_header=False,
        headers=SECURITY_HEADERS,
        limit_concurrency=limits.connections + 1,  # uvicorn refuses the connection of this number
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket on a host's name or address; port 0 is any free port.

    Raises:
        InputError: the host is unknown, or the port is in use or forbidden.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With the protocol named, asyncio switches Nagle's algorithm off, which would delay each answer by 40 ms.
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(Limits.connections)
        except BaseException:
            listener.close()
            raise
        return listener
    except (OSError, UnicodeError) as error:  # UnicodeError: a label of the name is empty or too long
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot listen on {host}:{port}: {reason} (give another --host or --port)") from None
