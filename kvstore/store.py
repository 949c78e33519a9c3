"""``Store`` and ``Namespace``: a dict that survives, and the separate key spaces in it."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

from kvstore import elements, expiry, keys
from kvstore.backends import Durability, Options, Writing
from kvstore.cached import CachedSpace, Handle
from kvstore.engine import ClosedEngine, Engine
from kvstore.errors import KvstoreError, RoomPendingError, StoreBusyError
from kvstore.memory import MemoryTier
from kvstore.stats import Counts, Stats
from kvstore.store_imports import finish_imports
from kvstore.store_names import checked_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, Self, TypeVar

    from kvstore.dump_record import Dumped, DumpRecord
    from kvstore.forecast import Forecast
    from kvstore.memoize import Memoize
    from kvstore.memory_sample import Traffic
    from kvstore.transaction import Snapshot, Transaction
    from kvstore.verify import VerifyReport
    from kvstore.warm import Keeper

    R = TypeVar("R")

MIB: Final = 2**20
MEMO: Final = "memo"
"""The namespace of memoized results."""
_LEAST_MAX_SIZE: Final = 256 * 1024
_CHECKED_EVERY: Final = 1000


class Namespace(CachedSpace):
    """A key space of its own within a store, under the store's memory budget. Made by ``Store.namespace``."""

    def __init__(self, name: str, store: Store) -> None:
        super().__init__(name, store._handle)
        # Held, so that a store of which only a namespace is left is not closed under it.
        self._store = store

    @property
    def name(self) -> str:
        """The name it has in the store."""
        return self._space

    @property
    def memoize(self) -> Memoize:
        """A decorator for functions whose results are to be kept in this namespace. See ``Memoize``."""
        from kvstore.memoize import Memoize

        return Memoize(self)

    def stats(self) -> Counts:
        """This namespace's counters alone."""
        return self._tier.stats().counts[self._space]

    def __reduce__(self) -> tuple[Any, ...]:
        return (_namespace_of, (self._store, self._space))

    def __repr__(self) -> str:
        return f"<Namespace {self._space!r} of {self._engine.identity!r}>"


class Store(CachedSpace):
    """An open store: a mutable mapping in key order, durable in a file, fronted by a bounded memory tier.

    Made by ``kvstore.open``. Every method may be called from every thread, and in forked children; pickling a store
    makes the other process open the same file. Use it as a context manager, or ``close`` it.
    """

    def __init__(self, handle: Handle, opening: dict[str, Any], keeper: Keeper | None) -> None:
        super().__init__("", handle)
        self._opening = opening
        self._keeper = keeper
        self._namespaces: weakref.WeakValueDictionary[str, Namespace] = weakref.WeakValueDictionary()
        self._finalizer = weakref.finalize(self, _give_back, handle.engine, handle.tier, keeper)

    # -- namespaces ----------------------------------------------------------------------------------------------

    def namespace(self, name: str) -> Namespace:
        """The namespace of that name; it comes to be with its first record.

        Where another process has made it, the first iteration, ``get_many`` or snapshot of this one that meets it waits for
        the transaction that is under way.

        Raises ``InvalidKeyError`` for a name that is no str, is empty, longer than 200 bytes in UTF-8, has a NUL or
        begins with ``kvstore:``. A store has room for 250 namespaces; for more, use tuple keys.
        """
        found = self._namespaces.get(checked_name(name))
        if found is None:
            found = self._namespaces.setdefault(name, Namespace(name, self))
        return found

    def namespaces(self) -> list[str]:
        """The names of the namespaces that have a record, or a list or a set, in order."""
        with self._engine.backend.read("", elements.SPACE) as view:
            return elements.namespaces(view)

    def drop_namespace(self, name: str) -> bool:
        """Remove a namespace with all its records, in the time that its pages take, not its records, and its lists and
        sets; whether it had any.
        """
        space = checked_name(name)

        def apply(txn: Writing) -> bool:
            had = txn.count(space) > 0
            if had:
                expiry.leave_all(txn, space)
                txn.clear(space)
            heads = elements.forget_namespace(txn, space)
            if heads is not None:
                expiry.give_up(txn, heads)
            return had or heads is not None

        return self._commit(apply)

    @property
    def memoize(self) -> Memoize:
        """A decorator for functions whose results are to be kept, in the namespace ``memo``. See ``Memoize``."""
        return self.namespace(MEMO).memoize

    # -- transactions and snapshots ------------------------------------------------------------------------------

    def transaction(self, *, timeout: float | None = None) -> Transaction:
        """A transaction over all the namespaces: ``with store.transaction() as tx:``. See ``Transaction``.

        Waits for the writer before it, of whatever process; ``timeout`` seconds at the most (by default as the store was
        opened), then ``StoreBusyError``. Raises ``TransactionError`` inside another transaction of the same thread.
        """
        self._refuse_readonly()
        limit = self._handle.timeout if timeout is None else timeout
        from kvstore.transaction import Transaction

        return Transaction(
            lambda: self._engine.committer.transaction(self._tier, limit), self._tier, self._clock, checked_name
        )

    def run(self, function: Callable[[Transaction], R], *, attempts: int = 3, timeout: float | None = None) -> R:
        """``function(transaction)`` inside a transaction, and its result, once that is durable.

        Where the transaction can't begin or commit because another process holds what is needed
        (``StoreBusyError``), or because the pages that it needs are only just being freed, it is tried again,
        ``attempts`` times in all, so the function must do nothing but use the transaction.
        """
        for attempt in range(1, attempts + 1):
            try:
                with self.transaction(timeout=timeout) as transaction:
                    return function(transaction)
            except (StoreBusyError, RoomPendingError):
                if attempt == attempts:
                    raise
        raise ValueError(f"attempts must be at least 1, not {attempts}")

    def snapshot(self) -> Snapshot:
        """A frozen view of the store as it is now: ``with store.snapshot() as view:``. See ``Snapshot``."""
        from kvstore.transaction import Snapshot

        return Snapshot(self._engine.backend.read(), self._clock, checked_name)

    # -- care of the file ----------------------------------------------------------------------------------------

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy the store as it is now to a new file, compact, flushed, with the same permissions. Others go on meanwhile.

        Raises ``StoreIOError`` where there is a file already, or the system refuses.
        """
        self._engine.backend.backup(os.path.abspath(path))

    def compact(self) -> None:
        """Write the file anew, without free pages and with the others full, and swap it in atomically; every handle of this
        process goes on.

        Works where the store is full; for a while the disk holds both files. Raises ``StoreBusyError`` while another process has
        the store open, or an iteration or a snapshot of this one is; ``StoreCorruptError`` where the file is damaged.
        """
        self._refuse_readonly()
        self._engine.compact()

    def verify(self, *, progress: Callable[[int], object] = lambda records: None) -> VerifyReport:
        """Check the file's structure, every record's checksum and value, lists and sets and each of their elements, and the
        expiry index. Writers wait while the structure is checked. ``progress`` is called with the number of records and
        elements so far.
        """
        from kvstore.verify import verify

        return verify(self._engine.backend, progress)

    # -- what it does and costs ----------------------------------------------------------------------------------

    def stats(self) -> Stats:
        """Counters since this handle was opened, and the state of memory and file now. ``later - earlier`` is an
        interval.
        """
        usage = self._engine.backend.usage()
        tier = self._tier.stats()
        total = sum(tier.counts.values(), start=Counts())
        return Stats(
            **{name: getattr(total, name) for name in Counts._fields},
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

    def warmed(self, timeout: float | None = None) -> bool:
        """Wait until what was hot before the restart is in memory again; whether it is, within ``timeout`` seconds.

        For a handle that was opened with ``warm=True``; False at once for any other. Reads need not wait for it.
        """
        return self._keeper is not None and self._keeper.wait(timeout)

    def forecast(
        self, *, sizes: Iterable[int] | None = None, policies: Iterable[str | type[Any]] = ("lru",)
    ) -> Forecast:
        """Hit rates that the memory tier would have had with other sizes and policies, given the lookups and writes that
        came through this handle.

        ``sizes`` are in bytes, as ``cache_size``; None takes the present one, and eight of which the largest holds all that
        was asked for, each half the next. ``policies`` are as for ``open``. Takes some tenths of a second for each size and
        policy, in which the store goes on, and for that time some tens of MB.

        Raises ``KvstoreError`` where the memory tier is off, ``ValueError`` and ``TypeError`` for sizes and policies that make
        no sense. See ``Forecast``.
        """
        from kvstore.forecast import forecast

        options = self._opening
        return forecast(self._traffic(), options["cache_size"], options["policy"], sizes, policies)

    # -- moving records ------------------------------------------------------------------------------------------

    def export_records(self, *, prefix: Any = None, namespace: str | None = None) -> Iterator[Dumped]:
        """Every live record, list and set in one consistent view: the default space first, then the namespaces by name. In
        each come the structures, in key order, each followed by its elements, then the records in key order. Values of
        registered types come as ``codec.Opaque``, whether or not they are registered here, and what is numpy's as the
        stand-ins of ``kvstore.dump``.

        With ``namespace`` that one alone (``""``: the default space); ``prefix`` as in ``scan``, of structures' keys, too.
        """
        spaces = () if namespace is None else (namespace,)
        low, high = keys.ALL
        if prefix is not None:
            low, high = keys.prefix_range(prefix)
        from kvstore.structures_moving import exported

        with self._engine.backend.read(*spaces, *(elements.SPACE for _ in spaces)) as view:
            for space in spaces or ("", *elements.namespaces(view)):
                reader = self._namespace(space)
                yield from exported(view, space, low, high, self._clock() * 1000)
                for encoded, raw in view.scan(space, low, high):
                    if reader._is_live(raw):
                        yield reader._exported(encoded, raw)

    def export_record(self, key: keys.Key, *, namespace: str = "") -> DumpRecord | None:
        """The record of one key as ``export_records`` gives it; None where there is none."""
        encoded = keys.encode_lookup(key)
        if encoded is None:
            return None
        reader = self._namespace(namespace)
        raw, _ = self._engine.backend.get(namespace, encoded)
        return reader._exported(encoded, raw) if raw is not None and reader._is_live(raw) else None

    def import_records(self, records: Iterable[Dumped], *, merge: bool = False) -> int:
        """Store all that ``export_records`` gives in one transaction, or nothing; how many records and structures there
        were, each element counted too.

        Without ``merge`` the store must be empty: ``KvstoreError`` otherwise. With it, a record replaces the one that has
        its key, and a list or set whatever structure has its key. An error that the iterable raises passes through, and
        leaves the store as it was.
        """
        self._refuse_readonly()
        from kvstore.dump_record import DumpRecord
        from kvstore.structures_moving import Incoming

        count = 0
        with self._engine.committer.transaction(self._tier, self._handle.timeout) as txn:
            if not merge and (txn.count("") or elements.namespaces(txn) or elements.has_any(txn)):
                raise KvstoreError(
                    f"{self._engine.identity} has records; load into a new store, or merge into this one"
                )
            structures = Incoming(txn, checked_name)
            for item in records:
                if not isinstance(item, DumpRecord):
                    structures.take(item)
                else:
                    structures.finish()
                    writer = self._namespace(item.namespace)
                    prepared = writer._prepare(item.key, item.value, None, item.expires, remember=False)
                    writer._put(txn, prepared)
                count += 1
                if count % _CHECKED_EVERY == 0:
                    txn.check_size()
            structures.finish()
            txn.check_size()
        return count

    def _traffic(self) -> Traffic:
        if not self._finalizer.alive:
            ClosedEngine(self._engine.identity).refuse()
        if not self._opening["cache_size"]:
            raise KvstoreError(
                f"{self._engine.identity} is open with cache_size=0, so no traffic is sampled; open it with a memory tier, "
                "however small: sizes beyond its own are forecast too"
            )
        return self._tier.traffic()

    def _namespace(self, name: str) -> CachedSpace:
        return self.namespace(name) if name else self

    # -- its end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close this handle; the last one of the process closes the file. Closing twice is fine.

        Waits for a transaction of another thread. Raises ``TransactionError`` inside one of this thread's own, and goes on.
        """
        if self._finalizer.alive and not self._engine.is_torn:
            self._engine.committer.refuse_own_turn()
        self._finalizer()
        for space in (self, *self._namespaces.values()):
            space._shut()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_open_again, (self._engine.identity, self._opening))

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
    timeout: float | None = None,
    clock: expiry.Clock = time.time,
    warm: bool = False,
) -> Store:
    """Open the store at ``location``, a path; made where nothing is there and ``create`` is true.

    ``cache_size`` is what the memory tier may cost in RAM, in bytes, Python objects and bookkeeping included; 0 turns
    it off. ``policy`` says what leaves it when it is full: ``"lru"``, ``"fifo"``, ``"lfu"``, ``"random"``, or a
    subclass of ``cachetools.Cache`` that takes its size alone. ``max_size`` bounds the file, in bytes (at least 256
    KiB); None is bounded by the disk. ``durability`` says what a power cut may undo: ``"full"`` nothing that was
    acknowledged, ``"relaxed"`` the last commits, ``"none"`` anything, for data that can be rebuilt. ``timeout`` is
    how many seconds a write waits for other processes' writes before it raises ``StoreBusyError``; None waits as long
    as it takes. ``clock`` gives seconds since the epoch, for expiry. ``warm`` remembers which keys are hot, in a file beside
    the store, when it is closed and now and then before; and loads their values, as they are by then, in the background.

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
    opening = {
        "cache_size": cache_size,
        "policy": policy,
        "max_size": max_size,
        "durability": durability,
        "readonly": readonly,
        "create": create,
        "timeout": timeout,
        "clock": clock,
        "warm": warm,
    }
    engine = Engine.acquire(location, Options(durability, readonly, create, max_size))
    keeper = None
    try:
        tier = MemoryTier(cache_size, policy, engine.backend, engine.companion)
        engine.add(tier)
        if warm and cache_size:
            from kvstore.warm import Keeper

            keeper = Keeper(engine, tier, clock)
            keeper.begin()
        return Store(Handle(engine, tier, clock, timeout, readonly), opening, keeper)
    except BaseException:
        if keeper is not None:
            keeper.close()
        engine.release()
        raise


def _open_again(identity: str, opening: dict[str, Any]) -> Store:
    """What unpickling a store calls."""
    return open(identity, **opening)


def _namespace_of(store: Store, name: str) -> Namespace:
    """What unpickling a namespace calls."""
    return store.namespace(name)


def _require_size(name: str, value: object, least: int) -> None:
    if type(value) is not int:
        raise TypeError(f"{name} must be an int, a number of bytes, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least} bytes, not {value}")


def _give_back(engine: Engine, tier: MemoryTier, keeper: Keeper | None) -> None:
    try:
        if keeper is not None:
            keeper.close()
    finally:
        tier.close()
        engine.release()


# After the engine has registered what it does, and so before it does it: nobody may wait for an import with a lock held.
os.register_at_fork(before=finish_imports)
