"""What the local server refuses: other sites' pages, bodies that are too large or too slow, and too much work at once.

A page of any site can post to a server on this computer; it reveals itself by the header Origin. A site whose name
resolves to this computer ("DNS rebinding") reveals itself by the header Host.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.datastructures import Headers
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ..config import NUM_TIMESTEPS
from ..system import printable

# Of a request. export/config/batching.config gives TF Serving the same number of rows; a test compares the two.
MAX_BODY_BYTES = 8 * 2**20
MAX_REQUEST_ROWS = 256
MAX_UNROLLED_PIXELS = 32 * NUM_TIMESTEPS  # of all rows, if the answer has probabilities after each pixel

ADDRESS = re.compile(r"([\d.]+|\[[\da-f:.]+\])(:\d+)?", re.ASCII | re.IGNORECASE)  # a header Host of numbers, no name
FORM = "application/x-www-form-urlencoded"  # which curl -d sends

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Limits of the local server: numbers at a time, and seconds."""

    connections: int = 512
    head_seconds: float = 10.0
    body_seconds: float = 20.0
    answer_seconds: float = 60.0
    reader_seconds: float = 30.0  # within which a client must have read what was sent to it
    decoding_threads: int = 2
    waiting_pictures: int = 16
    decoding_seconds: float = 10.0


class RequestError(Exception):
    """A request that cannot be answered: its HTTP status, and a text that says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class HostCheck(TrustedHostMiddleware):
    """Starlette's check of the header Host, for localhost, ``--host`` and the address that this stands for.

    Where one of them is 0.0.0.0 or ::, any address of numbers and the computer's name are allowed.
    """

    def __init__(self, app: ASGIApp, listening_on: tuple[str, ...]) -> None:
        self.any_address = not {"0.0.0.0", "::"}.isdisjoint(listening_on)
        names = {"localhost", "127.0.0.1", "::1", *listening_on}
        if self.any_address:
            names |= {socket.gethostname(), socket.getfqdn()}
        hosts = [f"[{name}]" if ":" in name else name for name in names]
        super().__init__(app, allowed_hosts=hosts, www_redirect=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_address = scope["type"] == "http" and ADDRESS.fullmatch(Headers(scope=scope).get("host", ""))
        await (self.app if self.any_address and is_address else super().__call__)(scope, receive, send)


def require_own_page(request: Request) -> None:
    """Refuse, with 403, a request that a page of another site has sent."""
    host, origin = request.headers["host"], request.headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
        raise RequestError(403, f"pages of other sites may not call this server (got Origin {printable(origin, 80)!r})")
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise RequestError(403, "pages of other sites may not call this server (got Sec-Fetch-Site of another site)")


async def read_body(request: Request, seconds: float, *types: str) -> bytes:
    """Return the body of a request of this server's own page or of a program.

    Starlette's own limit of size answers without this text, and not in JSON. What comes after the limit is thrown away
    by uvicorn: a client that is still sending does not read the answer. The types that are allowed may end in ``/*``.
    No type at all is allowed too, and without an Origin, which a browser always sends, curl's default.

    Raises:
        RequestError: 403, of another site's page; 408, the body takes too long; 413, it is too large; 415, it has
            another type, or is compressed; 400, the client closes the connection.
    """
    require_own_page(request)
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    known = {given, f"{given.partition('/')[0]}/*"} & set(types)
    from_curl = given == FORM and "origin" not in request.headers
    if given and not known and not from_curl:
        raise RequestError(415, f"Content-Type must be {' or '.join(types)} (got {printable(given, 80)!r})")
    if (encoding := request.headers.get("content-encoding", "identity").lower()) != "identity":
        raise RequestError(415, f"Content-Encoding must be identity (got {printable(encoding, 80)!r})")
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise RequestError(413, f"a request body may have at most {MAX_BODY_BYTES:,} bytes")
    except TimeoutError:
        raise RequestError(408, f"the request body was not complete within {seconds:g} s") from None
    except ClientDisconnect:
        raise RequestError(400, "the client closed the connection") from None
    return bytes(body)


class Pool:
    """Threads that compute answers, so that the event loop stays free for other clients.

    So many jobs run at a time, so many more may wait, and each has so many seconds; ``work`` is what errors call them.
    """

    def __init__(self, work: str, threads: int, waiting: int, seconds: float) -> None:
        self.work, self.waiting, self.seconds = work, waiting, seconds
        self.places = CapacityLimiter(threads)

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Return what ``function`` returns, called in a thread.

        A job that takes too long keeps its place until it ends: a thread cannot be stopped.

        Raises:
            RequestError: 503, too many jobs wait; 504, no result in time.
        """
        if self.places.statistics().tasks_waiting >= self.waiting:
            raise RequestError(503, f"too many requests wait for {self.work} (try again later)")
        place = object()
        try:
            async with asyncio.timeout(self.seconds):
                await self.places.acquire_on_behalf_of(place)
                # With ``places`` as its limiter, run_sync would free the place of a job that nobody waits for any more.
                job = asyncio.ensure_future(to_thread.run_sync(function, *args, limiter=CapacityLimiter(1)))
                job.add_done_callback(lambda _: self.places.release_on_behalf_of(place))
                return await asyncio.shield(job)
        except TimeoutError:
            raise RequestError(504, f"no answer within {self.seconds:g} s") from None
