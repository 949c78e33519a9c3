"""Writers that wait share one commit, and each is told of its own write; who reads waits for no transaction."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

import kvstore
from kvstore import commit_company
from kvstore.backends.lmdb_write import WriteTxn
from kvstore.commit_write import Write
from kvstore.errors import RoomPendingError, StoreBusyError, StoreFullError, TransactionError
from tests.threads import PATIENCE_SECONDS, until
from tests.tiers import assert_books_balance, assert_memory_is_true


@pytest.fixture(params=["full", "none"])
def durability(request):
    return request.param


@pytest.fixture
def store(store_path, durability):
    with kvstore.open(store_path, durability=durability) as store:
        yield store


@pytest.fixture
def fresh(store_path, store, durability):
    """A reader without memory."""
    with kvstore.open(store_path, durability=durability, cache_size=0) as fresh:
        yield fresh


@pytest.fixture
def heard():
    """This process hears SIGINT, even where a shell has it ignore it, as it does in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def commits_of(store):
    return max(cell[0] for cell in store._engine.backend.commits)


@contextlib.contextmanager
def a_commit_under_way(store):
    """While the block runs, a transaction is open in another thread; it commits afterwards."""
    started, may_end = threading.Event(), threading.Event()

    def records():
        started.set()
        assert may_end.wait(PATIENCE_SECONDS)
        yield from ()

    with ThreadPoolExecutor(1) as pool:
        importing = pool.submit(store.import_records, records(), merge=True)
        assert started.wait(PATIENCE_SECONDS)
        try:
            yield
        finally:
            may_end.set()
            importing.result(PATIENCE_SECONDS)


def written_together(store, *writes):
    """Do the writes, each in a thread, so that one commit takes them all; what each gave or raised."""

    def outcome(write):
        try:
            return write()
        except Exception as error:  # whatever it is, it is looked at
            return error

    with ThreadPoolExecutor(len(writes)) as pool:
        with a_commit_under_way(store):
            futures = []
            for write in writes:
                futures.append(pool.submit(outcome, write))
                # One after another, so that the order of the writes is known.
                until(lambda: len(store._engine.committer._waiting) == len(futures))
        return [future.result(PATIENCE_SECONDS) for future in futures]


def test_writers_that_wait_share_one_commit(store, fresh):
    store["first"] = 0
    before = commits_of(store)
    written_together(store, *(lambda name=name: store.set(name, [name]) for name in range(20)))
    assert commits_of(store) == before + 1
    assert dict(fresh) == {"first": 0, **{name: [name] for name in range(20)}}
    assert store.get_many(range(20)) == {name: [name] for name in range(20)}
    assert_memory_is_true(store, fresh)


@pytest.mark.parametrize("space", ["", "named"])
def test_sets_that_share_a_commit_are_put_in_one_call_and_in_no_nested_transaction(store, monkeypatch, space):
    into = store.namespace(space) if space else store
    calls = []

    def put_all(txn, space, records, put_all=WriteTxn.put_all):
        calls.append((space, len(records)))
        put_all(txn, space, records)

    monkeypatch.setattr(WriteTxn, "put_all", put_all)
    monkeypatch.setattr(WriteTxn, "nested", lambda _: pytest.fail("nested"))
    into["first"] = 0
    calls.clear()
    written_together(store, *(lambda name=name: into.set(name, [name]) for name in range(20)))
    assert calls == [(space, 20)]
    assert dict(into) == {"first": 0, **{name: [name] for name in range(20)}}


@pytest.mark.parametrize("durability", ["full"], indirect=True)
def test_where_writers_came_together_the_last_one_to_come_again_commits_for_all(store, monkeypatch):
    written_together(store, *(lambda name=name: store.set(name, 0) for name in range(3)))
    monkeypatch.setattr(commit_company, "_LINGER_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(commit_company, "_LINGER_STEP_SECONDS", PATIENCE_SECONDS)
    committer, by = store._engine.committer, []
    commit_waiting = committer._commit_waiting
    monkeypatch.setattr(
        committer, "_commit_waiting", lambda queue: [by.append(threading.get_ident()), commit_waiting(queue)]
    )
    before = commits_of(store)

    def write(number):
        store.set(number, 1)
        return threading.get_ident()

    with ThreadPoolExecutor(3) as pool:
        futures = []
        for number in range(3):
            futures.append(pool.submit(write, number))
            until(lambda: len(committer._waiting) == len(futures) or by)
        writers = [future.result(PATIENCE_SECONDS) for future in futures]
    assert by == [writers[-1]]
    assert commits_of(store) == before + 1
    assert dict(store) == dict.fromkeys(range(3), 1)


@pytest.mark.parametrize("durability", ["full"], indirect=True)
def test_who_comes_while_others_commit_is_of_their_company_and_the_next_commit_is_for_all(store, monkeypatch):
    committer, committing, may_commit, over = store._engine.committer, *(threading.Event() for _ in range(3))
    commit = WriteTxn.commit

    def commit_when_allowed(txn):
        committing.set()
        assert may_commit.wait(PATIENCE_SECONDS)
        commit(txn)

    # Whoever waits for the company has all the time there is.
    patient = SimpleNamespace(sleep=lambda _: over.wait(PATIENCE_SECONDS), monotonic=lambda: 0)
    store["first"] = 0
    with ThreadPoolExecutor(4) as pool:
        with a_commit_under_way(store):
            together = [pool.submit(store.set, number, 1) for number in range(2)]
            until(lambda: len(committer._waiting) == 2)
            monkeypatch.setattr(WriteTxn, "commit", commit_when_allowed)
            monkeypatch.setattr(commit_company, "time", patient)
            monkeypatch.setattr(commit_company, "_LINGER_STEP_SECONDS", PATIENCE_SECONDS)
        assert committing.wait(PATIENCE_SECONDS)
        before = commits_of(store)
        together.append(pool.submit(store.set, 2, 1))
        until(lambda: len(committer._waiting) == 1)
        may_commit.set()
        for future in together[:2]:
            future.result(PATIENCE_SECONDS)
        assert commits_of(store) == before + 1
        again = [pool.submit(store.set, 3, 1)]
        until(lambda: len(committer._waiting) == 2)
        again.append(pool.submit(store.set, 4, 1))
        for future in [*together, *again]:
            future.result(PATIENCE_SECONDS)
        assert commits_of(store) == before + 2
        over.set()
    assert dict(store) == {"first": 0, **dict.fromkeys(range(5), 1)}


@pytest.mark.parametrize("durability", ["none"], indirect=True)
def test_where_commits_are_not_flushed_nobody_waits_for_others_to_come(store):
    written_together(store, *(lambda name=name: store.set(name, 0) for name in range(3)))
    assert store._engine.committer._company == 1


def test_in_a_shared_commit_each_sees_what_came_before(store, fresh):
    given = written_together(
        store,
        lambda: store.set("n", 1),
        lambda: store.incr("n"),
        lambda: store.add("n", 5),
        lambda: store.pop("n"),
        lambda: store.add("n", [7]),
        lambda: store.setdefault("n", 8),
        lambda: store.delete("m"),
        lambda: store.set("n", "last"),
    )
    assert given == [None, 2, False, 2, True, [7], False, None]
    assert store["n"] == fresh["n"] == "last"
    assert_memory_is_true(store, fresh)
    assert_books_balance(store)


def test_in_a_shared_commit_ones_error_is_ones_own(store, fresh):
    store.set_many({"text": "a", "kept": [1]})

    given = written_together(
        store,
        lambda: store.set("before", 1),
        lambda: store.incr("text"),
        lambda: store.compare_and_set("kept", [2], [3]),
        lambda: store.set("after", [2]),
    )
    assert given[0] is None
    assert isinstance(given[1], TypeError)
    assert given[2] is False
    assert given[3] is None
    expected = {"text": "a", "kept": [1], "before": 1, "after": [2]}
    assert dict(fresh) == expected
    assert store.get_many(expected) == expected
    assert_memory_is_true(store, fresh)
    assert_books_balance(store)


def test_in_a_shared_commit_one_that_is_too_large_fails_alone(store_path):
    with kvstore.open(store_path, durability="none", max_size=400_000) as store:
        store["small"] = 0
        given = written_together(
            store,
            lambda: store.set("before", 1),
            lambda: store.set("large", bytes(390_000)),
            lambda: store.set("after", 2),
        )
        assert isinstance(given[1], StoreFullError)
        assert given[0] is given[2] is None
        assert dict(store) == {"small": 0, "before": 1, "after": 2}
        assert store.get("large") is None


def test_a_shared_commit_takes_nothing_of_the_room_that_is_kept_for_deletes(store_path):
    with kvstore.open(store_path, durability="none", max_size=600_000) as store:
        with contextlib.suppress(StoreFullError):
            for number in range(1000):
                store[number] = bytes(3_000)
        full = store.stats().used_bytes
        outcomes = written_together(
            store, *(lambda name=name: store.set(("more", name), bytes(3_000)) for name in range(8))
        )
        assert [type(outcome) for outcome in outcomes] == [StoreFullError] * 8
        assert store.stats().used_bytes <= full


def test_one_that_was_refused_stays_so_where_the_shared_commit_is_done_anew(store_path, monkeypatch):
    now, commit, failing = [1_000.0], WriteTxn.commit, [RoomPendingError("for this test")]

    def commit_at_the_second_attempt(txn):
        if failing:
            # What was in its way has ended by then.
            now[0] += 10
            raise failing.pop()
        commit(txn)

    with kvstore.open(store_path, durability="none", max_size=400_000, clock=lambda: now[0]) as store:
        store.set("text", "a", ttl=10)
        monkeypatch.setattr(WriteTxn, "commit", commit_at_the_second_attempt)
        given = written_together(store, lambda: store.incr("text"), lambda: store.set("beside", 1))
        assert isinstance(given[0], TypeError)
        assert given[1] is None
        assert dict(store) == {"beside": 1}


def test_writes_purge_what_was_first_to_end_in_a_shared_commit(store_path):
    now = [1_000.0]
    with kvstore.open(store_path, durability="none", clock=lambda: now[0]) as store:
        store["first"] = 0
        store["first"] = 1
        # Of the two the first takes nothing along.
        written_together(store, store.expire, lambda: store.set("ends", 1, ttl=10))
        now[0] += 10
        store["next"] = 1
        with store._view() as view:
            assert view.count("") == 2


@pytest.mark.usefixtures("heard")
def test_a_write_interrupted_while_another_thread_commits_it_is_done_when_its_caller_hears(store, monkeypatch):
    committer, told = store._engine.committer, threading.Event()

    def interrupt_and_commit(txn, commit=WriteTxn.commit):
        os.kill(os.getpid(), signal.SIGINT)
        # Longer than it would take to tell too early.
        told.wait(0.2)
        commit(txn)

    def commit_what_waits():
        until(lambda: len(committer._waiting) == 1)
        monkeypatch.setattr(WriteTxn, "commit", interrupt_and_commit)
        with committer._turn:
            committer._commit_waiting(committer._waiting)

    store["a"] = 0
    # It waits for others to come, and for one of them to commit.
    monkeypatch.setattr(committer, "_company", 2)
    monkeypatch.setattr(committer, "_claimed", True)
    monkeypatch.setattr(commit_company, "_LOOK_SECONDS", PATIENCE_SECONDS)
    with ThreadPoolExecutor(1) as pool:
        committed = pool.submit(commit_what_waits)
        with pytest.raises(KeyboardInterrupt):
            store["a"] = 1
        told.set()
        assert store["a"] == 1
        committed.result(PATIENCE_SECONDS)


def test_in_a_shared_commit_each_waits_for_other_processes_as_long_as_it_may(store, monkeypatch):
    committer, now, waited = store._engine.committer, [0.0], []

    def lock_writing(timeout, stated):
        waited.append((timeout, stated))
        now[0] += timeout
        raise StoreBusyError("another process writes")

    monkeypatch.setattr(commit_company, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(committer._companion, "lock_writing", lock_writing)
    batch = [Write(lambda txn: None, store._tier, timeout=timeout) for timeout in (3, 1, 2, 1)]
    assert not committer._lock_writing(list(batch))
    assert waited == [(1, 1), (1, 2), (1, 3)]
    assert all(isinstance(write.error, StoreBusyError) for write in batch)


@pytest.mark.usefixtures("heard")
def test_a_write_interrupted_while_it_waits_for_a_transaction_is_taken_back_at_once(store):
    store["a"] = 0
    main_thread = threading.get_ident()
    with a_commit_under_way(store):

        def interrupt():
            until(lambda: store._engine.committer._waiting)
            signal.pthread_kill(main_thread, signal.SIGINT)

        with ThreadPoolExecutor(1) as pool, pytest.raises(KeyboardInterrupt):
            pool.submit(interrupt)
            store["a"] = 1
        # Here that transaction is still open.
        assert not store._engine.committer._waiting
    store["b"] = 2
    assert dict(store) == {"a": 0, "b": 2}


def test_another_store_may_be_opened_inside_a_transaction_of_one_that_is_being_closed(store, tmp_path):
    inside = threading.Event()

    def open_another():
        with store.transaction() as transaction:
            transaction["a"] = 1
            inside.set()
            until(lambda: not store._finalizer.alive)
            # It waits by now, or will.
            time.sleep(0.05)
            kvstore.open(tmp_path / "other.kv", durability="none").close()

    thread = threading.Thread(target=open_another, daemon=True)
    closing_thread = threading.Thread(target=store.close, daemon=True)
    thread.start()
    assert inside.wait(PATIENCE_SECONDS)
    closing_thread.start()
    for each in (thread, closing_thread):
        each.join(PATIENCE_SECONDS)
        assert not each.is_alive()


def test_a_store_closes_where_an_interrupt_came_as_its_thread_was_started(store, monkeypatch):
    def start_and_be_interrupted(thread, start=threading.Thread.start):
        start(thread)
        monkeypatch.undo()
        raise KeyboardInterrupt

    committer = store._engine.committer
    monkeypatch.setattr(threading.Thread, "start", start_and_be_interrupted)
    with pytest.raises(KeyboardInterrupt):
        committer._start_courier()
    committer._start_courier()
    closing = threading.Thread(target=store.close, daemon=True)
    closing.start()
    closing.join(PATIENCE_SECONDS)
    assert not closing.is_alive()


def test_a_write_inside_ones_own_transaction_is_an_error_not_a_deadlock(store):
    def records():
        assert store.get("a") == 1
        assert len(store) == 1
        store["b"] = 2
        yield

    store["a"] = 1
    with pytest.raises(TransactionError, match="transaction"):
        store.import_records(records(), merge=True)
    store["c"] = 3
    assert dict(store) == {"a": 1, "c": 3}


def test_readers_go_on_while_a_transaction_is_open(store):
    store.set_many({"a": 1, "b": 2})
    with a_commit_under_way(store):
        assert store["a"] == 1
        assert dict(store) == {"a": 1, "b": 2}
        assert len(store) == 2
        assert store.stats().records == 2
