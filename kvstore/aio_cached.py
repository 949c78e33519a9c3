"""A space of an open store, as tasks use it: read through the memory tier on the loop, written through by the group commit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Final, NoReturn, TypeVar

from kvstore import keys, record
from kvstore.aio_posts import Posted, Posts, refuse_own_transaction
from kvstore.aio_space import Writable
from kvstore.aio_threads import Threads
from kvstore.backends import Space
from kvstore.cached import CachedSpace, Handle
from kvstore.engine import Engine
from kvstore.keys import Key
from kvstore.memory import own
from kvstore.missing import MISSING
from kvstore.once import Flight
from kvstore.reading import ReadableSpace
from kvstore.writing import SHALLOW, Apply, WritableSpace

R = TypeVar("R")

_WAIT_SECONDS: Final = 0.02

computing: ContextVar[frozenset[object]] = ContextVar("computing", default=frozenset())
"""The pilots of the flights inside which this code runs."""


class FileNeededError(Exception):
    """Memory can't answer."""


class LoopSpace(CachedSpace):
    """A space as an event loop may use it: a read is answered from memory or raises ``FileNeededError``; a write is
    prepared, posted, and gives itself as ``Posted`` in place of its result.
    """

    def __init__(self, space: Space, handle: Handle, posts: Posts) -> None:
        super().__init__(space, handle)
        self._post = posts.post
        self._timeout = handle.timeout
        self._purge = self._purge_few

    def set(self, key: Key, value: Any, *, ttl: float | None = None) -> Any:
        """The posted write, in as few calls as possible; not ``CachedSpace.set``, which commits in the thread that calls it."""
        if ttl is not None:
            return WritableSpace.set(self, key, value, ttl=ttl)
        if self._handle.readonly:
            self._refuse_readonly()
        encoded = keys.encode(key)
        if type(value) in SHALLOW:
            value = value.copy()
        raw, payload, extended = record.dump(self._binding + encoded, value)
        tier, note = self._tier, None
        if tier.capacity:
            kind = type(key)
            token: Any = key if kind is str or kind is int else encoded
            note = tier, token, own(value, payload) if extended else value, payload, extended, None
        return self._post(Posted(self._put_plain, tier, self._purge, self._timeout, (encoded, raw, note)))

    def _fetch_by(self, *_: object) -> NoReturn:
        raise FileNeededError

    def _record_of(self, encoded: bytes) -> NoReturn:
        raise FileNeededError

    def _view(self, *_: Space) -> NoReturn:
        raise FileNeededError

    def _counting_view(self) -> NoReturn:
        raise FileNeededError

    def _commit(self, apply: Apply[R]) -> R:
        if self._handle.readonly:
            self._refuse_readonly()
        return self._post(Posted(apply, self._tier, self._purge, self._timeout))  # type: ignore[return-value]


class CachedFace(Writable):
    """What ``Store`` and ``Namespace`` have in common."""

    _space: CachedSpace

    def __init__(self, space: CachedSpace, threads: Threads, posts: Posts) -> None:
        super().__init__(space, threads)
        self._near = LoopSpace(space._space, space._handle, posts)
        self._posts = posts
        self._engine: Engine = space._handle.engine
        self._computations: set[asyncio.Task[Any]] = set()

    async def _read(self, look: Callable[[ReadableSpace], R]) -> R:
        try:
            return look(self._near)
        except FileNeededError:
            return await self._threads.run(lambda: look(self._space))

    async def _write(self, change: Callable[[WritableSpace], R]) -> R:
        posted: Any = change(self._near)
        if type(posted) is not Posted:
            # There was nothing to be done, as with no items at all: this is the result.
            return posted  # type: ignore[no-any-return]
        try:
            return await posted.future  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            self._posts.take_back(posted)
            raise

    async def get(self, key: Key, default: Any = None) -> Any:
        """The value of the key, or ``default``. Counts as a lookup."""
        try:
            return self._near.get(key, default)
        except FileNeededError:
            return await self._threads.run(lambda: self._space.get(key, default))

    async def set(self, key: Key, value: Any, *, ttl: float | None = None) -> None:
        """Store the value, over whatever is there. ``ttl``: seconds until the record ends; None for never."""
        posted: Any = self._near.set(key, value, ttl=ttl)  # the posted write, here
        try:
            await posted.future
        except asyncio.CancelledError:
            self._posts.take_back(posted)
            raise

    async def expire(self) -> int:
        """Purge the records, in all namespaces, whose time is over; how many there were."""
        refuse_own_transaction(self._engine.committer)
        return await super().expire()

    # -- computing a missing value once --------------------------------------------------------------------------

    async def get_or_set(
        self, key: Key, factory: Callable[[], Any | Awaitable[Any]], *, ttl: float | None = None
    ) -> Any:
        """The value of the key; where it has none, what the factory makes, stored. Counts as a lookup.

        A coroutine function is awaited; any other factory is called in a thread, as by ``asyncio.to_thread``. It runs once,
        however many tasks, threads and processes ask: the others wait for it. Where it raises, its caller gets the exception
        and one of the others takes its turn. A cancelled caller leaves it running for those who wait.
        """
        value = await self.get(key, MISSING)
        if value is not MISSING:
            return value
        refuse_own_transaction(self._engine.committer)
        self._space._refuse_readonly()
        address = (self._space._space, keys.encode(key))
        flights = self._engine.flights
        while True:
            own = Flight(address, object())
            flight = flights.board(own)
            if flight is own:
                return await self._await_own(flight, self._compute(flight, key, factory, ttl))
            if flight.pilot in computing.get():
                # Asked from inside the factory: waiting would be for ever.
                return await self._make(key, factory, ttl)
            await self._landed(flight)
            value = await self._look(key)
            if value is not MISSING:
                return value

    async def _await_own(self, flight: Flight, coroutine: Coroutine[Any, Any, Any]) -> Any:
        computation = asyncio.get_running_loop().create_task(coroutine)
        self._computations.add(computation)

        def landed(task: asyncio.Task[Any]) -> None:
            self._computations.discard(task)
            self._engine.flights.land(flight)
            if not task.cancelled():
                # Retrieved, though the caller may be gone.
                task.exception()

        # Not in the coroutine itself, which doesn't run at all where it is cancelled early.
        computation.add_done_callback(landed)
        try:
            return await asyncio.shield(computation)
        except asyncio.CancelledError:
            if not flight.passengers:
                computation.cancel()
            raise

    async def _compute(
        self,
        flight: Flight,
        key: Key,
        factory: Callable[[], Any | Awaitable[Any]],
        ttl: float | None,
    ) -> Any:
        computing.set(computing.get() | {flight.pilot})
        while not self._engine.flights.take_lease(flight, 0):
            value = await self._look(key)
            if value is not MISSING:
                return value
            await asyncio.sleep(_WAIT_SECONDS)
        value = await self._look(key)
        return await self._make(key, factory, ttl) if value is MISSING else value

    async def _look(self, key: Key) -> Any:
        """The value in the file, not counted as a lookup."""
        return await self._threads.run(lambda: ReadableSpace.get(self._space, key, MISSING))

    async def _landed(self, flight: Flight) -> None:
        loop = asyncio.get_running_loop()
        landed = asyncio.Event()

        def tell() -> None:
            # A loop that is closed has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(landed.set)

        self._engine.flights.tell_when_landed(flight, tell)
        await landed.wait()
