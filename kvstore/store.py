"""``Store`` and ``Namespace``: a dict that survives, and the separate key spaces in it."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Self

from kvstore import expiry, keys
from kvstore.backends import Durability, Options
from kvstore.cached import CachedSpace
from kvstore.dump_record import DumpRecord
from kvstore.engine import Engine
from kvstore.errors import KvstoreError, ReadOnlyError
from kvstore.memory import MemoryTier
from kvstore.stats import Counts, Stats

MIB: Final = 2**20
_LEAST_MAX_SIZE: Final = 256 * 1024
_CHECKED_EVERY: Final = 1000


class Namespace(CachedSpace):
    """A key space of its own within a store, under the store's memory budget. Made by ``Store.namespace``."""

    @property
    def name(self) -> str:
        """The name it has in the store."""
        return self._space

    def stats(self) -> Counts:
        """This namespace's counters alone."""
        return self._tier.stats().counts[self._space]

    def __repr__(self) -> str:
        return f"<Namespace {self._space!r} of {self._engine.identity!r}>"


class Store(CachedSpace):
    """An open store: a mutable mapping in key order, durable in a file, fronted by a bounded memory tier.

    Made by ``kvstore.open``. Every method may be called from every thread. Use it as a context manager, or ``close`` it.
    """

    def __init__(self, engine: Engine, tier: MemoryTier, clock: expiry.Clock, *, readonly: bool) -> None:
        super().__init__("", engine, tier, clock, readonly=readonly)
        self._namespaces: dict[str, Namespace] = {}
        self._finalizer = weakref.finalize(self, _give_back, engine, tier)

    # -- namespaces ----------------------------------------------------------------------------------------------

    def namespaces(self) -> list[str]:
        """The names of the namespaces that have a record, in order."""
        with self._engine.backend.read() as view:
            return view.spaces()

    # -- what it does and costs ----------------------------------------------------------------------------------

    def stats(self) -> Stats:
        """Counters since this handle was opened, and the state of memory and file now. ``later - earlier`` is an
        interval.
        """
        usage = self._engine.backend.usage()
        tier = self._tier.stats()
        total = sum(tier.counts.values(), start=Counts())
        return Stats(
            **{name: getattr(total, name) for name in Counts.__dataclass_fields__},
            entries=tier.entries,
            memory_bytes=tier.memory_bytes,
            cache_size=self._tier.capacity,
            records=usage.records,
            file_bytes=usage.file_bytes,
            used_bytes=usage.used_bytes,
            reclaimable_bytes=usage.reclaimable_bytes,
            oldest_reader_lag=usage.oldest_reader_lag,
            namespaces=tier.counts,
        )

    # -- moving records ------------------------------------------------------------------------------------------

    def export_records(self, *, prefix: Any = None, namespace: str | None = None) -> Iterator[DumpRecord]:
        """Every live record in one consistent view: the default space first, then the namespaces by name, each in key
        order. Values of registered types come as ``codec.Opaque``, whether or not they are registered here.

        With ``namespace`` that one alone (``""``: the default space); ``prefix`` as in ``scan``.
        """
        spaces = () if namespace is None else (namespace,)
        low, high = keys.ALL
        if prefix is not None:
            low, bound = keys.prefix_range(prefix)
            high = high if bound is None else bound
        with self._engine.backend.read(*spaces) as view:
            for space in spaces or ("", *view.spaces()):
                reader = self._namespace(space)
                for encoded, raw in view.scan(space, low, high):
                    if reader._is_live(raw):
                        yield reader._exported(encoded, raw)

    def import_records(self, records: Iterable[DumpRecord], *, merge: bool = False) -> int:
        """Store all the records in one transaction, or none; how many there were.

        Without ``merge`` the store must be empty: ``KvstoreError`` otherwise. An error that the iterable raises passes
        through, and leaves the store as it was.
        """
        if self._readonly:
            raise ReadOnlyError(f"{self._engine.identity} was opened with readonly=True; open it for writing to load into it")
        count = 0
        with self._engine.committer.transaction() as (txn, remembered):
            remembered[self._tier] = []
            if not merge and (txn.count("") or txn.spaces()):
                raise KvstoreError(
                    f"{self._engine.identity} has records; load into a new store, or merge into this one"
                )
            for item in records:
                writer = self._namespace(item.namespace)
                prepared = writer._prepare(item.key, item.value, None, item.expires, remember=False)
                writer._put(txn, prepared, [])
                count += 1
                if count % _CHECKED_EVERY == 0:
                    txn.check_size()
            txn.check_size()
        return count

    def _namespace(self, name: str) -> CachedSpace:
        if not name:
            return self
        found = self._namespaces.get(name)
        if found is None:
            found = self._namespaces.setdefault(name, Namespace(name, self._engine, self._tier, self._clock, readonly=self._readonly))
        return found

    # -- its end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close this handle; the last one of the process closes the file. Closing twice is fine."""
        self._finalizer()
        for space in (self, *self._namespaces.values()):
            space._shut()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Store {self._engine.identity!r}>"


def open(
    location: str | os.PathLike[str],
    *,
    cache_size: int = 64 * MIB,
    policy: str | type[Any] = "lru",
    max_size: int | None = None,
    durability: Durability = "full",
    readonly: bool = False,
    create: bool = True,
    clock: expiry.Clock = time.time,
) -> Store:
    """Open the store at ``location``, a path; made where nothing is there and ``create`` is true.

    ``cache_size`` is what the memory tier may cost in RAM, in bytes, Python objects and bookkeeping included; 0 turns it
    off. ``policy`` says what leaves it when it is full: ``"lru"``, ``"fifo"``, ``"lfu"``, ``"random"``, or a subclass of
    ``cachetools.Cache`` that takes its size alone. ``max_size`` bounds the file, in bytes (at least 256 KiB); None is
    bounded by the disk. ``durability`` says what a power cut may undo: ``"full"`` nothing that was acknowledged,
    ``"relaxed"`` the last commits, ``"none"`` anything, for data that can be rebuilt. ``clock`` gives seconds since the
    epoch, for expiry.

    A store that this process has open already is shared, each handle with a memory tier of its own.

    Raises ``StoreFormatError`` for what is no kvstore file or a newer one, ``StoreCorruptError`` for a damaged one,
    ``StoreIOError`` (an ``OSError``) where the system refuses, ``StoreBusyError`` where this process has it open with
    other options, ``ValueError`` and ``TypeError`` for options that make no sense.
    """
    _require_size("cache_size", cache_size, 0)
    if max_size is not None:
        _require_size("max_size", max_size, _LEAST_MAX_SIZE)
    if durability not in ("full", "relaxed", "none"):
        raise ValueError(f"durability must be 'full', 'relaxed' or 'none', not {durability!r}")
    engine = Engine.acquire(location, Options(durability, readonly, create, max_size))
    try:
        tier = MemoryTier(cache_size, policy, engine.backend, engine.changes)
        return Store(engine, tier, clock, readonly=readonly)
    except BaseException:
        engine.release()
        raise


def _require_size(name: str, value: object, least: int) -> None:
    if type(value) is not int:
        raise TypeError(f"{name} must be an int, a number of bytes, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least} bytes, not {value}")


def _give_back(engine: Engine, tier: MemoryTier) -> None:
    tier.close()
    engine.release()
