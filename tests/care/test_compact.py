"""Compacting: in one step, as small as can be, and nobody notices."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import lmdb
import pytest

import kvstore
from kvstore import ReadOnlyError, StoreBusyError, StoreClosedError, StoreCorruptError
from kvstore.backends import lmdb_env, lmdb_rewrite
from kvstore.memory import MemoryTier
from tests.care.conftest import ITEMS, names, records
from tests.conftest import ROOT
from tests.interrupts import everywhere
from tests.other_process import with_store
from tests.threads import PATIENCE_SECONDS, at_once
from tests.tiers import assert_books_balance, assert_memory_is_true

# A file that Python was just opening when it was interrupted is closed by the garbage collector, who says so.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def commit_of(store):
    return max(cell[0] for cell in store._engine.backend.commits)


def test_compacting_gives_back_what_is_free_and_changes_nothing(store, fresh, store_path, tmp_path):
    store.delete_many(range(250))
    expected, before, there = records(store), store.stats(), names(tmp_path)
    store.compact()
    after = store.stats()
    assert after.file_bytes < before.file_bytes // 2
    assert store_path.stat().st_size == after.file_bytes
    assert after.reclaimable_bytes < before.reclaimable_bytes // 4
    assert after.records == before.records
    assert records(store) == records(fresh) == expected
    assert store.verify().ok
    assert names(tmp_path) == there


@pytest.mark.parametrize("order", ["in order", "at random"])
def test_afterwards_the_pages_are_full_in_whatever_order_the_records_came(store_path, order):
    numbers = list(range(5000))
    if order == "at random":
        random.Random(1).shuffle(numbers)
    with kvstore.open(store_path, durability="none") as store:
        for space in (store, store.namespace("n")):
            for number in numbers:
                space[number] = "x" * 80
        expected = records(store)
        store.compact()
        # Key, record header, the node's own 8 bytes and its pointer are some 40 bytes of each.
        assert store.stats().file_bytes < 1.15 * 10_000 * (80 + 40)
        assert records(store) == expected
        assert store.verify().ok


def test_what_is_too_much_for_one_transaction_is_written_in_several(store, store_path, tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_rewrite, "_BYTES_AT_ONCE", 5_000)
    store["long"] = bytes(200_000)
    expected, there = records(store), names(tmp_path)
    for _ in range(3):
        before = commit_of(store)
        store.compact()
        assert commit_of(store) > before
        store["a"] = store["a"]
        assert records(store) == expected
        assert store.verify().ok
    store.close()
    with kvstore.open(store_path, durability="none") as again:
        assert records(again) == expected
        again["a"] = 2
        assert again.verify().ok
    assert names(tmp_path) == there


def test_somebody_elses_database_is_copied_as_it_is(store, store_path):
    expected = records(store)
    store.close()
    with lmdb.open(str(store_path), subdir=False, max_dbs=10) as env:
        theirs = env.open_db(b"theirs", dupsort=True, reverse_key=True)
        with env.begin(write=True, db=theirs) as txn:
            for number in range(10):
                txn.put(b"ab", str(number).encode())
                txn.put(b"ba", str(number).encode())
    with kvstore.open(store_path, durability="none") as again:
        again.compact()
        assert records(again) == expected
    with lmdb.open(str(store_path), subdir=False, max_dbs=10) as env:
        theirs = env.open_db(b"theirs", create=False)
        with env.begin(db=theirs) as txn:
            assert [key for key, _ in txn.cursor()] == [b"ba"] * 10 + [b"ab"] * 10


def test_a_file_with_pages_of_another_size_than_new_files_have_keeps_its_own(store, monkeypatch):
    for number in range(1000, 3000):
        store[number] = "x" * 80
    expected = records(store)
    with monkeypatch.context() as patch:
        sizes = iter([4096, 16384, 4096])
        patch.setattr(lmdb_rewrite, "_page_size", lambda env: next(sizes))
        store.compact()
    assert next(sizes, None) is None
    copied = store.stats().file_bytes
    assert records(store) == expected
    assert store.verify().ok
    store.compact()
    assert store.stats().file_bytes < 0.8 * copied


@pytest.mark.parametrize("by", [-1, 1])
def test_a_store_with_other_records_than_its_own_count_says_is_left_as_it_is(store, store_path, tmp_path, by):
    there = names(tmp_path)
    store.close()
    content = bytearray(store_path.read_bytes())
    for meta in (0, 4096):
        counted = int.from_bytes(content[meta + 120 : meta + 128], sys.byteorder)
        content[meta + 120 : meta + 128] = (counted + by).to_bytes(8, sys.byteorder)
    store_path.write_bytes(content)
    with kvstore.open(store_path, durability="none") as again:
        with pytest.raises(StoreCorruptError, match=r"store\.kv: the records of the space '' .* run verify"):
            again.compact()
        assert again["a"] == 1
    assert store_path.read_bytes() == content
    assert names(tmp_path) == there


def test_memory_keeps_what_it_has(store, fresh):
    assert store["a"] == 1
    before = store.stats()
    store.compact()
    for _ in range(2):
        assert store.get_many(ITEMS) == ITEMS
        assert store.namespace("n").get_many("ab") == {"a": "in n", "b": [1]}
    interval = store.stats() - before
    assert interval.misses == 0
    assert interval.hits == 2 * (len(ITEMS) + 2)
    assert_memory_is_true(store, fresh)
    assert_books_balance(store)


def test_every_handle_and_namespace_goes_on(store, store_path, fresh):
    handle = kvstore.open(store_path, durability="none")
    spaces = [store.namespace("n"), handle.namespace("n"), fresh.namespace("n"), store.namespace("new")]
    assert handle["a"] == 1
    for step in range(5):
        store.compact()
        spaces[step % 4]["step"] = [step]
        handle["a"] = step
        for space in spaces[:3]:
            assert space["a"] == "in n"
            assert space["step"] == spaces[0]["step"]
        assert store["a"] == handle["a"] == fresh["a"] == step
        with store.transaction() as tx:
            tx.incr("count")
            tx.namespace("made").incr("count")
        assert store["count"] == handle["count"] == fresh["count"] == step + 1
        with store.snapshot() as snapshot:
            assert snapshot.namespace("made")["count"] == step + 1
    handle.close()
    with with_store(store_path, durability="none") as other:
        assert other("store.get_many(['a', 'count'])") == {"a": 4, "count": 5}
        other("store['a'] = 'theirs'")
        assert store["a"] == fresh["a"] == "theirs"
    assert_memory_is_true(store, fresh)


def test_the_new_file_has_the_permissions_of_the_old_one(store, store_path):
    store_path.chmod(0o640)
    store.compact()
    assert store_path.stat().st_mode & 0o777 == 0o640


def test_an_empty_store_can_be_compacted(store_path):
    with kvstore.open(store_path) as store:
        store.compact()
        assert dict(store) == {}
        store["a"] = 1
        assert dict(store) == {"a": 1}


def test_it_is_refused_while_another_process_has_the_store_open(store, store_path):
    store.delete_many(range(250))
    size = store_path.stat().st_size
    with with_store(store_path, durability="none") as other:
        with pytest.raises(StoreBusyError, match="process"):
            store.compact()
        assert other("store['a']") == 1
        store["a"] = 2
        assert other("store['a']") == 2
        other("store.close()")
        store.compact()
        assert store_path.stat().st_size < size
        other(f"store = kvstore.open({str(store_path)!r})")
        assert other("store['a']") == 2
        with pytest.raises(StoreBusyError, match="process"):
            store.compact()


@pytest.mark.parametrize("reading", [iter, lambda store: iter(store.items()), lambda store: store.snapshot()])
def test_it_is_refused_while_something_is_being_read_and_that_goes_on(store, monkeypatch, reading):
    monkeypatch.setattr(lmdb_env, "_QUIESCE_SECONDS", 0.05)
    under_way = reading(store)
    next(iter(under_way))
    with pytest.raises(StoreBusyError, match="iteration"):
        store.compact()
    assert next(iter(under_way)) is not None
    store["a"] = 2
    assert store["a"] == 2
    if hasattr(under_way, "close"):
        under_way.close()
    del under_way
    store.compact()
    assert store["a"] == 2


def test_it_is_refused_where_nothing_may_be_written(store, store_path):
    store.close()
    with kvstore.open(store_path, readonly=True) as reader, pytest.raises(ReadOnlyError):
        reader.compact()
    with pytest.raises(StoreClosedError):
        store.compact()


def test_it_may_be_interrupted_anywhere(store, fresh, store_path, tmp_path):
    expected, there = records(store), names(tmp_path)
    store.close()
    # Its writes give up in time, should the interrupted call have left the way barred.
    store = kvstore.open(store_path, durability="none", timeout=PATIENCE_SECONDS / 10)
    for number, place in enumerate(everywhere(store.compact)):
        assert [name for name in names(tmp_path) if ".compact-" not in name] == there, place
        assert store["a"] == fresh["a"] == ITEMS["a"], place
        store["step"] = number
        assert store["step"] == fresh["step"] == number, place
        del store["step"]
        # Of the file that is there now, memory hears what others write.
        fresh["a"] = number
        assert store["a"] == number, place
        fresh["a"] = ITEMS["a"]
        assert store["a"] == ITEMS["a"], place
    assert records(store) == records(fresh) == expected
    assert_memory_is_true(store, fresh)
    store.close()


def test_a_handle_that_is_opened_meanwhile_goes_by_the_new_file(store, store_path, monkeypatch):
    def made_before_the_swap(*arguments):
        tier = MemoryTier(*arguments)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(store.compact).result(PATIENCE_SECONDS)
        return tier

    monkeypatch.setattr("kvstore.store.MemoryTier", made_before_the_swap)
    with kvstore.open(store_path, durability="none") as opened:
        for number in range(3):
            store["a"] = number
            assert [opened["a"], opened["a"]] == [number] * 2
        assert opened.stats().hits == 3


def test_handles_may_be_opened_while_others_are_told_of_the_new_file(store, store_path, monkeypatch):
    move_to, opened = MemoryTier.move_to, []

    def move_while_another_is_opened(tier, commits):
        with ThreadPoolExecutor(1) as pool:
            opened.append(pool.submit(kvstore.open, store_path, durability="none").result(PATIENCE_SECONDS))
        move_to(tier, commits)

    with kvstore.open(store_path, durability="none") as other, monkeypatch.context() as patch:
        patch.setattr(MemoryTier, "move_to", move_while_another_is_opened)
        store.compact()
        for number, reader in enumerate([other, *opened]):
            store["a"] = number
            assert [reader["a"], reader["a"]] == [number] * 2
            assert reader.stats().hits == 1
    for reader in opened:
        reader.close()


def test_one_that_fails_leaves_the_store_as_it_was(store, fresh, store_path, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    expected, there, inode = records(store), names(tmp_path), store_path.stat().st_ino
    for call in ("fsync", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            with pytest.raises(kvstore.KvstoreError, match="space"):
                store.compact()
        assert names(tmp_path) == there
        assert store_path.stat().st_ino == inode
        store["a"] = call
        assert store["a"] == fresh["a"] == call
        store["a"] = ITEMS["a"]
    assert records(store) == expected


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_that_is_killed_in_the_swap_leaves_a_whole_store(store, store_path, moment):
    expected = records(store)
    store.close()
    program = f"""
import os, signal, sys, kvstore
store = kvstore.open(sys.argv[1])
rename = os.rename
def killed(*arguments):
    if {moment!r} == "after":
        rename(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
os.rename = killed
store.compact()
"""
    done = subprocess.run([sys.executable, "-c", program, store_path], cwd=ROOT, check=False)
    assert done.returncode == -9
    with kvstore.open(store_path, durability="none") as again:
        assert records(again) == expected
        assert again.verify().ok
        again["a"] = 2
        again.compact()
        assert again["a"] == 2


def test_readers_and_writers_of_all_threads_notice_nothing(store, fresh):
    done = threading.Event()
    written = dict.fromkeys(range(4), 0)

    def write(key):
        number = 0
        while not done.is_set():
            number += 1
            store[key, "n"] = number
            written[key] = number
            assert store[key, "n"] == number

    def read(seed):
        rng = random.Random(seed)
        while not done.is_set():
            key = rng.randrange(4)
            least = written[key]
            assert store.get((key, "n"), 0) >= least
            assert fresh.get((key, "n"), 0) >= least
            assert store.namespace("n")["a"] == "in n"
            assert len(store.get_many([(key, "n"), "a", "b"])) >= 2

    def compact():
        try:
            for _ in range(10):
                store.compact()
        finally:
            done.set()

    at_once(compact, *(lambda key=key: write(key) for key in range(3)), *(lambda n=n: read(n) for n in range(3)))
    assert {key: store[key, "n"] for key in range(3)} == {key: written[key] for key in range(3)}
    assert_memory_is_true(store, fresh)
