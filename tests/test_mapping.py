"""The mapping contract, on every mapping that the library has."""

from __future__ import annotations

import contextlib
import sys

import pytest

CONTRACT = ("tests.mapping_contract", "tests.mapping_writing_contract", "tests.mapping_judge")
# Where another test file has imported one of them already, it is too late, and pytest warns.
pytest.register_assert_rewrite(*(name for name in CONTRACT if name not in sys.modules))

import kvstore  # noqa: E402
from tests import policies  # noqa: E402
from tests.mapping_contract import ReadingContract  # noqa: E402
from tests.mapping_writing_contract import SnapshotIterationContract, WritingContract  # noqa: E402


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


def a_namespace(**options):
    """How to make a namespace, beside others that have the same keys."""

    @contextlib.contextmanager
    def filled(path, items):
        with a_store(**options)(path, dict.fromkeys(items, "of the store")) as store:
            for name in ("a", "mine", "z"):
                store.namespace(name).clear()
                store.namespace(name).set_many(dict.fromkeys(items, f"of {name}"))
            store.namespace("mine").set_many(items)
            yield store.namespace("mine")
            assert set(store.namespace("z").values()) <= {"of z"}
            assert set(store.values()) <= {"of the store"}

    return filled


@contextlib.contextmanager
def a_transaction(path, items):
    """A transaction that has written everything itself."""
    with a_store()(path, {"before": 1}) as store, store.transaction() as transaction:
        transaction.namespace("mine").set_many(dict.fromkeys(items, "in another space"))
        transaction.clear()
        transaction.set_many(items)
        yield transaction


@contextlib.contextmanager
def a_transaction_over_a_store(path, items):
    """A transaction that has written nothing yet."""
    with a_store()(path, items) as store, store.transaction() as transaction:
        yield transaction


@contextlib.contextmanager
def a_namespace_in_a_transaction(path, items):
    with a_store()(path, dict.fromkeys(items, "of the store")) as store, store.transaction() as transaction:
        transaction.namespace("é mine").clear()
        transaction.namespace("é mine").set_many(items)
        yield transaction.namespace("é mine")


@contextlib.contextmanager
def a_snapshot(path, items):
    """A snapshot of a store in which everything has been written over since."""
    with a_store()(path, items) as store, store.snapshot() as snapshot:
        store.set_many(dict.fromkeys([*items, "later"], "later"))
        yield snapshot


@contextlib.contextmanager
def a_namespace_in_a_snapshot(path, items):
    with a_namespace()(path, items) as namespace, namespace._store.snapshot() as snapshot:
        namespace._store.drop_namespace("mine")
        yield snapshot.namespace("mine")


STORES = {
    "store": a_store(),
    "store without memory": a_store(cache_size=0),
    "store with a tiny memory": a_store(cache_size=1_500),
    "store that starts cold": a_cold_store,
    "store with fifo": a_store(policy="fifo", cache_size=4_000),
    "store with lfu": a_store(policy="lfu", cache_size=4_000),
    "store with random": a_store(policy="random", cache_size=4_000),
    "store with an own policy": a_store(policy=policies.Three),
    "namespace": a_namespace(),
    "namespace without memory": a_namespace(cache_size=0),
    "namespace with a tiny memory": a_namespace(cache_size=1_500),
}
TRANSACTIONS = {
    "transaction": a_transaction,
    "transaction over a store": a_transaction_over_a_store,
    "namespace in a transaction": a_namespace_in_a_transaction,
}
SNAPSHOTS = {
    "snapshot": a_snapshot,
    "namespace in a snapshot": a_namespace_in_a_snapshot,
}


ONCE_ENOUGH = {"store with fifo", "store with lfu", "store with random"}
"""What differs from the others only in what it evicts: the long tests alone read it and iterate over it, all write to it."""


def making(mappings, but=()):
    """A fixture ``make`` that goes through mappings: each a context manager, given a path and items."""
    params = [
        pytest.param(mapping, id=name, marks=pytest.mark.torture if name in but else ())
        for name, mapping in mappings.items()
    ]

    @pytest.fixture(scope="class", params=params)
    @classmethod
    def make(cls, request, tmp_path_factory):
        path = tmp_path_factory.mktemp("mapping") / "store.kv"
        # While one handle is open, opening another one is cheap.
        with kvstore.open(path, cache_size=0, durability="none"):
            yield lambda items: request.param(path, items)

    return make


class TestReading(ReadingContract):
    make = making(STORES | TRANSACTIONS | SNAPSHOTS, but=ONCE_ENOUGH)


class TestWriting(WritingContract):
    make = making(STORES | TRANSACTIONS)


class TestIterating(SnapshotIterationContract):
    make = making(STORES, but=ONCE_ENOUGH)
