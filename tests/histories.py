"""Recording what threads and processes do to a few keys of one store: many short histories, each with keys of its own, so
that none needs a fresh store."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import kvstore
from kvstore.memory import MemoryTier
from tests.linearizability import NEVER, UNKNOWN, Operation, told, violations
from tests.threads import PATIENCE_SECONDS, switching_often

KEYS: Final = 3
STEPS: Final = 9
"""So many calls each worker makes in one history."""
READS: Final = 0.55

TINY: Final = 1_500
"""Bytes: a memory tier of three entries."""
HANDLES: Final = ({"cache_size": TINY}, {"cache_size": 1 << 20}, {"cache_size": 0})
"""What the workers of one process share: a tier that always evicts, one that never does, none."""

Key = Any


def keys_of(round_: int) -> list[Key]:
    """The keys of one history; of every type, since memory looks each up in its own way."""
    return [[f"{round_} {index}", 10 * round_ + index, (round_, index)][index % 3] for index in range(KEYS)]


class Worker:
    """Does things at random, and writes down each with its times. ``name`` and ``seed`` make its values and choices its own.

    The clock is the system's monotonic one, which is the same for all processes of a machine.
    """

    def __init__(self, name: int, seed: int, handles: Sequence[kvstore.Store]) -> None:
        self.history: list[Operation] = []
        self._rng = random.Random(f"{seed} {name}")
        self._handles = handles
        self._value = name * 1_000_000_000
        self._last: dict[Key, Any] = {}

    def play(self, round_: int) -> None:
        """The worker's part of one history."""
        keys = keys_of(round_)
        rng = self._rng
        self._last.clear()
        for _ in range(STEPS):
            store = rng.choice(self._handles)
            if round_ % 4 == 3:
                store = store.namespace("n")
            if rng.random() < READS:
                read = self._read if rng.random() < 0.75 else self._read_many
                read(store, keys)
            else:
                write = self._write if rng.random() < 0.8 else self._write_many
                write(store, keys)

    def _note(self, start: int, key: Key, kind: str, argument: Any, result: Any) -> None:
        self.history.append(Operation(start, time.monotonic_ns(), key, kind, argument, result))

    def _announce(self, start: int, key: Key, kind: str, argument: Any) -> None:
        """Called before a write, with what will be noted of it when it has returned."""

    def _new_value(self) -> int:
        self._value += 1_000
        return self._value

    def _read(self, store: Any, keys: list[Key]) -> None:
        key = self._rng.choice(keys)
        if self._rng.random() < 0.85:
            start = time.monotonic_ns()
            self._last[key] = result = store.get(key)
            self._note(start, key, "get", None, result)
        else:
            start = time.monotonic_ns()
            found = key in store
            self._note(start, key, "in", None, found)

    def _read_many(self, store: Any, keys: list[Key]) -> None:
        scanned = self._rng.random() < 0.4
        start = time.monotonic_ns()
        if scanned:
            with _snapshot(store) as view:
                found = {key: view[key] for key in keys if key in view}
        else:
            found = store.get_many(keys)
        end = time.monotonic_ns()
        for key in keys:
            self._last[key] = result = found.get(key)
            self.history.append(Operation(start, end, key, "get", None, result))

    def _write(self, store: Any, keys: list[Key]) -> None:
        key, value = self._rng.choice(keys), self._new_value()
        kind = self._rng.choice(_WRITES)
        argument: Any = value
        if kind == "compare_and_set":
            argument = (self._last.get(key), value)
        elif kind == "incr":
            argument = 1
        elif kind in {"delete", "pop"}:
            argument = None
        call = _CALLS[kind]
        start = time.monotonic_ns()
        self._announce(start, key, kind, argument)
        result = call(store, key, argument)
        self._note(start, key, kind, argument, result)
        if kind == "compare_and_set":
            self._last[key] = value

    def _write_many(self, store: Any, keys: list[Key]) -> None:
        items = {key: self._new_value() for key in self._rng.sample(keys, 2)}
        swapped = self._rng.random() < 0.4
        old: dict[Key, Any] = {}
        kind = "swap" if swapped else "set"
        start = time.monotonic_ns()
        for key, value in items.items():
            self._announce(start, key, kind, value)
        if swapped:
            with _transaction(store) as tx:
                for key, value in items.items():
                    old[key] = tx.get(key)
                    tx[key] = value
        else:
            store.set_many(items)
        end = time.monotonic_ns()
        for key, value in items.items():
            self.history.append(Operation(start, end, key, kind, value, old.get(key)))


@contextlib.contextmanager
def _transaction(space: Any) -> Iterator[Any]:
    if isinstance(space, kvstore.Namespace):
        with space._store.transaction() as tx:
            yield tx.namespace(space.name)
    else:
        with space.transaction() as tx:
            yield tx


@contextlib.contextmanager
def _snapshot(space: Any) -> Iterator[Any]:
    if isinstance(space, kvstore.Namespace):
        with space._store.snapshot() as view:
            yield view.namespace(space.name)
    else:
        with space.snapshot() as view:
            yield view


_CALLS: Final[dict[str, Callable[[Any, Key, Any], Any]]] = {
    "set": lambda store, key, value: store.set(key, value),
    "add": lambda store, key, value: store.add(key, value),
    "setdefault": lambda store, key, value: store.setdefault(key, value),
    "delete": lambda store, key, _: store.delete(key),
    "pop": lambda store, key, _: store.pop(key, None),
    "incr": lambda store, key, delta: store.incr(key, delta),
    "compare_and_set": lambda store, key, argument: store.compare_and_set(key, *argument),
}
_WRITES: Final = ("set", "set", "add", "setdefault", "delete", "pop", "incr", "compare_and_set")


def check(history: Sequence[Operation]) -> None:
    """Fail where the history is not linearizable, and show the first key's part of it."""
    bad = violations(history)
    if bad:
        raise AssertionError(f"key {bad[0][0].key!r} is not linearizable:\n{told(bad[0])}")


# -- threads ---------------------------------------------------------------------------------------


def played_by_threads(
    path: Path, rounds: int, *, threads: int = 4, seed: int = 0, handles: Sequence[dict[str, Any]] = HANDLES
) -> list[Operation]:
    """What so many threads of this process do in so many histories, sharing the handles."""
    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(kvstore.open(path, durability="none", **how)) for how in handles]
        workers = [Worker(name, seed, stores) for name in range(1, threads + 1)]
        barrier = threading.Barrier(threads)
        with switching_often(), ThreadPoolExecutor(threads) as pool:
            for playing in [pool.submit(_play, worker, rounds, barrier) for worker in workers]:
                playing.result(PATIENCE_SECONDS * 10)
    return [operation for worker in workers for operation in worker.history]


def _play(worker: Worker, rounds: int, barrier: Any) -> None:
    try:
        for round_ in range(rounds):
            barrier.wait(PATIENCE_SECONDS)
            worker.play(round_)
    except BaseException:
        barrier.abort()
        raise


# -- processes -------------------------------------------------------------------------------------


def played_by_processes(
    path: Path,
    rounds: int,
    *,
    processes: int = 3,
    threads: int = 1,
    seed: int = 0,
    handles: Sequence[dict[str, Any]] = HANDLES,
    tier: type[MemoryTier] = MemoryTier,
) -> list[Operation]:
    """What so many processes, with so many threads each, do in so many histories. ``tier`` is the memory tier they use."""
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(processes * threads)
    pipes = [spawn.Pipe(duplex=False) for _ in range(processes)]
    children = [
        spawn.Process(
            target=_play_in_a_child,
            args=(sender, path, rounds, threads, barrier, 10 * name, seed, handles, tier),
            daemon=True,
        )
        for name, (_, sender) in enumerate(pipes, start=1)
    ]
    for child, (_, sender) in zip(children, pipes, strict=True):
        child.start()
        sender.close()
    history = []
    for child, (receiver, _) in zip(children, pipes, strict=True):
        with receiver:
            history += receiver.recv()
        child.join(PATIENCE_SECONDS)
        assert child.exitcode == 0
    return history


def _play_in_a_child(
    sender: Any,
    path: Path,
    rounds: int,
    threads: int,
    barrier: Any,
    name: int,
    seed: int,
    handles: Sequence[dict[str, Any]],
    tier: type[MemoryTier],
) -> None:
    kvstore.store.MemoryTier = tier  # type: ignore[attr-defined,misc]
    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(kvstore.open(path, durability="none", **how)) for how in handles]
        workers = [Worker(name + index, seed, stores) for index in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            for playing in [pool.submit(_play, worker, rounds, barrier) for worker in workers]:
                playing.result(PATIENCE_SECONDS * 10)
        sender.send([operation for worker in workers for operation in worker.history])
        sender.close()


class MortalWorker(Worker):
    """A worker that may be killed at any moment: it tells a pipe what it is about to write, and what has come of it."""

    def __init__(self, name: int, seed: int, handles: Sequence[kvstore.Store], pipe: Any) -> None:
        super().__init__(name, seed, handles)
        self.history = _Telling(pipe)

    def _announce(self, start: int, key: Key, kind: str, argument: Any) -> None:
        self.history.append(Operation(start, NEVER, key, kind, argument, UNKNOWN))


class _Telling(list[Operation]):
    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self._pipe = pipe

    def append(self, operation: Operation) -> None:
        self._pipe.send(operation)


def heard_of(pipe: Any) -> list[Operation]:
    """What a mortal worker has told, each write once: as it ended, or as one that has not."""
    told_last: dict[Any, Operation] = {}
    with contextlib.suppress(EOFError), pipe:
        while True:
            operation: Operation = pipe.recv()
            told_last[operation.start, operation.key] = operation
    return [*told_last.values()]


def live_and_die(pipe: Any, path: Path, name: int, seed: int, handles: Sequence[dict[str, Any]]) -> None:
    """Work on the keys of one history until somebody kills the process."""
    stores = [kvstore.open(path, durability="none", **how) for how in handles]
    worker = MortalWorker(name, seed, stores, pipe)
    pipe.send(Operation(0, 0, "ready", "get", None, None))
    while True:
        worker.play(0)


# -- seeded bugs -----------------------------------------------------------------------------------


class FillsWithoutTheCommit(MemoryTier):
    """A tier with a bug: it takes what a reader has read, whatever has been committed since."""

    def offer(self, entry, value, commit):  # type: ignore[no-untyped-def]
        time.sleep(0)
        with self._lock:
            self.catch_up()
            return super().offer(entry, value, self._seen)


class LooksAtNoMark(MemoryTier):
    """A tier with a bug: whatever is in memory counts as current."""

    @property
    def mark(self) -> Any:  # type: ignore[override]
        return (0,), 0

    @mark.setter
    def mark(self, _: Any) -> None:
        pass
