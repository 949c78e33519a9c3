"""The peers that live in the process: one class each, written as a careful user of the library would."""

from __future__ import annotations

import itertools
import shelve
from typing import TYPE_CHECKING, Any, Literal

import cachetools
import lmdb

import kvstore
from bench.arrays import library
from bench.workloads import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, MutableMapping
    from pathlib import Path

    from bench_peers.peer import Payload

CACHED = 64 * MIB
"""What each memory tier may hold: kvstore's default, for all that have one."""


class Unordered:
    """What a peer has that knows no order of its keys, and keeps no file: the rest is its own."""

    def range(self, start: str, count: int) -> Iterable[tuple[Any, Any]]:
        raise NotImplementedError(f"{type(self).__name__} has no key order")

    def close(self) -> None:
        pass


class Mapped(Unordered):
    """A peer that is used as the mapping which it is."""

    def __init__(self, mapping: MutableMapping[str, Any]) -> None:
        self._mapping = mapping
        self.get, self.set = mapping.__getitem__, mapping.__setitem__

    def set_many(self, items: Mapping[str, Any]) -> None:
        self._mapping.update(items)

    def delete(self, key: str) -> None:
        del self._mapping[key]

    def scan(self) -> Iterable[tuple[Any, Any]]:
        return self._mapping.items()


class Kvstore:
    """This library, at its defaults but for the durability."""

    def __init__(self, place: Path, payload: Payload, *, durability: Literal["full", "none"]) -> None:
        self._store = store = kvstore.open(place / "ours.kv", durability=durability)
        self.get, self.set, self.set_many = store.get, store.set, store.set_many
        self.close = store.close

    def delete(self, key: str) -> None:
        self._store.delete(key)

    def scan(self) -> Iterable[tuple[Any, Any]]:
        return self._store.scan()

    def range(self, start: str, count: int) -> Iterable[tuple[Any, Any]]:
        return self._store.scan(start=start, limit=count)


class PyLmdb:
    """py-lmdb with values in msgpack, arrays as their items."""

    def __init__(self, place: Path, payload: Payload, *, flushed: bool) -> None:
        options: dict[str, Any] = {"map_size": 32 * 1024 * MIB, "max_spare_txns": 16, "sync": flushed}
        self._environment = environment = lmdb.open(str(place / "lmdb"), **options)
        self._pack, self._unpack = pack, unpack = payload.pack, payload.unpack
        begin = environment.begin
        self.close = environment.close

        def get(key: str) -> Any:
            with begin() as transaction:
                raw = transaction.get(key.encode())
            return None if raw is None else unpack(raw)

        def put(key: str, value: Any) -> None:
            with begin(write=True) as transaction:
                transaction.put(key.encode(), pack(value))

        self.get, self.set = get, put

    def set_many(self, items: Mapping[str, Any]) -> None:
        pack = self._pack
        with self._environment.begin(write=True) as transaction:
            transaction.cursor().putmulti([(key.encode(), pack(value)) for key, value in items.items()])

    def delete(self, key: str) -> None:
        with self._environment.begin(write=True) as transaction:
            transaction.delete(key.encode())

    def scan(self) -> Iterator[tuple[Any, Any]]:
        unpack = self._unpack
        with self._environment.begin() as transaction:
            for key, raw in transaction.cursor():
                yield key.decode(), unpack(raw)

    def range(self, start: str, count: int) -> Iterator[tuple[Any, Any]]:
        unpack = self._unpack
        with self._environment.begin() as transaction:
            cursor = transaction.cursor()
            if cursor.set_range(start.encode()):
                for key, raw in itertools.islice(cursor, count):
                    yield key.decode(), unpack(raw)


class Cachetools(Mapped):
    """A bare LRU cache, large enough for everything: no file, no lock, no bytes counted."""

    def __init__(self, place: Path, payload: Payload) -> None:
        super().__init__(cachetools.LRUCache[str, Any](maxsize=100_000_000))


class Diskcache(Unordered):
    """diskcache.Cache without eviction: what is stored in it is to stay."""

    def __init__(self, place: Path, payload: Payload, *, flushed: bool) -> None:
        options: dict[str, Any] = {"sqlite_synchronous": 2} if flushed else {}
        self._cache = cache = library("diskcache", "peers").Cache(
            str(place / "diskcache"), eviction_policy="none", **options
        )
        self.get, self.set, self.close = cache.__getitem__, cache.set, cache.close  # type: ignore[method-assign]

    def set_many(self, items: Mapping[str, Any]) -> None:
        with self._cache.transact():
            for key, value in items.items():
                self._cache.set(key, value)

    def delete(self, key: str) -> None:
        self._cache.delete(key)

    def scan(self) -> Iterator[tuple[Any, Any]]:
        for key in self._cache:
            yield key, self._cache[key]


class Sqlitedict(Unordered):
    """sqlitedict, which commits in a thread of its own and turns SQLite's flushes off."""

    def __init__(self, place: Path, payload: Payload) -> None:
        self._dict = table = library("sqlitedict", "peers").SqliteDict(str(place / "table.sqlite"), outer_stack=False)
        self.get, self.close = table.__getitem__, table.close  # type: ignore[method-assign]

    def set(self, key: str, value: Any) -> None:
        self._dict[key] = value
        self._dict.commit()

    def set_many(self, items: Mapping[str, Any]) -> None:
        self._dict.update(items)
        self._dict.commit()

    def delete(self, key: str) -> None:
        del self._dict[key]
        self._dict.commit()

    def scan(self) -> Iterable[tuple[Any, Any]]:
        items: Iterable[tuple[Any, Any]] = self._dict.items()
        return items


class Rocksdict:
    """rocksdict at its defaults; its own types for str and bytes, pickle for what else there is."""

    def __init__(self, place: Path, payload: Payload, *, flushed: bool) -> None:
        self._library = rocksdict = library("rocksdict", "peers")
        self._db = db = rocksdict.Rdict(str(place / "rocks"))
        if flushed:
            options = rocksdict.WriteOptions()
            options.sync = True
            db.set_write_options(options)
        self.get, self.set, self.close = db.__getitem__, db.__setitem__, db.close

    def set_many(self, items: Mapping[str, Any]) -> None:
        batch = self._library.WriteBatch()
        for key, value in items.items():
            batch.put(key, value)
        self._db.write(batch)

    def delete(self, key: str) -> None:
        del self._db[key]

    def scan(self) -> Iterable[tuple[Any, Any]]:
        items: Iterable[tuple[Any, Any]] = self._db.items()
        return items

    def range(self, start: str, count: int) -> Iterable[tuple[Any, Any]]:
        return itertools.islice(self._db.items(from_key=start), count)


class Shelve(Mapped):
    """The standard library's, over whichever dbm this Python was built with; its index is on disk once it is closed."""

    def __init__(self, place: Path, payload: Payload) -> None:
        shelf = shelve.open(str(place / "shelf"))  # noqa: S301, SIM115  # it is closed by close; its own data
        super().__init__(shelf)
        self.close = shelf.close  # type: ignore[method-assign]


class Zict(Mapped):
    """zict.Cache over zict.LMDB, which is opened without flushes, by way of msgpack; in front an LRU by bytes."""

    def __init__(self, place: Path, payload: Payload) -> None:
        zict = library("zict", "peers")
        pack, unpack = payload.pack, payload.unpack
        file = zict.LMDB(str(place / "zict"))
        front = zict.LRU(CACHED, {}, weight=lambda key, value: len(pack(value)))
        super().__init__(zict.Cache(zict.Func(pack, unpack, file), front))
        self.close = file.close  # type: ignore[method-assign]


def computed(key: str, source: dict[str, Any]) -> Any:
    """What joblib caches, by this function's name and source: a lookup stands for the work."""
    return source[key]


class Joblib(Unordered):
    """joblib.Memory: a write is the call that computes, a read one whose result is there."""

    def __init__(self, place: Path, payload: Payload) -> None:
        self._source: dict[str, Any] = {}
        self._introduced = False
        memory = library("joblib", "peers").Memory(str(place / "joblib"), verbose=0)
        self._cached = memory.cache(computed, ignore=["source"])

    def get(self, key: str) -> Any:
        return self._cached(key, self._source)

    def set(self, key: str, value: Any) -> None:
        self._source[key] = value
        self._cached.call(key, self._source)
        if not self._introduced:
            # Only this way does it write down the function's source, without which no other process finds the results.
            self._introduced = True
            self.get(key)

    def set_many(self, items: Mapping[str, Any]) -> None:
        for key, value in items.items():
            self.set(key, value)

    def delete(self, key: str) -> None:
        self._cached.call_and_shelve(key, self._source).clear()

    def scan(self) -> Iterable[tuple[Any, Any]]:
        raise NotImplementedError("joblib.Memory doesn't list what it has")
