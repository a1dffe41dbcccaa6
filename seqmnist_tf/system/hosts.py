"""Whether a host answers, decided within seconds."""

from __future__ import annotations

import socket
import threading
import urllib.request
from urllib.parse import urlsplit

PROBE_SECONDS = 4.0


def host_answers(url: str) -> bool:
    """Return whether the host of ``url`` accepts a connection within PROBE_SECONDS, name look-up included.

    Where the environment sets a proxy, the proxy's host is asked instead. An address whose port is no number does not
    answer.
    """
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        port = parts.port or {"https": 443}.get(parts.scheme, 80)
    except ValueError:  # a password with a # or a / in a proxy's address cuts it off there
        return False
    done = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((parts.hostname or "", port), PROBE_SECONDS).close()
            done.set()
        except (OSError, UnicodeError):  # a host with an empty label, as a..b, cannot be encoded
            pass

    # In a thread, because a name look-up has no time limit of its own.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return done.is_set()
