"""Pools of threads for the local server's work, each with a limit of jobs and of time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from .http_limits import RequestError

T = TypeVar("T")


class Pool:
    """Threads that compute answers, so that the event loop stays free for other clients.

    Args:
        name: what the jobs do, for the threads' names and for errors.
        threads: number of jobs at a time.
        waiting: number of further jobs that may wait.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self.name = name
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._places = threading.BoundedSemaphore(threads + waiting)

    async def run(self, seconds: float, function: Callable[..., T], *args: Any) -> T:
        """Return what ``function`` returns, called in a thread.

        A job that takes too long keeps its thread until it ends: a thread cannot be stopped.

        Raises:
            RequestError: 503, too many jobs wait; 504, no result within ``seconds``.
        """
        if not self._places.acquire(blocking=False):
            raise RequestError(503, f"too many requests wait for {self.name} (try again later)")
        future = self._executor.submit(function, *args)
        future.add_done_callback(lambda _: self._places.release())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except TimeoutError:
            raise RequestError(504, f"no answer within {seconds:g} s") from None
