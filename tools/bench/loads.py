"""Loads as caches see them, from a seed or a trace, and what a store counts when it serves one."""

from __future__ import annotations

import bisect
import csv
import gzip
import itertools
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kvstore
from bench.rows import NotMeasurableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kvstore import Stats

CLOUDPHYSICS = "cloudphysics.csv.gz"


def zipf(skew: float, *, keys: int, accesses: int, seed: int = 1) -> list[int]:
    """Keys in the order they are asked for: the k-th most popular one ``k ** -skew`` times as often as the first."""
    chance = random.Random(seed)
    numbers = list(range(keys))
    chance.shuffle(numbers)
    weights = list(itertools.accumulate(rank**-skew for rank in range(1, keys + 1)))
    return [numbers[bisect.bisect(weights, chance.random() * weights[-1])] for _ in range(accesses)]


def trace(name: str, column: str) -> list[int]:
    """The keys of a trace, a CSV file of that name in ``$KVSTORE_TRACES`` or in ``shared/data`` beside the source tree."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    path = Path(os.environ.get("KVSTORE_TRACES", beside)) / name
    if not path.exists():
        raise NotMeasurableError(f"there is no {name}; set KVSTORE_TRACES to the directory that it is in")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        return [int(row[column]) for row in csv.DictReader(lines)]


def value(key: int) -> str:
    """A value for each key, of its own size."""
    return "x" * (40 + key * 7919 % 160)


def fill(path: Path, keys: Iterable[int]) -> None:
    """A store that has a value for each of the keys."""
    with kvstore.open(path, durability="none", cache_size=0) as store:
        store.set_many({key: value(key) for key in keys})


def serve(store: kvstore.Store, load: Sequence[int]) -> None:
    """Look each key up."""
    for key in load:
        store[key]


def measured(path: Path, load: Sequence[int], **options: Any) -> Stats:
    """What a store opened with these options has counted when it has served the load."""
    with kvstore.open(path, durability="none", **options) as store:
        serve(store, load)
        return store.stats()
