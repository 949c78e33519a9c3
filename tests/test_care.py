"""Backing up and compacting: hot, atomic, and nobody notices."""

from __future__ import annotations

import errno
import itertools
import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import kvstore
from kvstore import ReadOnlyError, StoreBusyError, StoreClosedError, StoreIOError
from kvstore.backends import lmdb_env
from kvstore.memory import MemoryTier
from tests.conftest import ROOT
from tests.interrupts import everywhere
from tests.other_process import with_store
from tests.threads import PATIENCE_SECONDS, at_once
from tests.tiers import assert_books_balance, assert_memory_is_true

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


# -- backup ----------------------------------------------------------------------------------------


def test_a_backup_is_a_store_with_the_same_records(store, tmp_path):
    store.backup(tmp_path / "backup.kv")
    with kvstore.open(tmp_path / "backup.kv", durability="none") as copy:
        assert records(copy) == records(store)
        assert copy.ttl("ends") == pytest.approx(store.ttl("ends"), abs=60)
        assert copy.verify().ok
        copy["a"] = "changed"
        assert store["a"] == 1


@pytest.mark.parametrize("as_path", [str, os.fspath, lambda path: path])
def test_it_takes_a_path_of_any_form(store, tmp_path, monkeypatch, as_path):
    monkeypatch.chdir(tmp_path)
    store.backup(as_path(tmp_path / "one.kv"))
    store.backup("two.kv")
    assert (tmp_path / "one.kv").read_bytes() == (tmp_path / "two.kv").read_bytes()


def test_it_has_no_free_pages(store, tmp_path):
    store.delete_many(range(300))
    store.backup(tmp_path / "backup.kv")
    assert (tmp_path / "backup.kv").stat().st_size < store.stats().file_bytes // 2


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
def test_it_has_the_permissions_of_the_store(store, store_path, tmp_path, mode):
    store_path.chmod(mode)
    before = os.umask(0o077)
    try:
        store.backup(tmp_path / "backup.kv")
    finally:
        os.umask(before)
    assert (tmp_path / "backup.kv").stat().st_mode & 0o777 == mode


def test_it_never_overwrites(store, store_path, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    (tmp_path / "link").symlink_to(taken)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    before = names(tmp_path)
    for target in (taken, tmp_path / "link", tmp_path / "dangling", tmp_path / "folder", store_path):
        with pytest.raises(StoreIOError) as caught:
            store.backup(target)
        assert caught.value.errno == errno.EEXIST
    assert names(tmp_path) == before
    assert taken.read_text() == "mine"
    assert records(store)


def test_one_that_fails_leaves_nothing_behind(store, tmp_path, monkeypatch):
    with pytest.raises(StoreIOError) as caught:
        store.backup(tmp_path / "no" / "backup.kv")
    assert caught.value.errno == errno.ENOENT

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = names(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(kvstore.KvstoreError, match="space"):
        store.backup(tmp_path / "backup.kv")
    assert names(tmp_path) == before


def test_one_that_is_interrupted_anywhere_leaves_nothing_or_all_of_it(store, tmp_path):
    folder = tmp_path / "backups"
    folder.mkdir()
    target = folder / "backup.kv"
    for place in everywhere(lambda: store.backup(target)):
        # A signal in the cleaning up itself may leave the draft, under a name that nobody opens.
        left = [name for name in names(folder) if not name.startswith("backup.kv.new-")]
        assert left in ([], ["backup.kv"]), place
        if target.exists():
            with kvstore.open(target, readonly=True) as copy:
                assert len(copy) == len(store), place
            for path in folder.iterdir():
                path.unlink()
    assert target.exists()


def test_it_is_of_one_moment_whatever_is_written_meanwhile(store, tmp_path):
    names_ = [f"part {number}" for number in range(50)]
    store.set_many(dict.fromkeys(names_, 0))
    done = threading.Event()

    def write():
        for number in itertools.count(1):
            if done.is_set():
                return
            store.set_many(dict.fromkeys(names_, number))
            store.namespace("n")["number"] = number
            store[("large", number % 7)] = bytes(20_000)

    def back_up():
        try:
            for number in range(12):
                store.backup(tmp_path / f"{number}.kv")
        finally:
            done.set()

    at_once(write, back_up)
    seen = []
    for number in range(12):
        with kvstore.open(tmp_path / f"{number}.kv", durability="none") as copy:
            assert copy.verify().ok
            (found,) = set(copy.get_many(names_).values())
            assert found - 1 <= copy.namespace("n").get("number", 0) <= found
            seen.append(found)
    assert seen == sorted(seen)


def test_it_waits_for_no_transaction_and_shows_none(store, store_path, tmp_path):
    with store.transaction() as tx:
        tx["a"] = "not yet"
        store.backup(tmp_path / "mine.kv")
    with with_store(store_path, durability="none") as other:
        other("tx = store.transaction(); tx.__enter__(); tx['a'] = 'theirs'")
        store.backup(tmp_path / "theirs.kv")
    for name, value in (("mine", 1), ("theirs", "not yet")):
        with kvstore.open(tmp_path / f"{name}.kv", readonly=True) as copy:
            assert copy["a"] == value


def test_a_readonly_store_can_be_backed_up_and_a_closed_one_not(store, store_path, tmp_path):
    expected = records(store)
    store.close()
    with kvstore.open(store_path, readonly=True) as reader:
        reader.backup(tmp_path / "backup.kv")
    with kvstore.open(tmp_path / "backup.kv", readonly=True) as copy:
        assert records(copy) == expected
    with pytest.raises(StoreClosedError):
        reader.backup(tmp_path / "another.kv")
    assert not (tmp_path / "another.kv").exists()


# -- compact ---------------------------------------------------------------------------------------


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


# A file that Python was just opening when it was interrupted is closed by the garbage collector, who says so.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


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


# -- closing ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's list of open files")
@pytest.mark.parametrize("used", [lambda store: None, lambda store: store.compact()], ids=["written", "compacted"])
def test_a_closed_store_has_no_file_open_though_it_is_kept(tmp_path, used):
    store = kvstore.open(tmp_path / "store.kv", durability="none")
    store["a"] = 1
    used(store)
    store.close()
    names = [
        os.readlink(f"/proc/self/fd/{number}")
        for number in os.listdir("/proc/self/fd")
        if number.isdigit() and os.path.lexists(f"/proc/self/fd/{number}")
    ]
    assert not [name for name in names if name.startswith(os.fspath(tmp_path))]
    assert os.fspath(tmp_path) not in Path("/proc/self/maps").read_text()
    with pytest.raises(StoreClosedError):
        store["a"]
