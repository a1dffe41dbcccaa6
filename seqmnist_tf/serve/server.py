"""The local server's socket and its HTTP server, uvicorn."""

from __future__ import annotations

import os
import signal
import socket
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from ..system import InputError
from .http_limits import MAX_CONNECTIONS, SHUTDOWN_SECONDS
from .http_protocol import TimedProtocol


class LocalServer(uvicorn.Server):
    """A uvicorn server that remembers an interruption.

    uvicorn raises the signal again when it has shut down. asyncio turns it into a KeyboardInterrupt only if its main
    task has not ended by then.

    Attributes:
        interrupted: whether it was ended by Ctrl-C.
    """

    interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.interrupted |= sig == signal.SIGINT
        super().handle_exit(sig, frame)


def create_server(app: ASGIApp) -> LocalServer:
    """Return an HTTP server for an application; its ``run`` takes the sockets to listen on."""
    config = uvicorn.Config(
        app,
        http=TimedProtocol,
        ws="none",
        log_config=None,  # Python's own logging prints warnings and errors
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS + 1,  # uvicorn refuses the connection of this number
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return LocalServer(config)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Args:
        host: name or address to listen on.
        port: 0 to 65535; 0 is any free port.

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
            listener.listen(MAX_CONNECTIONS)
        except BaseException:
            listener.close()
            raise
        return listener
    except (OSError, UnicodeError) as error:  # UnicodeError: a label of the name is empty or too long
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot listen on {host}:{port}: {reason} (give another --host or --port)") from None
