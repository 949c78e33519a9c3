"""What is stored in the benchmarks, and the stores and peers that hold it."""

from __future__ import annotations

import itertools
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import lmdb
import msgpack

import kvstore
from kvstore import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    Pack = Callable[[bytes, object], bytes]  # an encoded key and a value: the bytes to store

MIB = 2**20

_random = random.Random(7)

TEXT = "".join(_random.choices("abcdefghijklmnopqrstuvwxyz ", k=100))
RECORD = {"label": "python", "group": "code", "mime_type": "text/x-python", "score": 0.9837}
EMBEDDING = [_random.random() for _ in range(512)]


def names(count: int) -> list[str]:
    """Keys such as an application has: 19 characters, no two the same."""
    return [f"session:{number:011d}" for number in range(count)]


def copies(keys: list[str]) -> list[str]:
    """Equal keys that are other objects, as they are when a key arrives from outside."""
    return ["".join(key) for key in keys]


@contextmanager
def our_store(place: Path, items: Mapping[str, object], **options: Any) -> Iterator[kvstore.Store]:
    """A store that holds ``items``, at the defaults of ``kvstore.open`` but for ``options``."""
    with kvstore.open(place / "ours.kv", **options) as store:
        store.set_many(items)
        yield store


def plain(_: bytes, value: object) -> bytes:
    """What a user of py-lmdb would store: the value in msgpack."""
    packed: bytes = msgpack.packb(value)
    return packed


@contextmanager
def raw_lmdb(place: Path, items: Mapping[str, object], *, pack: Pack = plain) -> Iterator[lmdb.Environment]:
    """The peer: py-lmdb, opened and filled as a careful user of it would."""
    path = place / "theirs.mdb"
    with lmdb.open(str(path), subdir=False, map_size=4 * 1024 * MIB, max_spare_txns=8) as environment:
        with environment.begin(write=True) as transaction:
            for key, value in items.items():
                encoded = keys.encode(key)
                transaction.put(encoded, pack(encoded, value))
        yield environment


def their_commits(
    environment: lmdb.Environment, asked: Sequence[str], count: int, *, pack: Pack = plain
) -> Callable[[], None]:
    """``count`` durable puts, one commit each, of the keys in turn; keys and values are encoded beforehand."""
    puts = itertools.cycle([(encoded, pack(encoded, TEXT)) for encoded in map(keys.encode, asked)])

    def commits() -> None:
        for encoded, packed in itertools.islice(puts, count):
            with environment.begin(write=True) as transaction:
                transaction.put(encoded, packed)

    return commits
