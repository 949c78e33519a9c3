"""What the memory tier really costs when it is full, counted by tracemalloc in a process of its own."""

from __future__ import annotations

import gc
import random
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import kvstore
from bench.children import child
from bench.rows import Limit, Measurement, Row
from bench.workloads import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CACHE_SIZE = 8 * MIB

# No two values share an object, as no two values read from the file do. The second is a bound from below of
# what one record takes in memory, to tell how many fill the tier.
VALUES: dict[str, tuple[Callable[[int], object], int]] = {
    "small str": (lambda number: f"value {number:014d}", 100),
    "dict": (lambda number: {"label": f"class {number}", "group": "code", "score": number / 7}, 250),
    "nested": (
        lambda number: {"user": {"name": f"user {number}", "tags": [f"tag {number}", "a"]}, "at": number},
        200,
    ),
    "2 KB bytes": (lambda number: number.to_bytes(8, "big") * 256, 2_000),
}


def items(kind: str) -> Iterator[tuple[str, object]]:
    """Records enough to overfill the tier three times, each made when it is asked for."""
    make, size = VALUES[kind]
    return ((f"key {number:09d}", make(number)) for number in range(3 * CACHE_SIZE // size))


def footprint(kind: str, path: Path) -> int:
    """Bytes that Python's allocator holds for a full tier. Run in a fresh process, with tracing on."""
    with kvstore.open(path, cache_size=CACHE_SIZE, durability="none") as store:
        gc.collect()
        empty, _ = tracemalloc.get_traced_memory()
        store.set_many(items(kind))
        asked = [key for key, _ in items(kind)]
        random.Random(5).shuffle(asked)
        while asked:
            store[asked.pop()]
        if not store.stats().evictions:
            raise RuntimeError("the tier was to be full, and nothing was evicted")
        del asked
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - empty


def memory_row(kind: str) -> Row:
    """One kind of value; the ratio is of the bytes held to ``cache_size``."""

    def measure(place: Path) -> Measurement:
        held = int(child("-X", "tracemalloc", "-m", "bench.memory", kind, str(place / "ours.kv"), bytecode=place))
        return Measurement((held / CACHE_SIZE,), held, CACHE_SIZE, "B")

    return Row(f"memory of a full tier, {kind}", "cache_size", Limit(at_least=0.7, at_most=1.1), measure)


ROWS = tuple(map(memory_row, VALUES))

if __name__ == "__main__":
    print(footprint(sys.argv[1], Path(sys.argv[2])))
