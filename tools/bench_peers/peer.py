"""What the benchmark asks of a peer, and what is stored in it."""

from __future__ import annotations

import base64
import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgpack

from bench.arrays import library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

Durability = Literal["flushed", "survives the process", "memory"]
"""What an acknowledged write survives: a power cut; the end of the process; nothing that ends the process."""


class Peer(Protocol):
    """One open store of whatever make. ``get`` and ``set`` are its own methods where that is possible: no call between."""

    @property
    def get(self) -> Callable[[str], Any]:
        """The value; what happens where there is none is the peer's own."""

    @property
    def set(self) -> Callable[[str, Any], object]:
        """One write, as durable as the contender's row says when it returns."""

    @property
    def set_many(self) -> Callable[[Mapping[str, Any]], object]:
        """All of them in the fewest commits that the peer can do it in."""

    def delete(self, key: str) -> None:
        """Remove one record, as durably as ``set`` writes one."""

    def scan(self) -> Iterable[tuple[Any, Any]]:
        """Every record, decoded, in the peer's own order."""

    def range(self, start: str, count: int) -> Iterable[tuple[Any, Any]]:
        """Up to ``count`` records from ``start`` on, in key order. Only asked of contenders with ``ordered``."""

    @property
    def close(self) -> Callable[[], object]:
        """Let go of it; the files stay."""


@dataclass(frozen=True, slots=True)
class Payload:
    """A kind of value, how many records of it are stored, and its bytes for peers that store nothing else."""

    name: str
    records: int
    make: Callable[[random.Random], Any]
    pack: Callable[[Any], bytes] = msgpack.packb
    unpack: Callable[[bytes], Any] = msgpack.unpackb

    def values(self, count: int, *, seed: int = 11) -> list[Any]:
        """Different values from a seed; letters and floats at random, so that no peer gains by compressing."""
        chance = random.Random(seed)
        return [self.make(chance) for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Contender:
    """A peer at one durability, and what it can do."""

    name: str
    durability: Durability
    make: Callable[[Path, Payload], Peer]
    threads: bool = True
    """Whether its threads may share it; where not, the benchmark puts a lock around it."""
    processes: bool = False
    """Whether several processes may have it open."""
    ordered: bool = False
    scans: bool = True
    reopens: bool = True
    """Whether what was in it is found after it was closed. zict.Cache knows only the keys that it was given itself."""
    maps: bool = False
    """Whether it writes by way of a memory map, of which the system counts nothing."""
    most_records: int = 100_000
    """More than these it is not filled with: it would take longer than all the rest."""

    def __str__(self) -> str:
        return f"{self.name} ({self.durability})"


class Locked:
    """A peer that isn't safe for threads, with a lock around each read and write, as its user would put there."""

    def __init__(self, peer: Peer) -> None:
        lock = threading.Lock()
        peer_get, peer_set = peer.get, peer.set

        def get(key: str) -> Any:
            with lock:
                return peer_get(key)

        def put(key: str, value: Any) -> None:
            with lock:
                peer_set(key, value)

        self.get, self.set = get, put
        self.set_many, self.delete = peer.set_many, peer.delete
        self.scan, self.range, self.close = peer.scan, peer.range, peer.close


def _text(length: int) -> Callable[[random.Random], str]:
    return lambda chance: base64.b64encode(chance.randbytes(length)).decode("ascii")[:length]


def _vector(chance: random.Random) -> Any:
    return library("numpy").random.default_rng(chance.getrandbits(32)).random(512, "float32")


def _vector_bytes(vector: Any) -> bytes:
    items: bytes = vector.tobytes()
    return items


def _vector_of(items: bytes) -> Any:
    return library("numpy").frombuffer(items, "float32")


def _record(chance: random.Random) -> dict[str, str]:
    make = _text(100)
    return {f"field{number}": make(chance) for number in range(10)}


SMALL = Payload("100 B", 10_000, _text(100))
MEDIUM = Payload("2 KB", 10_000, _text(2_000))
LARGE = Payload("64 KB", 400, _text(64_000))
VECTOR = Payload("512 floats", 10_000, _vector, _vector_bytes, _vector_of)
PAYLOADS = (SMALL, MEDIUM, LARGE, VECTOR)
YCSB_RECORD = Payload("10 fields of 100 B", 10_000, _record)
