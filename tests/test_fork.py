"""A store that was opened before a fork works after it, in the child and in the parent, whatever was going on."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import kvstore
from kvstore import KvstoreError, StoreBusyError, TransactionError
from tests.computations import COMPUTATIONS
from tests.conftest import ROOT
from tests.forks import WARNING, Child, in_child
from tests.other_process import with_store
from tests.threads import PATIENCE_SECONDS, until
from tests.tiers import assert_memory_is_true

pytestmark = pytest.mark.filterwarnings(WARNING)


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        store.set_many((number, [number]) for number in range(100))
        store.namespace("n")["x"] = 1
        yield store


@pytest.fixture
def fresh(store_path, store):
    """A reader without memory."""
    with kvstore.open(store_path, durability="none", cache_size=0) as fresh:
        yield fresh


STARTED = {number: [number] for number in range(100)}


# -- a child ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache_size", [0, 2_000, 1 << 20])
def test_a_child_reads_what_its_parent_has_written(store_path, store, cache_size):
    with kvstore.open(store_path, durability="none", cache_size=cache_size) as reader:
        reader.get_many(range(50))

        def read():
            return (
                reader.get_many(range(100)) == STARTED,
                [reader[number] for number in range(100)] == [[number] for number in range(100)],
                reader.get("missing"),
                dict(reader) == STARTED,
                reader.namespace("n")["x"],
                len(reader),
                reader.stats().records,
            )

        assert in_child(read) == (True, True, None, True, 1, 100, 101)
        assert read() == (True, True, None, True, 1, 100, 101)


def test_parent_and_child_read_what_the_other_has_written(store):
    def work():
        for number in range(50):
            until(lambda number=number: store.get("parent", -1) == number)
            store["child"] = number
        return store.stats().hits

    child = Child(work)
    for number in range(50):
        store["parent"] = number
        until(lambda number=number: store.get("child", -1) == number)
        assert store[number] == [number]
    assert child.answer() > 0
    assert store.stats().hits >= 50


def test_a_childs_write_drops_what_it_changes_in_the_parents_memory_and_nothing_else(store):
    store.get_many(range(100))
    before = store.stats()
    in_child(lambda: store.set_many({5: "new", 6: "new", "beside": 1}))
    assert store.get_many([4, 5, 6, 7]) == {4: [4], 5: "new", 6: "new", 7: [7]}
    assert (store.stats() - before).invalidations == 2


def test_increments_of_parents_children_and_grandchildren_all_count(store):
    def work(generations):
        below = [Child(lambda: work(generations - 1)) for _ in range(2)] if generations else []
        for _ in range(50):
            store.incr("n")
        for child in below:
            child.answer()

    work(2)
    assert store["n"] == 7 * 50


@pytest.mark.parametrize("first", ["reads", "writes", "does nothing"])
def test_a_grandchild_works_whatever_the_child_has_done_before(store, first):
    def work():
        if first == "reads":
            assert store.namespace("n")["x"] == 1
        if first == "writes":
            store[5] = "the child's"
        grandchild = in_child(lambda: (store[6], len(store), store.incr("n"), store.incr("n")))
        return grandchild, store.incr("n"), store[5]

    expected = "the child's" if first == "writes" else [5]
    assert in_child(work) == (([6], 100, 1, 2), 3, expected)
    assert store["n"] == 3


def test_a_child_may_do_everything(store, store_path, tmp_path):
    def work():
        with store.transaction() as tx:
            tx[5] = tx.pop(6)
            tx.namespace("m")["y"] = 2
        with store.snapshot() as view:
            store[5] = "later"
            assert view[5] == [6]
        assert store.get_or_set("made", lambda: "in the child") == "in the child"
        assert store.compare_and_set(5, "later", "swapped")
        store.drop_namespace("n")
        store.backup(tmp_path / "backup.kv")
        assert store.verify().ok
        with kvstore.open(store_path, durability="none", cache_size=0) as another:
            assert another[5] == store[5]
        store.close()
        with kvstore.open(store_path) as again:
            again["again"] = again[5]

    in_child(work)
    assert store.get_many([5, 6, "made", "again"]) == {5: "swapped", "made": "in the child", "again": "swapped"}
    assert store.namespaces() == ["m"]
    with kvstore.open(tmp_path / "backup.kv") as backup:
        assert backup[5] == "swapped"


def test_a_store_that_is_read_only_is_so_in_a_child(store_path):
    kvstore.open(store_path).close()
    with kvstore.open(store_path, readonly=True) as store:
        assert in_child(lambda: store.get("missing")) is None
        with pytest.raises(kvstore.ReadOnlyError):
            in_child(lambda: store.set("a", 1))


def test_a_child_waits_for_no_transaction_of_another_process_when_it_reads(store_path, store):
    with with_store(store_path, durability="none") as other:
        other("tx = store.transaction().__enter__(); tx[5] = 'theirs'")
        assert in_child(lambda: (store[5], store.get("missing"), dict(store) == STARTED)) == ([5], None, True)
        other("tx.__exit__(None, None, None)")
        assert in_child(lambda: store[5]) == "theirs"


def test_who_closes_the_store_closes_his_own(store_path, store):
    def close():
        store.close()
        with pytest.raises(kvstore.StoreClosedError):
            store.get(5)

    def go_on():
        until(lambda: store.get(5) == "closing")
        store[5] = "the child goes on"
        until(lambda: store.get(5) == "open again")

    for _ in range(3):
        in_child(close)
    assert store[5] == [5]
    child = Child(go_on)
    store[5] = "closing"
    store.close()
    with kvstore.open(store_path, durability="none") as again:
        until(lambda: again.get(5) == "the child goes on")
        again[5] = "open again"
        child.answer()


def test_a_closed_store_stays_closed_in_a_child(store_path):
    store = kvstore.open(store_path)
    store.close()
    with pytest.raises(kvstore.StoreClosedError):
        in_child(lambda: store.get("a"))

    def reopen():
        with kvstore.open(store_path) as again:
            again["a"] = 1

    in_child(reopen)
    with kvstore.open(store_path) as again:
        assert again["a"] == 1


def test_a_child_counts_as_one_that_has_the_store_open(store):
    child = Child(lambda: [store.set("child", "is here"), until(lambda: "go" in store)])
    until(lambda: "child" in store)
    for _ in range(3):
        with pytest.raises(StoreBusyError, match="another process"):
            store.compact()
    store["go"] = True
    child.answer()
    with pytest.raises(StoreBusyError, match="another process"):
        in_child(store.compact)
    store.compact()
    assert dict(store.scan(start=0)) == STARTED


def test_compacting_right_after_a_fork_is_refused_or_known_to_the_child(store):
    def work():
        for number in range(20):
            store.incr("n")
            assert store[number] == [number]

    compacted = 0
    for _ in range(15):
        child = Child(work)
        with contextlib.suppress(StoreBusyError):
            store.compact()
            compacted += 1
        store.incr("n")
        child.answer()
        assert store[5] == [5]
    assert store["n"] == 15 * 21
    assert dict(store.scan(start=0)) == STARTED


def test_children_leave_no_reader_slots_behind(store):
    for _ in range(30):
        assert in_child(lambda: (store.get("missing"), len(store))) == (None, 100)
    child = Child(lambda: [store.snapshot(), threading.Event().wait(PATIENCE_SECONDS)])
    until(lambda: len(store._engine.backend._env.readers()) > 1)
    child.kill()
    store[5] = 1
    assert store.stats().oldest_reader_lag == 0
    assert len(store._engine.backend._env.readers()) < 10


# -- several children ------------------------------------------------------------------------------


def test_preloaded_workers_write_at_the_same_time(fresh, store, tmp_path):
    calls = tmp_path / "calls"

    def make():
        with calls.open("a") as file:
            file.write("once\n")
        return os.getpid()

    def work(name):
        made = store.get_or_set("made", make)
        for number in range(100):
            store[name, number] = number
            store.incr("n")
            assert store[name, number] == number
            assert store[number] == [number]
        return made

    workers = [Child(lambda name=name: work(name)) for name in range(4)]
    while store.get("n", 0) < 400:
        assert store[7] == [7]
    made = {worker.answer() for worker in workers}
    assert made == {store["made"]}
    assert calls.read_text() == "once\n"
    assert sum(1 for _ in store.scan_keys(start=(), stop=(5,))) == 400
    assert_memory_is_true(store, fresh)


def test_children_go_on_when_their_parent_is_killed(store_path, store):
    # The grandchild stays, its parent is killed, this process watches both.
    def work():
        Child(lambda: [store.set("child", os.getpid()), until(lambda: store.get("go on")), store.set("went on", 1)])
        threading.Event().wait(PATIENCE_SECONDS)

    parent = Child(work)
    until(lambda: store.get("child") is not None)
    parent.kill()
    store["go on"] = True
    until(lambda: store.get("went on") == 1)
    assert dict(store.scan(start=0, stop=100)) == STARTED


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


# -- how a child ends ------------------------------------------------------------------------------


ENDING = """
import os, sys, kvstore
path, when = sys.argv[1:]
store = kvstore.open(path, durability="none")
store.set_many((n, [n]) for n in range(100))

def end(how):
    if how == "sys.exit":
        sys.exit(0)
    if how == "os._exit":
        os._exit(0)
    if how == "an exception":
        os.close(2)
        raise ZeroDivisionError
    # Otherwise it runs off the end of the program.

def child():
    if when == "unused":
        return
    if when == "read":
        assert store[5] in ([5], (5, "later")) and len(store) == 100 and store.get("missing") is None
    if when == "written":
        store["child"] = store.incr("n")
    if when == "with a snapshot":
        globals()["view"] = store.snapshot()
        globals()["items"] = store.scan(); next(items)

view, items = store.snapshot(), store.scan()
next(items)
hows = ["sys.exit", "os._exit", "an exception", "running off the end"] * 2
for how in hows:
    pid = os.fork()
    if not pid:
        child()
        end(how)
        break
    status = os.waitpid(pid, 0)[1]
    # Of an exception that it can't print Python says 1, or 120 where the stream is buffered.
    assert os.waitstatus_to_exitcode(status) in ((1, 120) if how == "an exception" else (0,)), status
    for n in range(100):
        store[n] = n, "later"
else:
    assert dict(view) == {n: [n] for n in range(100)}
    assert dict(items) == {n: [n] for n in range(1, 100)}
    assert store.get("n") == (len(hows) if when == "written" else None)
    assert store.stats().oldest_reader_lag >= 100 * len(hows)
    del items
    view.close()
    assert store.stats().oldest_reader_lag == 0
    print("the parent is well")
"""


@pytest.mark.parametrize("when", ["unused", "read", "written", "with a snapshot"])
def test_however_a_child_ends_its_parent_is_well(store_path, when):
    assert run(ENDING, store_path, when) == "the parent is well\n"


TORN = """
import os, sys, kvstore
path, how = sys.argv[1:]
store = kvstore.open(path, durability="none")
store["a"] = 1
pid = None
try:
    with store.transaction() as tx:
        tx["a"] = 2
        pid = os.fork()
        if not pid:
            if how == "sys.exit":
                sys.exit(0)
            if how == "os._exit":
                os._exit(0)
            if how == "an exception":
                raise ZeroDivisionError
            # Otherwise it leaves the block as if to commit.
        else:
            assert os.waitpid(pid, 0)[1] == 0
            tx["b"] = tx["a"]
except (kvstore.TransactionError, ZeroDivisionError):
    assert not pid
    sys.exit(0)
if not pid:
    sys.exit("the child has committed its parent's transaction")
store["c"] = 3
assert dict(store) == {"a": 2, "b": 2, "c": 3}, dict(store)
assert store.verify().ok
print("the parent is well")
"""


@pytest.mark.parametrize("how", ["sys.exit", "os._exit", "an exception", "leaving the block"])
def test_however_the_child_of_a_transaction_ends_its_parent_is_well(store_path, how):
    assert run(TORN, store_path, how) == "the parent is well\n"
    with kvstore.open(store_path) as store:
        assert dict(store) == {"a": 2, "b": 2, "c": 3}


def run(script, *arguments):
    """What the script prints; it must end well and say nothing else."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", WARNING.replace(".*", ""), "-c", script, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# -- multiprocessing -------------------------------------------------------------------------------


def work_on(store, name):
    """What a worker of a pool does with a store that was handed to it."""
    space = store.namespace("workers")
    for number in range(20):
        store.incr("n")
        space[name, number] = number
        assert space[name, number] == number
    assert store[5] == [5]
    return os.getpid(), store.get_or_set("made", lambda: name)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_store_may_be_handed_to_workers(store, method):
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        done = pool.starmap(work_on, [(store, name) for name in range(6)])
    assert store["n"] == 120
    assert {made for _, made in done} == {store["made"]}
    assert len(store.namespace("workers")) == 120


def test_forked_workers_may_use_what_they_inherit(store):
    def work(name):
        work_on(store, name)

    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(name,)) for name in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE_SECONDS)
        assert worker.exitcode == 0
    assert store["n"] == 80


def test_a_store_that_was_pickled_before_a_fork_is_the_same_in_the_child(store):
    travelling = pickle.dumps((store, store.namespace("n")))

    def work():
        again, space = pickle.loads(travelling)
        again[5] = "the child's"
        space["x"] = 2
        return store[5], store.namespace("n")["x"]

    assert in_child(work) == ("the child's", 2)
    assert (store[5], store.namespace("n")["x"]) == ("the child's", 2)
