"""Several calls of a graph at once, each in a thread of its own.

A decoder's parts are many small operators. Shared among threads one by one they take hardly less
time; two calls side by side, each on half of the prompts or masks, take two thirds.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

LEAST_AT_ONCE = 4  # fewer prompts or masks are not worth a call of their own

T = TypeVar("T")


class ParallelCalls:
    """Threads that start with the first calls, and end with `close`.

    Attributes:
        threads: how many calls there are at once.
    """

    def __init__(self, threads: int = 1) -> None:
        """Make no more threads than needed: with one, calls are made by the caller."""
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "aopsam_decoder") if threads > 1 else None

    def in_chunks(self, call: Callable[[slice], T], count: int, largest: int) -> list[T]:
        """Call a function with slices of `range(count)`; return its results in order.

        Slices are at most `largest` long, and shorter where every thread has one then. The first
        error of a call is raised once all have ended.
        """
        size = min(largest, max(LEAST_AT_ONCE, -(-count // self.threads)))
        parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        if self._pool is None or len(parts) == 1:
            return [call(part) for part in parts]
        futures = [self._pool.submit(call, part) for part in parts]
        for future in futures:
            future.exception()  # waits
        return [future.result() for future in futures]

    def close(self) -> None:
        """End the threads; later calls are made by the caller."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()
