"""Ctrl-C at any moment: memory never says what the file doesn't, and the store goes on."""

from __future__ import annotations

import gc
import threading

import pytest

import kvstore
from tests import policies
from tests.computations import COMPUTATIONS, forget
from tests.interrupts import everywhere
from tests.other_process import with_plain_lmdb, with_store
from tests.strategies import same
from tests.threads import PATIENCE_SECONDS
from tests.tiers import assert_memory_is_true

BEFORE = {"a": [1], "b": "two", "c": {"n": 3}, "n": 5, "t": ([1], 2)}


def change_in_a_transaction(store):
    with store.transaction() as transaction:
        transaction["a"] = transaction["n"]
        del transaction["b"]


# A file that Python was just opening when it was interrupted is closed by the garbage collector, who says so.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

WRITES = {
    "set": lambda store: store.set("a", ["new"]),
    "[]": lambda store: store.__setitem__("new", "new"),
    "set_many": lambda store: store.set_many({"a": 2, "new": {"x": 1}}),
    "update": lambda store: store.update({"b": [3]}, c=4),
    "add": lambda store: store.add("new", (1, 2)),
    "delete": lambda store: store.delete("a"),
    "delete_many": lambda store: store.delete_many(["a", "b", "none"]),
    "pop": lambda store: store.pop("c"),
    "popitem": lambda store: store.popitem(),
    "setdefault": lambda store: store.setdefault("new", {"y": 2}),
    "incr": lambda store: store.incr("n"),
    "compare_and_set": lambda store: store.compare_and_set("b", "two", "three"),
    "modify": lambda store: store.modify("t", lambda value: [value]),
    "clear": lambda store: store.clear(),
    "import_records": lambda store: store.import_records(store.export_records(), merge=True),
    "transaction": lambda store: change_in_a_transaction(store),
    "run": lambda store: store.run(lambda transaction: transaction.update(a=7, b=8)),
    "get_or_set": lambda store: store.get_or_set("new", lambda: ["made"]),
}
READS = {
    "hit": lambda store: store["a"],
    "get": lambda store: store.get("c"),
    "miss": lambda store: store.get("none"),
    "get_many": lambda store: store.get_many(["a", "b", "none"]),
    "in": lambda store: "a" in store,
    "items": lambda store: list(store.items()),
    "stats": lambda store: store.stats(),
}
TIERS = {
    "roomy": {},
    "off": {"cache_size": 0},
    "tiny": {"cache_size": 1_000},
    "own": {"policy": policies.Three},
    "tiny fifo": {"cache_size": 1_000, "policy": "fifo"},
    "tiny lfu": {"cache_size": 1_000, "policy": "lfu"},
    "tiny random": {"cache_size": 1_000, "policy": "random"},
}
ELSEWHERE = {
    "off": {"get_or_set", "transaction", "get_many"},
    "tiny": {"set_many", "run", "get_many"},
    "own": {"add", "get_or_set", "get_many"},
}
"""What comes to places in a tier that it doesn't come to in the roomy one; together with that one's, to all there are."""


def in_every_tier(calls):
    """Each of the calls in each tier, as the parameters ``store`` and ``call``: in every run where it comes to new places."""
    return pytest.mark.parametrize(
        ("store", "call"),
        [
            pytest.param(
                options,
                call,
                id=f"{name}, {tier}",
                marks=() if name in ELSEWHERE.get(tier, ()) or tier == "roomy" else pytest.mark.torture,
            )
            for tier, options in TIERS.items()
            for name, call in calls.items()
        ],
        indirect=["store"],
    )


@pytest.fixture
def fresh(store_path):
    """A reader without memory."""
    with kvstore.open(store_path, durability="none", cache_size=0) as fresh:
        yield fresh


@pytest.fixture
def store(request, store_path, fresh):
    with kvstore.open(store_path, durability="none", **request.param) as store:
        store.set_many(BEFORE)
        yield store


def within_reason(call):
    """Do the call in a thread, and fail rather than wait for ever for a lock that nobody gives back."""
    result = []
    thread = threading.Thread(target=lambda: result.append(call()), daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive(), "stuck"
    return result[0]


def contents(reader):
    return list(reader.items())


def assert_goes_on(store, fresh, place):
    """After an interrupt: nothing stuck, nothing wrong, nothing late."""
    assert_memory_is_true(store, fresh)
    left = contents(fresh)
    assert within_reason(lambda: (store.set("another", place), store["another"], store.delete("another"))[1]) == place
    # What was interrupted either took place before or never does.
    assert same(contents(fresh), left)
    assert_memory_is_true(store, fresh)
    cost = sum(entry.cost for front in store._tier._fronts.values() for entry in front.values())
    assert cost <= store._tier.capacity
    assert store.stats().oldest_reader_lag == 0


@in_every_tier(WRITES)
def test_a_write_interrupted_anywhere_is_done_or_not_and_memory_knows(store, fresh, call):
    before = contents(fresh)
    call(store)
    after = contents(fresh)
    places = []

    def prepare():
        store.clear()
        store.set_many(BEFORE)
        for key in BEFORE:
            store[key]

    prepare()
    for place in everywhere(lambda: call(store)):
        places.append(place)
        assert any(same(contents(fresh), whole) for whole in (before, after)), place
        assert_goes_on(store, fresh, place)
        prepare()
    assert same(contents(fresh), after)
    assert len(places) > 20
    assert any("commit" in place for place in places)


@in_every_tier(READS)
def test_a_read_interrupted_anywhere_leaves_everything_as_it_was(store, store_path, fresh, call):
    before = contents(fresh)
    with kvstore.open(store_path, durability="none", cache_size=0) as other:
        for place in everywhere(lambda: call(store)):
            assert same(contents(fresh), before), place
            assert_goes_on(store, fresh, place)
            # The next run finds memory empty, so that it has something to do.
            other.set_many(BEFORE)
    expected = call(fresh)
    if not isinstance(expected, kvstore.Stats):
        assert same(call(store), expected)


def test_statistics_stay_exact_where_only_reads_are_interrupted_before_they_count(store_path, fresh):
    with kvstore.open(store_path, durability="none") as store:
        store.set_many(BEFORE)
        interrupted = sum(1 for _ in everywhere(lambda: store.get_many(BEFORE)))
        stats = store.stats()
        assert stats.hits + stats.misses == stats.lookups <= (interrupted + 1) * len(BEFORE)


@pytest.mark.parametrize("name", ["set", "delete", "set_many", "transaction"])
def test_what_an_interrupted_commit_was_to_change_is_not_taken_for_what_the_next_one_changed(store_path, name):
    """The id that it was to have goes to whoever commits next: a program that knows nothing of memory tiers."""
    with kvstore.open(store_path, durability="none") as store, with_plain_lmdb(store_path) as other:
        store.set_many(BEFORE)
        for number, place in enumerate(everywhere(lambda: WRITES[name](store))):
            store.get("b"), store.get("n")
            other(f"put('b', {number})")
            assert store["b"] == number, place
            assert store["n"] == 5, place
            store.set_many(BEFORE)


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_a_computation_interrupted_anywhere_is_left_to_other_threads_and_processes(store_path, name):
    with (
        kvstore.open(store_path, durability="none") as store,
        with_store(store_path, durability="none", timeout=PATIENCE_SECONDS) as other,
    ):
        other("from tests.computations import COMPUTATIONS, forget")
        other(f"compute = COMPUTATIONS[{name!r}](store, lambda: 'by another process')")
        compute = COMPUTATIONS[name](store, lambda: "here")
        # Once before: what is imported for the first time is no part of it.
        compute()
        forget(store)
        for place in everywhere(compute):
            forget(store)
            # The lease is given back, without which other processes would wait for as long as this one is there;
            assert within_reason(lambda: other("compute()")) == "by another process", place
            forget(store)
            # and the flight has landed, for which this one's threads would wait for ever.
            assert within_reason(compute) == "here", place
            forget(store)
        assert compute() == "here"


def test_waiting_for_the_turn_interrupted_anywhere_leaves_it_to_others(store_path):
    with kvstore.open(store_path, durability="none") as store:
        # Once before: what is imported for the first time is no part of it.
        change_in_time(store)
        places = []
        for place in everywhere(lambda: change_in_time(store)):
            places.append(place)
            within_reason(lambda place=place: store.set("another", place))
            assert store["another"] == place
        assert any("turn_within, after" in place for place in places)


def change_in_time(store):
    with store.transaction(timeout=PATIENCE_SECONDS) as transaction:
        transaction["n"] = 1


@pytest.mark.parametrize("operation", ["open", "close"])
def test_opening_and_closing_interrupted_anywhere_leave_a_file_that_opens(tmp_path, operation):
    path = tmp_path / "store.kv"
    with kvstore.open(path, durability="none") as store:
        store.set_many(BEFORE)
    # As after collection, see conftest: garbage is collected again and again, among what comes now.
    gc.collect()
    gc.freeze()
    handles = []
    if operation == "open":
        runs = everywhere(lambda: kvstore.open(path, durability="none").close())
    else:

        def close():
            handles.pop().close()

        def closing():
            handles.append(kvstore.open(path, durability="none"))
            for place in everywhere(close):
                yield place
                handles.append(kvstore.open(path, durability="none"))

        runs = closing()
    for place in runs:
        gc.collect()
        within_reason(lambda: kvstore.open(path, durability="none").close())
        with kvstore.open(path, durability="none") as store:
            assert dict(store) == BEFORE, place


@pytest.mark.torture
@pytest.mark.parametrize("operation", ["open", "close"])
def test_opening_and_closing_a_warm_store_interrupted_anywhere_leave_one_that_opens_warm(tmp_path, operation):
    path = tmp_path / "store.kv"

    def opened():
        store = kvstore.open(path, durability="none", warm=True)
        assert store.warmed(PATIENCE_SECONDS)
        return store

    def closing():
        stores = [opened()]
        for place in everywhere(lambda: stores.pop().close()):
            yield place
            stores.append(opened())

    with opened() as store:
        store.set_many(BEFORE)
    opening = everywhere(lambda: kvstore.open(path, durability="none", warm=True).close())
    for place in opening if operation == "open" else closing():
        gc.collect()
        within_reason(lambda: kvstore.open(path, durability="none").close())
        with opened() as store:
            assert store.get_many(BEFORE) == BEFORE, place
            assert store.stats().misses == 0, place
