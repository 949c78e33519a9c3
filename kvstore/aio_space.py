"""What an asynchronous face of a store can do, whatever it stands for: stores, namespaces, transactions and snapshots.

No operation is done here. Each is a method of the space that the face stands for, and a face says where that runs
(``_read``, ``_write``).
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, overload

from kvstore.aio_threads import Threads
from kvstore.keys import Key
from kvstore.missing import MISSING
from kvstore.reading import ReadableSpace
from kvstore.writing import Items, WritableSpace

R = TypeVar("R")
T = TypeVar("T")
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


class Readable:
    """The reading half. Every method is as that of the same name of ``kvstore.Store``, and a coroutine."""

    _space: ReadableSpace

    def __init__(self, space: ReadableSpace, threads: Threads) -> None:
        self._space = space
        self._threads = threads

    async def _run(self, work: Callable[[], R]) -> R:
        """Have it done by a thread, which may wait."""
        return await self._threads.run(work)

    async def _read(self, look: Callable[[ReadableSpace], R]) -> R:
        """What ``look`` finds in the space."""
        return await self._run(lambda: look(self._space))

    if TYPE_CHECKING:

        @overload
        async def get(self, key: Key) -> Any: ...
        @overload
        async def get(self, key: Key, default: T) -> Any | T: ...

    async def get(self, key: Key, default: Any = None) -> Any:
        """The value of the key, or ``default``."""
        return await self._read(lambda space: space.get(key, default))

    async def get_many(self, keys: Iterable[Key]) -> dict[Key, Any]:
        """The keys that are there, with their values, in the order asked for; all from one consistent view."""
        wanted = list(keys)
        return await self._read(lambda space: space.get_many(wanted))

    async def contains(self, key: object) -> bool:
        """Whether the key is there: what ``in`` is for a mapping. Not counted as a lookup."""
        return await self._read(lambda space: key in space)

    async def count(self) -> int:
        """How many keys there are: what ``len`` is for a mapping."""
        return await self._read(len)

    async def ttl(self, key: Key) -> float | None:
        """Seconds until the record ends; None for a record without an end. Raises ``KeyError`` where there is none."""
        return await self._read(lambda space: space.ttl(key))

    def scan(
        self,
        *,
        prefix: str | bytes | tuple[Key, ...] | None = None,
        start: Key | None = None,
        stop: Key | None = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Scan[tuple[Key, Any]]:
        """``async for key, value in ...``, in key order, over one consistent view."""
        items = self._space.scan(prefix=prefix, start=start, stop=stop, reverse=reverse, limit=limit)
        return Scan(items, self._run)

    def scan_keys(
        self,
        *,
        prefix: str | bytes | tuple[Key, ...] | None = None,
        start: Key | None = None,
        stop: Key | None = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Scan[Key]:
        """The keys alone; everything else as ``scan``."""
        keys = self._space.scan_keys(prefix=prefix, start=start, stop=stop, reverse=reverse, limit=limit)
        return Scan(keys, self._run)

    def __aiter__(self) -> Scan[Key]:
        return self.scan_keys()


class Writable(Readable):
    """The writing half. A write is durable, or will be with its transaction, when its coroutine returns."""

    _space: WritableSpace

    async def _write(self, change: Callable[[WritableSpace], R]) -> R:
        """Do the change, and give its result."""
        return await self._run(lambda: change(self._space))

    async def set(self, key: Key, value: Any, *, ttl: float | None = None) -> None:
        """Store the value, over whatever is there. ``ttl``: seconds until the record ends; None for never."""
        return await self._write(lambda space: space.set(key, value, ttl=ttl))

    async def add(self, key: Key, value: Any, *, ttl: float | None = None) -> bool:
        """Store the value where the key has none; whether it did."""
        return await self._write(lambda space: space.add(key, value, ttl=ttl))

    async def delete(self, key: Key) -> bool:
        """Remove the key; whether it was there."""
        return await self._write(lambda space: space.delete(key))

    async def pop(self, key: Key, default: Any = MISSING) -> Any:
        """Remove the key and return its value; without one, ``default``, or ``KeyError`` where none is given."""
        return await self._write(lambda space: space.pop(key, default))

    async def popitem(self) -> tuple[Key, Any]:
        """Remove and return the first item in key order. Raises ``KeyError`` where there is none."""
        return await self._write(lambda space: space.popitem())

    async def setdefault(self, key: Key, default: Any = None, *, ttl: float | None = None) -> Any:
        """The value of the key; where it has none, ``default``, stored."""
        return await self._write(lambda space: space.setdefault(key, default, ttl=ttl))

    async def touch(self, key: Key, ttl: float | None) -> bool:
        """Let the record end ``ttl`` seconds from now, or never with None; whether there is one."""
        return await self._write(lambda space: space.touch(key, ttl))

    async def incr(self, key: Key, delta: float = 1, *, default: float = 0) -> Any:
        """Add ``delta`` to the number at the key, atomically; the new number."""
        return await self._write(lambda space: space.incr(key, delta, default=default))

    async def compare_and_set(self, key: Key, expected: Any, value: Any) -> bool:
        """Store ``value`` where the key now has ``expected``; whether it did."""
        return await self._write(lambda space: space.compare_and_set(key, expected, value))

    async def modify(self, key: Key, function: Callable[[Any], Any | Awaitable[Any]], *, default: Any = MISSING) -> Any:
        """Replace the value by ``function(value)``, atomically; the new value. The function may be a coroutine function; it
        is called on the event loop, and again where another write comes between.
        """
        while True:
            before, value = await self._current(key, default)
            made = function(value)
            changed = await self._replace(key, before, await made if inspect.isawaitable(made) else made)
            if changed is not MISSING:
                return changed

    async def _current(self, key: Key, default: Any) -> tuple[bytes | None, Any]:
        return await self._run(lambda: self._space._current(key, default))

    async def _replace(self, key: Key, before: bytes | None, value: Any) -> Any:
        return await self._write(lambda space: space._replace(key, before, value))

    async def get_or_set(
        self, key: Key, factory: Callable[[], Any | Awaitable[Any]], *, ttl: float | None = None
    ) -> Any:
        """The value of the key; where it has none, what the factory makes, stored.

        A coroutine function is awaited; any other factory is called in a thread, as by ``asyncio.to_thread``.
        """
        value = await self.get(key, MISSING)
        return await self._make(key, factory, ttl) if value is MISSING else value

    async def _make(self, key: Key, factory: Callable[[], Any | Awaitable[Any]], ttl: float | None) -> Any:
        made = factory() if inspect.iscoroutinefunction(factory) else await asyncio.to_thread(made_by, factory)
        if inspect.isawaitable(made):
            made = await made
        await self.set(key, made, ttl=ttl)
        return made

    async def set_many(self, items: Items, *, ttl: float | None = None) -> None:
        """Store all the items in one transaction: all of them, or none."""
        return await self._write(lambda space: space.set_many(items, ttl=ttl))

    async def delete_many(self, keys: Iterable[Key]) -> int:
        """Remove the keys in one transaction; how many were there."""
        return await self._write(lambda space: space.delete_many(keys))

    async def clear(self) -> None:
        """Remove every key, in one transaction."""
        return await self._write(lambda space: space.clear())

    async def expire(self) -> int:
        """Purge the records, in all namespaces, whose time is over; how many there were."""
        return await self._run(self._space.expire)


def made_by(factory: Callable[[], Any]) -> Any:
    """What the factory gives, in whatever thread; a ``RuntimeError`` where it raises StopIteration."""
    try:
        return factory()
    except StopIteration as error:
        # A future can't carry it, and whoever waits would wait for ever.
        raise RuntimeError("the factory raised StopIteration") from error
