"""The order of a write-through: forget in memory, commit to the file, then remember in memory, whichever way a write goes."""

from __future__ import annotations

import contextlib

import pytest

import kvstore
from kvstore import keys, record
from kvstore.coherence import Ring
from kvstore.commit_write import Write
from kvstore.memory import MemoryTier
from tests.other_process import with_plain_lmdb, with_store
from tests.tiers import assert_books_balance, assert_memory_is_true


def change_in_a_transaction(store):
    with store.transaction() as transaction:
        transaction["a"] = transaction.namespace("n")["a"] = "new"


def in_a_batch(store):
    """As writers do that find somebody else at it."""
    committer = store._engine.committer
    writes = []
    with committer.turn():
        for value in ("newer", "new"):
            prepared = store._prepare("a", value, None)
            write = Write(lambda txn, prepared=prepared: store._put(txn, prepared), store._tier)
            writes.append(write)
            committer._waiting.append(write)
    for write in writes:
        assert write.wait(60)
    return writes


WRITES = {
    "set": lambda store: store.set("a", "new"),
    "set_many": lambda store: store.set_many({"a": "new", "other": 1}),
    "delete": lambda store: store.delete("a"),
    "modify": lambda store: store.modify("a", lambda value: "new"),
    "transaction": change_in_a_transaction,
    "batch": in_a_batch,
}


@pytest.fixture(params=["alone", "two handles", "two processes"])
def store(request, store_path):
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(kvstore.open(store_path, durability="none"))
        store["a"] = store.namespace("n")["a"] = "old"
        store["b"] = "before"  # after which a set goes the short way
        if request.param == "two handles":
            opened.enter_context(kvstore.open(store_path, durability="none"))
        if request.param == "two processes":
            opened.enter_context(with_store(store_path, durability="none"))
        assert store["a"] == store.namespace("n")["a"] == "old"
        yield store


def in_file(store, key="a"):
    raw, _ = store._engine.backend.get("", keys.encode(key))
    return None if raw is None else record.load(keys.encode(key), raw)[0]


def watched(monkeypatch, at, *, after=False):
    """Call ``at`` with a word whenever the change is announced, and whenever memory is told that it took place: before that is
    done, or ``after`` it.
    """

    def watching(kind, name, word):
        method = getattr(kind, name)

        def watch(one, commit, *about):
            if after:
                method(one, commit, *about)
            if commit:  # not where a note is given up
                at(word)
            return None if after else method(one, commit, *about)

        monkeypatch.setattr(kind, name, watch)

    for name in ("note", "note_one", "publish", "publish_one"):
        watching(Ring, name, "announced")
    for name in ("wrote", "wrote_one"):
        watching(MemoryTier, name, "committed")


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_memory_forgets_what_is_written_before_the_commit_and_remembers_it_after(store, monkeypatch, write):
    seen = []
    with monkeypatch.context() as patch:
        watched(patch, lambda word: seen.append((word, "a" in store._front, in_file(store))))
        write(store)
    after = None if write is WRITES["delete"] else "new"
    assert seen == [("announced", False, "old"), ("committed", False, after)]
    assert store.get("a") == in_file(store) == after
    assert ("a" in store._front) == (after is not None)
    assert_books_balance(store)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("write", [write for name, write in WRITES.items() if name != "batch"])
def test_memory_has_nothing_of_a_write_that_fails(store, store_path, monkeypatch, write, error):
    def fail(word):
        assert word == "announced"
        raise error("no")

    with monkeypatch.context() as patch, pytest.raises(error):
        watched(patch, fail)
        write(store)
    assert "a" not in store._front
    assert_books_balance(store)
    assert store["a"] == in_file(store) == "old"
    with kvstore.open(store_path, durability="none", cache_size=0) as fresh:
        assert_memory_is_true(store, fresh)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("name", ["set", "set_many", "transaction"])
def test_what_a_failed_write_has_announced_is_not_taken_for_what_the_next_one_changed(
    store, store_path, monkeypatch, name, error
):
    """The id that it was to have goes to whoever commits next, a program that announces nothing."""

    def fail(word):
        raise error("no")

    with with_plain_lmdb(store_path) as foreign:
        assert store["b"] == "before"
        with monkeypatch.context() as patch, pytest.raises(error):
            watched(patch, fail, after=True)
            WRITES[name](store)
        foreign("put('b', 'foreign')")
        assert store["b"] == "foreign"
        assert store["a"] == "old"
        assert_books_balance(store)


def test_writers_of_a_batch_that_is_interrupted_when_the_file_may_have_it_are_told_so(store, monkeypatch):
    def interrupt(word):
        if word == "committed":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        watched(patch, interrupt)
        writes = in_a_batch(store)
    assert {type(write.error) for write in writes} == {kvstore.TransactionError}
    assert store["a"] == in_file(store) == "new"
