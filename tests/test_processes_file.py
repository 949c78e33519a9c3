"""One file under several processes: it grows, it is compacted, and a handle travels from one to the other."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle

import pytest

import kvstore
from kvstore import StoreBusyError, StoreFullError
from kvstore.backends import Options
from kvstore.backends.lmdb import LmdbBackend
from tests.other_process import a_process
from tests.threads import at_once


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store


@pytest.fixture
def other(store_path, store):
    with a_process(store_path) as other:
        yield other


def grow(path, size):
    """What a process with a larger map does: write that many bytes."""
    backend = LmdbBackend(str(path), Options(durability="none"), map_size=1 << 30)
    with backend.transaction() as txn:
        for number in range(size // 1_000):
            txn.put("", b"\2grown %d" % number, bytes(1_000))
        txn.commit()
    backend.close()


@pytest.mark.parametrize("use", ["get", "read", "namespace", "write", "put", "transaction"])
def test_the_larger_map_of_another_process_is_followed(store_path, use):
    small = LmdbBackend(str(store_path), Options(durability="none"), map_size=1 << 20)
    with small.transaction() as txn:
        txn.put("", b"\2a", b"old")
        txn.put("n", b"\2a", b"old")
        txn.commit()
    spawn = multiprocessing.get_context("spawn")
    growing = spawn.Process(target=grow, args=(store_path, 4 << 20))
    growing.start()
    growing.join()
    assert growing.exitcode == 0
    match use:
        case "get":
            assert small.get("", b"\2grown 4000")[0] == bytes(1_000)
        case "read":
            with small.read() as view:
                assert view.get("", b"\2grown 4000") == bytes(1_000)
                assert view.count("") == (4 << 20) // 1_000 + 1
        case "namespace":
            assert small.get("n", b"\2a")[0] == b"old"
        case "write":
            small.write(lambda txn: (txn.put("", b"\2a", b"new"), txn.commit()))
            assert small.get("", b"\2a")[0] == b"new"
        case "put":
            small.put(b"\2a", b"new", lambda commit, key: None)
            assert small.get("", b"\2a")[0] == b"new"
        case "transaction":
            with small.transaction() as txn:
                assert txn.get("", b"\2grown 4000") == bytes(1_000)
    assert small.get("", b"\2grown 1")[0] == bytes(1_000)
    small.close()


def test_a_larger_map_is_followed_by_many_threads_at_once(store_path, monkeypatch):
    monkeypatch.setattr("kvstore.backends.lmdb_env._MAP_SIZE", 1 << 20)
    with kvstore.open(store_path, durability="none", cache_size=0) as store, a_process(store_path) as other:
        store["a"] = 1
        other.tell("for n in range(400): store[n] = bytes(20_000)")

        def read():
            while store.get(399) is None:
                assert store["a"] == 1
                assert len(store.get_many(["a", "b"])) == 1
                assert dict(store.scan(prefix="a")) == {"a": 1}

        def write():
            done = 0
            while done < 100:
                # In the instant in which the file fills the small map to its last page, this process has no room.
                with contextlib.suppress(StoreFullError):
                    store.incr("n")
                    done += 1

        at_once(read, read, read, write)
        assert other.answer() is None
        assert store["n"] == 100


def test_only_one_process_at_a_time_may_compact_and_only_alone(store, other):
    with pytest.raises(StoreBusyError, match="another process"):
        store.compact()
    with pytest.raises(RuntimeError, match=r"StoreBusyError.*another process"):
        other("store.compact()")
    at_once(*[lambda: pytest.raises(StoreBusyError, store.compact)] * 2)
    store["a"] = 1
    assert other("store['a']") == 1
    other.kill()
    store.compact()
    assert dict(store) == {"a": 1}


def test_two_that_try_to_compact_at_once_never_find_the_other_gone(store, other):
    store["a"] = 0
    other("def compact():\n    try: store.compact()\n    except kvstore.StoreBusyError: return 0\n    return 1")
    inode = store._engine.backend.inode()
    for number in range(60):
        other.tell("sum(compact() for _ in range(10))")
        for _ in range(10):
            with pytest.raises(StoreBusyError):
                store.compact()
        assert other.answer() == 0
        store["a"] = number
        assert other("store['a']") == number
    assert store._engine.backend.inode() == inode
    assert not store._engine.backend.replaced()


def test_who_opens_the_store_while_it_is_compacted_gets_the_file_that_stays(store_path):
    with kvstore.open(store_path, durability="none") as store, a_process(store_path) as other:
        store["n"] = 0
        other("store.close()")
        other.tell(
            "import time\n"
            "for _ in range(25):\n"
            "    time.sleep(0.003)\n"
            f"    with kvstore.open({str(store_path)!r}, durability='none') as store: store.incr('n')"
        )
        compacted = 0
        while store["n"] < 25:
            with contextlib.suppress(StoreBusyError):
                store.compact()
                compacted += 1
        assert other.answer() is None
        assert compacted > 0
        assert store["n"] == 25


def test_a_store_whose_ring_was_deleted_is_not_compacted_under_another_process(store_path, store):
    store_path.with_name("store.kv-ring").unlink()
    with a_process(store_path) as other:
        other("store['theirs'] = 1")
        with pytest.raises(StoreBusyError):
            store.compact()
        with contextlib.suppress(RuntimeError):
            other("store.compact()")
        other("store['theirs'] = 2")
        assert store["theirs"] == 2


def test_a_store_travels_by_pickle_and_is_the_same_store_elsewhere(store, other):
    store["a"] = 1
    other(f"import pickle; theirs = pickle.loads({pickle.dumps(store)!r})")
    other("theirs['a'] += 1")
    assert store["a"] == 2
    other(f"space = pickle.loads({pickle.dumps(store.namespace('n'))!r})")
    other("space['x'] = 1")
    assert store.namespace("n")["x"] == 1
