"""The mapping contract, on every mapping that the library has."""

from __future__ import annotations

import contextlib

import cachetools
import pytest

pytest.register_assert_rewrite(
    "tests.mapping_contract", "tests.mapping_writing_contract", "tests.mapping_judge"
)

import kvstore  # noqa: E402
from tests.mapping_contract import ReadingContract  # noqa: E402
from tests.mapping_writing_contract import SnapshotIterationContract, WritingContract  # noqa: E402


class OwnPolicy(cachetools.LRUCache):
    """A policy of a user's own: keeps at most three entries, whatever they cost."""

    def __setitem__(self, key, value, **options):
        super().__setitem__(key, value, **options)
        while len(self) > 3:
            self.popitem()


def a_store(**options):
    """How to make a store with exactly these items at a path."""

    @contextlib.contextmanager
    def filled(path, items):
        with kvstore.open(path, durability="none", **options) as store:
            store.clear()
            store.set_many(items)
            yield store

    return filled


@contextlib.contextmanager
def a_cold_store(path, items):
    """A handle that has read nothing yet: everything comes from the file first."""
    with a_store(cache_size=0)(path, items), kvstore.open(path, durability="none") as store:
        yield store


MAPPINGS = {
    "store": a_store(),
    "store without memory": a_store(cache_size=0),
    "store with a tiny memory": a_store(cache_size=1_500),
    "store that starts cold": a_cold_store,
    "store with fifo": a_store(policy="fifo", cache_size=4_000),
    "store with lfu": a_store(policy="lfu", cache_size=4_000),
    "store with random": a_store(policy="random", cache_size=4_000),
    "store with an own policy": a_store(policy=OwnPolicy),
}
"""Each takes a path and items, and is a context manager that gives the mapping."""


@pytest.fixture(scope="module", params=MAPPINGS.values(), ids=MAPPINGS)
def make(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("mapping") / "store.kv"
    # While one handle is open, opening another one is cheap.
    with kvstore.open(path, cache_size=0, durability="none"):
        yield lambda items: request.param(path, items)


class TestReading(ReadingContract):
    pass


class TestWriting(WritingContract):
    pass


class TestIterating(SnapshotIterationContract):
    pass
