"""Where functions are memoized in these tests, and what tells how often they ran."""

from __future__ import annotations

import pytest

import kvstore
from kvstore.engine import ClosedEngine


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store
        if not isinstance(store._engine, ClosedEngine):
            assert not store._engine.flights._flights  # whatever a test did, nothing is left claimed


@pytest.fixture
def again(store_path):
    """Handles of the same file with a memory tier of their own, as another process has."""
    handles = []

    def opened(**options):
        handles.append(kvstore.open(store_path, durability="none", **options))
        return handles[-1]

    yield opened
    for handle in handles:
        handle.close()


@pytest.fixture
def ran():
    return []
