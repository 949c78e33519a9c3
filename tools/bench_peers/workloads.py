"""The operations, one workload each, and YCSB's A to F; each drawn from a fixed seed before the clock starts."""

from __future__ import annotations

import functools
import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.loads import zipf
from bench.workloads import names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench_peers.peer import Contender, Peer

    Steps = Callable[[Sequence[Any]], object]
    """Does some of the operations that were drawn."""

SKEW = 0.99  # YCSB's
DRAWN = 20_000
BATCH = 1_000
RANGE = 100
"""The longest range that YCSB's workload E reads."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is done in one measurement."""

    operations: Sequence[Any]
    steps: Steps
    weight: int = 1
    """How many records one of the operations counts for."""
    once: bool = False
    """Whether an operation may not be done a second time."""
    after: Callable[[], object] = lambda: None
    """Puts back what the measurement took, off the clock."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A kind of load. ``draw`` is given the peer, its keys, values to write, and a seed for whoever does it."""

    name: str
    draw: Callable[[Peer, list[str], list[Any], int], Drawn]
    writes: bool = True
    reopened: bool = False
    """Whether the peer is closed and opened again beforehand, so that nothing is in its memory."""
    suits: Callable[[Contender], object] = lambda contender: True
    unsuited: str = ""
    """Why a contender isn't measured that it doesn't suit."""


def popular(keys: list[str], seed: int) -> list[str]:
    """Keys as they are asked for: few of them often."""
    return [keys[number] for number in _numbers(len(keys), seed)]


@functools.cache  # the same for every contender
def _numbers(count: int, seed: int) -> list[int]:
    return zipf(SKEW, keys=count, accesses=DRAWN, seed=seed)


def _reads(peer: Peer) -> Steps:
    get = peer.get

    def steps(asked: Sequence[str]) -> None:
        for key in asked:
            get(key)

    return steps


def _read_hot(peer: Peer, keys: list[str], values: list[Any], seed: int) -> Drawn:
    return Drawn(popular(keys, seed), _reads(peer))


def _read_cold(peer: Peer, keys: list[str], values: list[Any], seed: int) -> Drawn:
    return Drawn(random.Random(seed).sample(keys, len(keys)), _reads(peer), once=True)


def _write(peer: Peer, keys: list[str], values: list[Any], seed: int) -> Drawn:
    put = peer.set

    def steps(pairs: Sequence[tuple[str, Any]]) -> None:
        for key, value in pairs:
            put(key, value)

    asked = random.Random(seed).sample(keys, len(keys))
    return Drawn(list(zip(asked, itertools.cycle(values), strict=False)), steps)


def _write_batch(peer: Peer, keys: list[str], values: list[Any], seed: int) -> Drawn:
    asked = random.Random(seed).sample(keys, len(keys))
    size = min(BATCH, len(asked))
    pairs = list(zip(asked, itertools.cycle(values), strict=False))
    batches = [dict(pairs[at : at + size]) for at in range(0, len(pairs) - size + 1, size)]

    def steps(some: Sequence[dict[str, Any]]) -> None:
        for batch in some:
            peer.set_many(batch)

    return Drawn(batches, steps, weight=size)


def _delete(peer: Peer, keys: list[str], values: list[Any], seed: int) -> Drawn:
    delete = peer.delete
    gone: list[str] = []

    def steps(asked: Sequence[str]) -> None:
        for key in asked:
            delete(key)
        gone.extend(asked)

    def restore() -> None:
        peer.set_many(dict(zip(gone, itertools.cycle(values), strict=False)))
        gone.clear()

    return Drawn(random.Random(seed).sample(keys, len(keys)), steps, once=True, after=restore)


def _scan(peer: Peer, keys: list[str], values: list[Any], seed: int) -> Drawn:
    def steps(times: Sequence[None]) -> None:
        for _ in times:
            if sum(1 for _ in peer.scan()) < len(keys):
                raise RuntimeError("a scan has left out records")

    return Drawn([None], steps, weight=len(keys))


def _mixed(share: float) -> Callable[[Peer, list[str], list[Any], int], Drawn]:
    """Reads and updates of popular keys, ``share`` of them reads."""

    def draw(peer: Peer, keys: list[str], values: list[Any], seed: int) -> Drawn:
        chance = random.Random(seed)
        get, put = peer.get, peer.set
        asked = popular(keys, seed)
        written = [None if chance.random() < share else chance.choice(values) for _ in asked]

        def steps(operations: Sequence[tuple[str, Any]]) -> None:
            for key, value in operations:
                if value is None:
                    get(key)
                else:
                    put(key, value)

        return Drawn(list(zip(asked, written, strict=True)), steps)

    return draw


def _read_latest(peer: Peer, keys: list[str], values: list[Any], seed: int) -> Drawn:
    """YCSB D: 95 % reads, of the latest records most often, and 5 % inserts."""
    chance = random.Random(seed)
    get, put, delete = peer.get, peer.set, peer.delete
    known, inserted = list(keys), 0
    # Popularity by rank, not by number: `zipf` gives each key a popularity at random.
    weights = [rank**-SKEW for rank in range(1, len(keys) + 1)]
    ranks = chance.choices(range(len(keys)), weights, k=DRAWN)
    operations = [(rank, chance.random() < 0.95) for rank in ranks]

    def steps(some: Sequence[tuple[int, bool]]) -> None:
        nonlocal inserted
        for rank, reads in some:
            if reads:
                get(known[-1 - rank])
            else:
                known.append(f"inserted:{seed}:{inserted:09d}")
                put(known[-1], values[inserted % len(values)])
                inserted += 1

    def remove() -> None:
        for key in known[len(keys) :]:
            delete(key)
        del known[len(keys) :]

    return Drawn(operations, steps, after=remove)


def _short_ranges(peer: Peer, keys: list[str], values: list[Any], seed: int) -> Drawn:
    """YCSB E: 95 % scans of up to 100 records from a popular key on, and 5 % inserts, here of records that are there."""
    chance = random.Random(seed)
    operations = [
        (key, chance.randint(1, RANGE), None if chance.random() < 0.95 else chance.choice(values))
        for key in popular(keys, seed)
    ]

    def steps(some: Sequence[tuple[str, int, Any]]) -> None:
        for key, count, value in some:
            if value is None:
                for _ in peer.range(key, count):
                    pass
            else:
                peer.set(key, value)

    return Drawn(operations, steps)


def _read_modify_write(peer: Peer, keys: list[str], values: list[Any], seed: int) -> Drawn:
    """YCSB F: 50 % reads, and 50 % that read a record, change a field and write it."""
    chance = random.Random(seed)
    get, put = peer.get, peer.set

    def steps(some: Sequence[tuple[str, bool]]) -> None:
        for key, changes in some:
            record = get(key)
            if changes:
                put(key, {**record, "field0": key})

    return Drawn([(key, chance.random() < 0.5) for key in popular(keys, seed)], steps)


WORKLOADS = (
    Workload("read hot (Zipf)", _read_hot, writes=False),
    Workload(
        "read cold",
        _read_cold,
        writes=False,
        reopened=True,
        suits=lambda contender: contender.reopens,
        unsuited="finds nothing when it is opened again",
    ),
    Workload("write", _write),
    Workload(f"write in batches of {BATCH:,}", _write_batch),
    Workload("delete", _delete),
    Workload("scan", _scan, writes=False, suits=lambda contender: contender.scans, unsuited="doesn't list what it has"),
    Workload("mixed 95/5", _mixed(0.95)),
    Workload("mixed 50/50", _mixed(0.5)),
)
SHARED = tuple(WORKLOADS[number] for number in (0, 2, 6, 7))
"""Those that several threads or processes do at once."""
YCSB = (
    Workload("A: 50 % reads, 50 % updates", _mixed(0.5)),
    Workload("B: 95 % reads, 5 % updates", _mixed(0.95)),
    Workload("C: reads alone", _read_hot, writes=False),
    Workload("D: 95 % reads of the latest, 5 % inserts", _read_latest),
    Workload(
        "E: 95 % short ranges, 5 % writes",
        _short_ranges,
        suits=lambda contender: contender.ordered,
        unsuited="keeps no key order",
    ),
    Workload("F: 50 % reads, 50 % read-modify-write", _read_modify_write),
)


def filled(peer: Peer, count: int, values: list[Any]) -> list[str]:
    """The keys, now all in the peer."""
    keys = names(count)
    for at in range(0, count, BATCH * 10):
        peer.set_many(dict(zip(keys[at : at + BATCH * 10], itertools.cycle(values), strict=False)))
    return keys
