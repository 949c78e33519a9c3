"""However a forked child ends its parent is well; and a store may be handed to workers."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys

import pytest

import kvstore
from tests.conftest import ROOT
from tests.forks import STARTED, WARNING, in_child
from tests.threads import PATIENCE_SECONDS

pytestmark = pytest.mark.filterwarnings(WARNING)


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        store.set_many(STARTED)
        store.namespace("n")["x"] = 1
        yield store


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
