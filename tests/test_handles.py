"""Several handles of one store in one process share its file: what they can't share is refused, and nothing is promised that the
file doesn't keep.
"""

from __future__ import annotations

import itertools
import os
import shutil

import pytest

import kvstore
from kvstore import StoreBusyError, engine

DURABILITIES = ("full", "relaxed", "none")


@pytest.mark.parametrize(("first", "second"), [*itertools.permutations(DURABILITIES, 2)])
def test_a_handle_of_another_durability_is_refused_and_the_first_goes_on(store_path, first, second):
    with kvstore.open(store_path, durability=first) as store:
        with pytest.raises(StoreBusyError, match=rf"durability='{first}'.*close that handle first"):
            kvstore.open(store_path, durability=second)
        store["a"] = 1
        with kvstore.open(store_path, durability=first) as other:
            assert other["a"] == 1
    with kvstore.open(store_path, durability=second) as store:
        assert store["a"] == 1


@pytest.mark.parametrize(("first", "second"), [(None, 1 << 20), (1 << 20, None), (1 << 20, 1 << 21)])
def test_a_handle_of_another_limit_is_refused(store_path, first, second):
    with kvstore.open(store_path, durability="none", max_size=first) as store:
        with pytest.raises(StoreBusyError, match=f"max_size={first}"):
            kvstore.open(store_path, durability="none", max_size=second)
        store["a"] = 1


def test_a_handle_that_writes_is_refused_where_the_file_is_open_for_reading_alone(store_path):
    kvstore.open(store_path).close()
    with kvstore.open(store_path, readonly=True), pytest.raises(StoreBusyError, match="readonly=True"):
        kvstore.open(store_path)


def test_a_handle_that_only_reads_takes_the_file_as_it_is_open(store_path):
    with kvstore.open(store_path, durability="none", max_size=1 << 20) as store:
        store["a"] = 1
        with kvstore.open(store_path, readonly=True) as reader:
            assert reader["a"] == 1
            with pytest.raises(kvstore.ReadOnlyError):
                reader["a"] = 2


def test_a_file_that_has_taken_the_place_of_the_one_that_is_open_is_refused_until_that_is_closed(store_path, tmp_path):
    with kvstore.open(tmp_path / "another.kv") as another:
        another["a"] = "another"
    with kvstore.open(store_path) as store:
        store["a"] = 1
        os.replace(tmp_path / "another.kv", store_path)
        with pytest.raises(StoreBusyError, match="replaced by another file"):
            kvstore.open(store_path)
        assert store["a"] == 1
    with kvstore.open(store_path) as store:
        assert store["a"] == "another"


def test_a_file_that_is_replaced_while_it_is_being_opened_is_opened_anew(store_path, tmp_path, monkeypatch):
    """As by the compaction of another process, which ends in the midst of it."""
    with kvstore.open(store_path, durability="none") as store:
        store["a"] = 1
    connect, connected = engine.connect, []

    def replaced_meanwhile(identity, options):
        backend = connect(identity, options)
        if not connected:
            shutil.copy(store_path, tmp_path / "compacted.kv")
            os.replace(tmp_path / "compacted.kv", store_path)
        connected.append(backend)
        return backend

    monkeypatch.setattr(engine, "connect", replaced_meanwhile)
    with kvstore.open(store_path, durability="none") as store:
        store["a"] = 2
    assert len(connected) == 2
    with kvstore.open(store_path, durability="none") as store:
        assert store["a"] == 2
