"""What is stored in the benchmarks, and the stores and peers that hold it."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import lmdb
import msgpack

import kvstore
from kvstore import keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

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


@contextmanager
def raw_lmdb(place: Path, items: Mapping[str, object]) -> Iterator[lmdb.Environment]:
    """The peer: py-lmdb with msgpack, opened and filled as a careful user of it would."""
    path = place / "theirs.mdb"
    with lmdb.open(str(path), subdir=False, map_size=4 * 1024 * MIB, max_spare_txns=8) as environment:
        with environment.begin(write=True) as transaction:
            for key, value in items.items():
                transaction.put(keys.encode(key), msgpack.packb(value))
        yield environment
