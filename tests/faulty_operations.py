"""The operations of which system calls fail: what each does to the store that it finds, and what a store holds."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kvstore
import kvstore.dump

NOW = 1_750_000_000.0
ITEMS = {"a": [1], "b": "two", "c": {"n": 3}, "n": 5, "large": bytes(20_000)}
NEW = {number: bytes(100) for number in range(300)}


def clock() -> float:
    return NOW


class World:
    """One store, as it is before every fault, and what the operation may use."""

    def __init__(self, folder: Path, dumped: bytes) -> None:
        self.folder = folder
        self.dumped = dumped
        """What there is to load."""
        self.path = folder / "store.kv"
        self.target = folder / "target"
        self.handles: list[kvstore.Store] = []

    def open(self, **options: Any) -> kvstore.Store:
        store = kvstore.open(self.path, clock=clock, **options)
        self.handles.append(store)
        return store

    @property
    def store(self) -> kvstore.Store:
        return self.handles[0]

    def close(self) -> None:
        while self.handles:
            self.handles.pop().close()


def change_in_a_transaction(store: kvstore.Store) -> None:
    with store.transaction() as transaction:
        transaction["a"] = transaction["n"]
        del transaction["b"]
        transaction.namespace("n")["x"] = "both"
        transaction.namespace("another")["x"] = "made"


def dump(world: World, name: str) -> None:
    with kvstore.dump.writing(world.folder / name) as stream:
        kvstore.dump.write(world.store, stream)


def load(world: World) -> None:
    kvstore.dump.load(world.store, io.BytesIO(world.dumped), merge=True)


def iterate(store: kvstore.Store) -> list[Any]:
    return [*store.items(), *store.namespace("n").items(), *store.scan(prefix="a"), len(store)]


IN_USE: dict[str, Callable[[World], object]] = {
    "set": lambda world: world.store.set("a", ["new"]),
    "set of a large value": lambda world: world.store.set("large", bytes(1_000_000)),
    "set_many": lambda world: world.store.set_many(NEW),
    "add": lambda world: world.store.add("new", (1, 2)),
    "incr": lambda world: world.store.incr("n"),
    "delete": lambda world: world.store.delete("a"),
    "delete_many": lambda world: world.store.delete_many(["a", "b", "none"]),
    "clear": lambda world: world.store.clear(),
    "get_or_set": lambda world: world.store.get_or_set("new", lambda: ["made"]),
    "transaction": lambda world: change_in_a_transaction(world.store),
    "set in a new namespace": lambda world: world.store.namespace("new").set("x", 1),
    "drop_namespace": lambda world: world.store.drop_namespace("n"),
    "list": lambda world: world.store.list("l").extend([4, 5]),
    "set with ttl": lambda world: world.store.set("a", 1, ttl=100),
    "touch": lambda world: world.store.touch("b", 100),
    "expire": lambda world: world.store.expire(),
    "get, hit": lambda world: world.store.get("a"),
    "get, miss": lambda world: world.store.get("none"),
    "get_many": lambda world: world.store.get_many(["a", "none", "large"]),
    "iteration": lambda world: iterate(world.store),
    "stats": lambda world: world.store.stats(),
    "verify": lambda world: world.store.verify(),
    "backup": lambda world: world.store.backup(world.target),
    "compact": lambda world: world.store.compact(),
    "dump": lambda world: dump(world, "target"),
    "dump, compressed": lambda world: dump(world, "target.xz"),
    "load": load,
    "close": lambda world: world.store.close(),
    "second handle": lambda world: world.open(cache_size=0),
}
OPENING: dict[str, Callable[[World], object]] = {
    "creation": lambda world: world.open(),
    "open": lambda world: world.open(),
    "open readonly": lambda world: world.open(readonly=True),
    "open and close, warm": lambda world: warm(world),
}
OPERATIONS = [*IN_USE, *OPENING]


def warm(world: World) -> None:
    store = world.open(warm=True)
    store.warmed(60)
    store["a"], store["b"]
    store.close()


def contents(store: kvstore.Store) -> bytes:
    """All that is in a store, exactly."""
    stream = io.BytesIO()
    kvstore.dump.write(store, stream)
    return stream.getvalue()


def contents_at(path: Path) -> bytes:
    """The same, of a store that is opened for it."""
    with kvstore.open(path, cache_size=0, create=False, clock=clock) as store:
        return contents(store)


def make_template(path: Path) -> None:
    with kvstore.open(path, clock=lambda: NOW - 100) as store:
        store.set_many(ITEMS)
        store.set("past", "expired", ttl=50)
        store.set("later", "expires", ttl=10_000)
        store.namespace("n").set_many({"a": "in n", "b": [1]})
        store.list("l").extend([1, 2, 3])
        store.set_many(dict.fromkeys(range(1000, 1100), bytes(300)))
        store.delete_many(range(1000, 1100))
