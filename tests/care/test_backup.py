"""Backing up: hot, atomic, over nothing."""

from __future__ import annotations

import errno
import itertools
import os
import threading

import pytest

import kvstore
from kvstore import StoreClosedError, StoreIOError
from tests.care.conftest import names, records
from tests.interrupts import everywhere
from tests.other_process import with_store
from tests.threads import at_once

# A file that Python was just opening when it was interrupted is closed by the garbage collector, who says so.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


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
