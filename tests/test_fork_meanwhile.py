"""A fork while its parent is at something: what other threads do, a snapshot, a computation, a transaction."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import kvstore
from kvstore import KvstoreError, TransactionError
from tests.computations import COMPUTATIONS
from tests.forks import STARTED, WARNING, Child, in_child
from tests.other_process import with_store
from tests.threads import PATIENCE_SECONDS, until
from tests.tiers import assert_memory_is_true

pytestmark = pytest.mark.filterwarnings(WARNING)


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        store.set_many(STARTED)
        store.namespace("n")["x"] = 1
        yield store


@pytest.fixture
def fresh(store_path, store):
    """A reader without memory."""
    with kvstore.open(store_path, durability="none", cache_size=0) as fresh:
        yield fresh


# -- what the parent is doing at the time ----------------------------------------------------------


@contextlib.contextmanager
def busy_threads(store, *works):
    """Threads that do their work again and again while the block runs; an error in any of them is the test's."""
    done = threading.Event()

    def keep_at_it(work):
        while not done.is_set():
            work()

    with ThreadPoolExecutor(len(works)) as pool:
        working = [pool.submit(keep_at_it, work) for work in works]
        try:
            yield
        finally:
            done.set()
        for work in working:
            work.result(PATIENCE_SECONDS)


@pytest.mark.parametrize("cache_size", [0, 3_000, 1 << 20])
def test_forking_while_a_thread_pool_reads_and_writes(store_path, store, fresh, cache_size):
    with kvstore.open(store_path, durability="none", cache_size=cache_size) as shared:

        def transfer():
            with shared.transaction() as tx:
                tx["left"], tx["right"] = tx["left"] + 1, tx["right"] - 1

        def work():
            for _ in range(5):
                both = shared.get_many(["left", "right"])
                assert sum(both.values()) == 0
                assert shared[50] == [50]
                assert dict(shared.scan(start=0, stop=10)) == {number: [number] for number in range(10)}
                transfer()
                shared.incr("children")

        shared.set_many({"left": 0, "right": 0})
        with busy_threads(
            shared,
            transfer,
            lambda: shared.incr("n"),
            lambda: shared.get_many(range(100)),
            lambda: [shared.get(number) for number in range(100)],
            lambda: dict(shared.scan()),
            lambda: shared.namespace("n").set("x", 1),
            shared.stats,
        ):
            for _ in range(6):
                in_child(work)
        assert shared["children"] == 30
        assert shared["left"] == -shared["right"] >= 30
        assert_memory_is_true(shared, fresh)


def test_forking_while_threads_wait_for_one_commit(store, fresh):
    with busy_threads(store, *[lambda: store.incr("n")] * 8):
        for _ in range(10):
            assert in_child(lambda: store.incr("children")) > 0
    assert fresh["children"] == 10
    assert_memory_is_true(store, fresh)


def test_a_child_leaves_to_its_parent_what_waits_there_for_a_commit(store):
    def work():
        store.set("child", os.getpid())
        return done_by, threading.active_count()

    done_by = []
    # As a thread leaves it that waits for its turn while another one forks.
    waiting = store._wish(lambda txn: done_by.append(os.getpid()))
    store._engine.committer._waiting.append(waiting)
    assert in_child(work) == ([], 1)
    until(lambda: waiting.done)
    assert done_by == [os.getpid()]


def test_forking_waits_for_another_threads_transaction_to_end(store):
    inside, may_end = threading.Event(), threading.Event()

    def transact():
        with store.transaction() as tx:
            tx[5] = "written"
            inside.set()
            may_end.wait(0.1)

    with ThreadPoolExecutor(1) as pool:
        transacting = pool.submit(transact)
        assert inside.wait(PATIENCE_SECONDS)
        assert in_child(lambda: (store[5], store.set(6, "the child's"))) == ("written", None)
        transacting.result(PATIENCE_SECONDS)
    assert store[6] == "the child's"


CHILDREN = {
    "does nothing": lambda store, view, items: None,
    "reads": lambda store, view, items: [store.get(5), dict(store), len(store)],
    "writes": lambda store, view, items: [store.set(number, "the child's") for number in range(50)],
    "closes the store": lambda store, view, items: store.close(),
    "closes the snapshot": lambda store, view, items: [store.get("missing"), view.close()],
    "collects its garbage": lambda store, view, items: [store.get("missing"), gc.collect()],
    "has a snapshot of its own": lambda store, view, items: [store.snapshot().get(5), next(store.scan())],
    "is killed": lambda store, view, items: [store.get("missing"), os.kill(os.getpid(), signal.SIGKILL)],
}


@pytest.mark.parametrize("name", CHILDREN)
def test_a_snapshot_and_an_iteration_of_the_parent_stay_what_they_are(store, name):
    items = store.scan()
    with store.snapshot() as view:
        assert next(items) == (0, [0])
        for _ in range(3):
            child = Child(lambda: CHILDREN[name](store, view, items))
            if name == "is killed":
                os.waitpid(child.pid, 0)
            else:
                child.answer()
            # Enough commits for LMDB to write over every page that nobody is known to read.
            for number in range(100):
                store[number] = number, "later"
        assert store.stats().oldest_reader_lag >= 300
        assert dict(view) == STARTED
        assert view.namespace("n")["x"] == 1
        assert dict(items) == {number: [number] for number in range(1, 100)}
    assert store.stats().oldest_reader_lag == 0


@pytest.mark.parametrize("used_before", [False, True])
def test_a_snapshot_of_the_parent_is_right_in_a_child_or_an_error(store, used_before):
    with store.snapshot() as view:
        store[5] = "later"

        def work():
            if used_before:
                store.get("missing")
            try:
                return view[5], dict(view) == STARTED
            except KvstoreError:
                return [5], True

        assert in_child(work) == ([5], True)
        assert dict(view) == STARTED


def test_a_child_of_a_factory_leaves_the_parents_lease_alone(store_path, store):
    with with_store(store_path, durability="none") as other:

        def make():
            in_child(lambda: (store.get("missing"), store.set("beside", 1)))
            other.tell("store.get_or_set('made', lambda: 'by the other')")
            in_child(lambda: store.set("beside", 2))
            return "by the parent"

        assert store.get_or_set("made", make) == "by the parent"
        assert other.answer() == "by the parent"


def test_a_child_of_a_factory_waits_for_its_parent_to_have_made_it(store):
    def make():
        children.append(Child(lambda: store.get_or_set("made", lambda: "by the child")))
        until(lambda: store.add("waited", 1))
        return "by the parent"

    children = []
    assert store.get_or_set("made", make) == "by the parent"
    assert children[0].answer() == "by the parent"


@pytest.mark.parametrize("computation", COMPUTATIONS.values(), ids=COMPUTATIONS)
def test_a_fork_inside_a_factory_leaves_two_that_finish_it_and_go_on(store, computation):
    forked = []

    def make():
        forked.append(os.fork())
        return "made"

    def work():
        found = computation(store, make)()
        return found, computation(store, lambda: "made next", "next")()

    def both():
        # In a child of the test, so that nothing of what follows a failure takes place twice.
        reader, writer = os.pipe()
        try:
            found = work()
        except BaseException as error:
            found = repr(error)
        if not forked[0]:
            os.write(writer, repr(found).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as answer:
            return found, answer.read()

    expected = ("made", "made next")
    assert in_child(both) == (expected, repr(expected))


# -- forking inside a transaction ------------------------------------------------------------------


USES = {
    "get": lambda store, tx: store.get("missing"),
    "set": lambda store, tx: store.set("a", 1),
    "in": lambda store, tx: "missing" in store,
    "iterate": lambda store, tx: list(store),
    "transaction": lambda store, tx: store.transaction().__enter__(),
    "snapshot": lambda store, tx: store.snapshot(),
    "open again": lambda store, tx: kvstore.open(store._engine.identity, durability="none").get("missing"),
    "the transaction's get": lambda store, tx: tx.get(5),
    "the transaction's set": lambda store, tx: tx.set(5, "the child's"),
    "the transaction's end": lambda store, tx: tx.__exit__(None, None, None),
}


@pytest.mark.parametrize("use", USES)
def test_in_the_child_of_a_transaction_every_use_is_an_error_and_the_parent_goes_on(store_path, store, fresh, use):
    with with_store(store_path, durability="none", timeout=0.01) as other:
        with store.transaction() as tx:
            tx[5] = "written"
            with pytest.raises(TransactionError):
                in_child(lambda: USES[use](store, tx))
            # Still inside, for the parent and for everybody else.
            with pytest.raises(RuntimeError, match="StoreBusyError"):
                other("store['theirs'] = 1")
            assert other("store[5]") == fresh[5] == [5]
            assert tx[5] == "written"
            tx[6] = "written too"
        assert other("store[5], store[6]") == ("written", "written too")
        other("store['theirs'] = 1")
        assert store["theirs"] == 1
        store["mine"] = 1
    assert store.verify().ok
    assert_memory_is_true(store, fresh)


def test_a_fork_after_a_transaction_is_a_fork_as_any_other(store):
    with store.transaction() as tx:
        tx[5] = "written"
        with pytest.raises(TransactionError):
            in_child(lambda: store.set(6, 1))
    assert in_child(lambda: (store[5], store.set(6, "the child's"))) == ("written", None)
    assert store[6] == "the child's"
