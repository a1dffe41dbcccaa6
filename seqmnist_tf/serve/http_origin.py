"""Which requests the local server accepts: only those of this computer's own pages and programs.

A page of any site can post to a server on this computer; it reveals itself by the header Origin. A site whose name
resolves to this computer ("DNS rebinding") reveals itself by the header Host.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..system import first_line, printable
from .http_limits import RequestError

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
ANY_ADDRESS = frozenset({"0.0.0.0", "::"})
SECURITY_HEADERS = [
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
]
FORM = "application/x-www-form-urlencoded"  # which curl -d sends


class HostCheck:
    """The hosts that a request may name.

    Args:
        listening_on: ``--host``, and the address that it stands for. Where one is 0.0.0.0 or ::, any address of numbers
            and the computer's name are allowed.
    """

    def __init__(self, *listening_on: str) -> None:
        self.names = LOCAL_HOSTS | {name.lower() for name in listening_on}
        self.any_address = not ANY_ADDRESS.isdisjoint(listening_on)
        if self.any_address:
            self.names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def __call__(self, host: str) -> bool:
        """Return whether a header Host, ``name``, ``name:port`` or ``[address]:port``, is allowed."""
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname or "", parts.port
        except ValueError:
            return False
        if parts.netloc != host or "@" in host:
            return False
        return name in self.names or (self.any_address and _is_address(name))


class GuardedApp:
    """Middleware: refuses other hosts and other sites' pages, and forbids browsers to load foreign files."""

    def __init__(self, app: ASGIApp, host_check: HostCheck) -> None:
        self.app = app
        self.host_check = host_check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        has_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                message["headers"] = [*message["headers"], *SECURITY_HEADERS]
            await send(message)

        if problem := self._problem(scope["method"], Headers(scope=scope)):
            # Its body is not read, so that the connection cannot carry another request.
            refusal = JSONResponse({"error": problem}, 403, {"connection": "close"})
            await refusal(scope, receive, send_with_headers)
            return
        try:
            await self.app(scope, receive, send_with_headers)
        except Exception as error:  # of many classes; Starlette's own answer would be without the headers
            if not has_begun:
                await JSONResponse({"error": first_line(error)}, 500)(scope, receive, send_with_headers)
            raise

    def _problem(self, method: str, headers: Headers) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self.host_check(host):
            return f"Host must be localhost, 127.0.0.1, [::1] or the server's --host (got {printable(host, 80)!r})"
        if method in ("GET", "HEAD"):
            return None
        if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
            return f"pages of other sites may not call this server (got Origin {printable(origin, 80)!r})"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return "pages of other sites may not call this server (got Sec-Fetch-Site of another site)"
        return None


def require_content_type(request: Request, *allowed: str) -> None:
    """Refuse a body of another type than the allowed ones, which may end in ``/*``.

    No type at all is allowed, and without an Origin, which a browser always sends, curl's default.

    Raises:
        RequestError: 415.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    known = {given, f"{given.partition('/')[0]}/*"} & set(allowed)
    from_curl = given == FORM and "origin" not in request.headers
    if given and not known and not from_curl:
        rule = f"Content-Type must be {' or '.join(allowed)}"
        raise RequestError(415, f"{rule} (got {printable(given, 80)!r})")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
