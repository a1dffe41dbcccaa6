"""The local server's socket and its HTTP server."""

from __future__ import annotations

import os
import socket

import uvicorn
from starlette.types import ASGIApp

from ..system import InputError

SECURITY_HEADERS = [
    ("content-security-policy", "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
]


def create_server(app: ASGIApp) -> uvicorn.Server:
    """Return an HTTP server for an application; its ``run`` takes the sockets to listen on."""
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, headers=SECURITY_HEADERS, timeout_graceful_shutdown=10
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket on a host's name or address; port 0 is any free port.

    Raises:
        InputError: the host is unknown, or the port is in use or forbidden.
    """
    listener = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With the protocol named, asyncio switches Nagle's algorithm off, which would delay each answer by 40 ms.
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
        return listener
    except (OSError, UnicodeError) as error:
        if listener:
            listener.close()
        raise InputError(f"cannot listen on {host}:{port}: {error} (give another --host or --port)") from None
