"""A small store with something of everything, a reader of it, and what is compared of a store and its folder."""

from __future__ import annotations

import pytest

import kvstore

ITEMS = {"a": 1, "b": [2, [3]], ("t", 1): {"x": 1.5}, **{number: bytes(500) for number in range(300)}}


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        store.set_many(ITEMS)
        store.set("ends", "later", ttl=1_000)
        store.namespace("n").set_many({"a": "in n", "b": [1]})
        yield store


@pytest.fixture
def fresh(store_path, store):
    """A reader without memory."""
    with kvstore.open(store_path, durability="none", cache_size=0) as fresh:
        yield fresh


def records(store):
    return list(store.export_records())


def names(folder):
    return sorted(path.name for path in folder.iterdir())
