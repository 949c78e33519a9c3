"""Memoized functions: a hit against one of functools.lru_cache, a cached batch against as many single hits."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from bench.rows import Limit, Measurement, NotMeasurableError, Row, row
from bench.timing import clock, compare, loop
from bench.workloads import copies, names, our_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import kvstore

ROUNDS = 61
BATCH = 256
DIMENSIONS = 384


def describe(name: str, width: int = 100, scale: float = 1.5) -> str:
    """A function of scalars."""
    return f"{name} {width} {scale}"


def hit_row(what: str, call: str) -> Row:
    """Hits on a function of scalars, 100 different calls in turn: as a store's user and as lru_cache's would make them."""

    def measure(place: Path) -> Measurement:
        asked = names(100)
        with our_store(place, {}) as store:
            ours = store.memoize(name="describe")(describe)
            theirs = functools.lru_cache(maxsize=None)(describe)
            for name in asked:
                ours(name), theirs(name), ours(name, 7, 0.5), theirs(name, 7, 0.5)
            before = ours.stats()
            result = compare(
                loop(call, copies(asked), function=ours), loop(call, copies(asked), function=theirs), rounds=ROUNDS
            )
            if (ours.stats() - before).misses:
                raise RuntimeError("a row of hits has measured misses")
        return result

    return Row(f"memoized hit, {what}", "the same function under functools.lru_cache", Limit(at_most=12), measure)


def embedding_function(store: kvstore.Store) -> tuple[Callable[[str], Any], Callable[[list[str]], Any]]:
    """A model that embeds a text in 384 float32, memoized by itself and for batches."""
    try:
        import numpy as np  # noqa: PLC0415  # an extra
    except ImportError:
        raise NotMeasurableError("numpy is not installed") from None

    def embed(text: str) -> Any:
        return np.full(DIMENSIONS, len(text), np.float32)

    def embed_all(texts: list[str]) -> list[Any]:
        return [embed(text) for text in texts]

    return store.memoize(name="embed")(embed), store.memoize(name="embed_all", batch=True)(embed_all)


@row(f"batch of {BATCH} embeddings, all cached", f"{BATCH} single memoized hits", at_most=0.5)
def cached_batch(place: Path) -> Measurement:
    """A list of arrays, for a list of texts."""
    texts = [f"{name}, and what there is to say of it" for name in names(BATCH)]
    with our_store(place, {}) as store:
        embed, embed_all = embedding_function(store)
        for _ in range(2):
            if len(embed_all(texts)) != len([embed(text) for text in texts]):
                raise RuntimeError("a batch has lost items")
        before = store.stats()
        result = compare(
            clock(lambda: [embed_all(texts) for _ in range(64)], operations=64),
            clock(lambda: [[embed(text) for text in texts] for _ in range(64)], operations=64),
            rounds=ROUNDS,
        )
        if (store.stats() - before).misses:
            raise RuntimeError("a row of hits has measured misses")
    return result


ROWS = (
    hit_row("a str", "function(key)"),
    hit_row("a str, an int and a float", "function(key, 7, 0.5)"),
    cached_batch,
)
