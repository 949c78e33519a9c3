"""An iteration for event loops, over what a thread fetches step by step."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final, TypeAlias, TypeVar

Item_co = TypeVar("Item_co", covariant=True)

Run: TypeAlias = Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]]
"""How a function is called where it may wait."""

_FIRST_STEP: Final = 16
_LONGEST_STEP: Final = 256


class Scan(AsyncIterator[Item_co]):
    """An iteration over one consistent view of the file, which ends with it: at its last item, by ``aclose``, or when
    nobody has it any more.
    """

    def __init__(self, items: Iterator[Item_co], run: Run) -> None:
        self._items = items
        self._run = run
        self._fetching = threading.Lock()
        self._step = _FIRST_STEP
        self._fetched: deque[Item_co] = deque()
        self._last: Exception | None = None

    async def __anext__(self) -> Item_co:
        while not self._fetched:
            if self._last is not None:
                error, self._last = self._last, StopAsyncIteration()
                raise error
            await self._run(self._fetch)
        return self._fetched.popleft()

    def _fetch(self) -> None:
        """Take the next few, and note what comes after them, where it is an error or the end."""
        # Where a step was cancelled, its thread may still be at it when the next one begins.
        with self._fetching:
            if self._fetched or self._last is not None:
                return
            items: list[Item_co] = []
            last: Exception | None = None
            try:
                items.extend(itertools.islice(self._items, self._step))
                if len(items) < self._step:
                    last = StopAsyncIteration()
            except Exception as error:  # raised in its turn, after the items before it
                last = error
            self._step = min(2 * self._step, _LONGEST_STEP)
            self._last = last
            self._fetched.extend(items)

    async def aclose(self) -> None:
        """End the iteration."""
        self._items = iter(())
        self._fetched.clear()
        self._last = StopAsyncIteration()
