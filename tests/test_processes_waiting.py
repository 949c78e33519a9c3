"""While another process writes: a write waits as long as it may, and reading and opening wait for nobody."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

import kvstore
from kvstore import StoreBusyError
from tests.other_process import a_process
from tests.threads import PATIENCE_SECONDS, until


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store


@pytest.fixture
def other(store_path, store):
    with a_process(store_path) as other:
        yield other


@pytest.fixture
def writing_elsewhere(store, other):
    other("tx = store.transaction().__enter__(); tx['theirs'] = 1; tx.namespace('n')['x'] = 1")
    yield
    other("tx.__exit__(None, None, None)")


WRITES = {
    "set": lambda store: store.set("a", 1),
    "delete": lambda store: store.delete("a"),
    "set_many": lambda store: store.set_many({"a": 1}),
    "incr": lambda store: store.incr("n"),
    "expire": lambda store: store.expire(),
    "clear": lambda store: store.clear(),
    "get_or_set": lambda store: store.get_or_set("missing", lambda: 1),
    "in a namespace": lambda store: store.namespace("m").set("a", 1),
    "append": lambda store: store.list("a").append(1),
    "drop_namespace": lambda store: store.drop_namespace("n"),
    "import_records": lambda store: store.import_records([], merge=True),
    "transaction": lambda store: store.transaction().__enter__(),
    "run": lambda store: store.run(lambda tx: tx.set("a", 1)),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_waits_no_longer_than_its_time(store_path, store, writing_elsewhere, name):
    store_of_mine = kvstore.open(store_path, durability="none", timeout=0.02)
    with store_of_mine as hasty, pytest.raises(StoreBusyError, match=r"0\.02 seconds"):
        WRITES[name](hasty)
    assert store.get("a") is None


def test_a_transaction_may_have_a_time_of_its_own(store, writing_elsewhere):
    with pytest.raises(StoreBusyError), store.transaction(timeout=0.01):
        pytest.fail("nobody gets here")
    with pytest.raises(StoreBusyError):
        store.run(lambda tx: pytest.fail("nobody gets here"), timeout=0.01, attempts=2)


def test_after_its_time_the_store_goes_on_as_before(store_path, store, other):
    with kvstore.open(store_path, durability="none", timeout=0.01) as hasty:
        other("tx = store.transaction().__enter__()")
        for _ in range(5):
            with pytest.raises(StoreBusyError):
                hasty["a"] = 1
        other("tx.__exit__(None, None, None)")
        hasty["a"] = 2
        assert other("store['a']") == 2


def test_one_that_has_time_is_not_refused_with_one_that_has_none(store_path, store, other):
    with kvstore.open(store_path, durability="none", timeout=0.05) as hasty, ThreadPoolExecutor(2) as pool:
        other("tx = store.transaction().__enter__(); tx['theirs'] = 1")
        try:
            patient = pool.submit(store.set, "patient", 1)
            until(store._engine.committer._turn.locked)
            refused = pool.submit(hasty.set, "hasty", 1)
            assert isinstance(refused.exception(PATIENCE_SECONDS), StoreBusyError)
            assert not patient.done()
        finally:
            other("tx.__exit__(None, None, None)")
        patient.result(PATIENCE_SECONDS)
    assert dict(store) == {"patient": 1, "theirs": 1}


def test_reading_and_opening_wait_for_nobody(store_path, store, writing_elsewhere, other):
    store_in_time = kvstore.open(store_path, durability="none")
    with store_in_time as late:
        assert late.get("theirs") is None
        assert late.namespaces() == []
        assert late.namespace("n").get("x") is None
        assert list(late.scan()) == []
        assert late.stats().records == 0
    with a_process(store_path) as third:
        assert third("store.get('theirs'), len(store), store.namespace('n').get('x')") == (None, 0, None)


LOOKS = {
    "get": lambda store: store.namespace("n").get("x") == 1,
    "in": lambda store: "x" in store.namespace("n"),
    "len": lambda store: len(store.namespace("n")) == 2,
    "namespaces": lambda store: store.namespaces() == ["n"],
    "stats": lambda store: store.stats().records == 2,
}


@pytest.mark.parametrize("name", LOOKS)
def test_the_first_look_into_a_namespace_waits_for_nobody(store_path, store, other, name):
    with a_process(store_path) as maker:
        maker("store.namespace('n').set_many({'x': 1, 'y': 2})")
    with ThreadPoolExecutor(1) as pool:
        other("tx = store.transaction().__enter__(); tx.namespace('n')['x'] = 9")
        try:
            assert pool.submit(LOOKS[name], store).result(10)
        finally:
            other("tx.__exit__(None, None, None)")
    assert store.namespace("n")["x"] == 9


def test_two_stores_of_two_processes_with_two_threads_each_are_no_deadlock(tmp_path):
    # By process it is a circle: each is in a transaction of one store and waits for the other one's. By thread it is none.
    paths = tmp_path / "x.kv", tmp_path / "y.kv"
    with (
        kvstore.open(paths[0], durability="none") as x,
        kvstore.open(paths[1], durability="none") as y,
        a_process(paths[1]) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        other(f"import threading; x = kvstore.open({str(paths[0])!r}, durability='none')")
        other(
            "def write(): x['theirs'] = 1\n"
            "tx = store.transaction().__enter__(); thread = threading.Thread(target=write)"
        )
        with x.transaction():
            waiting = pool.submit(y.set, "mine", 1)
            other("thread.start(); time.sleep(0.1)")
            assert not waiting.done()
            other("tx.__exit__(None, None, None)")
            waiting.result(PATIENCE_SECONDS)
        other("thread.join()")
        assert (x["theirs"], y["mine"]) == (1, 1)
