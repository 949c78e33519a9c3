"""Expiry: a record whose time is over is never returned by anything, and its space comes back without a scan."""

from __future__ import annotations

import io
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvstore
from kvstore import dump, expiry
from tests import policies
from tests.calls import calls_made
from tests.other_process import with_store
from tests.tiers import assert_books_balance, assert_memory_is_true, in_memory

START = 1_700_000_000.0


class Clock:
    """Shows what it is set to."""

    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(store_path, clock):
    with kvstore.open(store_path, durability="none", clock=clock) as store:
        yield store


@pytest.fixture
def fresh(store_path, store, clock):
    """A reader without memory."""
    with kvstore.open(store_path, durability="none", cache_size=0, clock=clock) as fresh:
        yield fresh


@pytest.fixture(params=["", "n"])
def space(request, store):
    """The default space of the store, and a namespace."""
    return store.namespace(request.param) if request.param else store


def index_of(store):
    """The entries of the expiry index: when, namespace and key."""
    with store._engine.backend.read() as view:
        entries = view.scan(expiry.INDEX, b"", None)
        return [(int.from_bytes(when[:8], "big") / 1000 - START, *what.split(b"\0", 1)) for when, what in entries]


def stored(space):
    """How many records the file has of a space, those whose time is over included."""
    with space._view() as view:
        return view.count(space._space)


# -- how long --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda space: space.set("key", [1], ttl=10),
        lambda space: space.set_many({"key": [1]}, ttl=10),
        lambda space: space.set_many(((str(n), n) for n in range(1_500)), ttl=10) or space.set("key", [1], ttl=10),
        lambda space: space.add("key", [1], ttl=10),
        lambda space: space.setdefault("key", [1], ttl=10),
        lambda space: space.get_or_set("key", lambda: [1], ttl=10),
        lambda space: space.set("key", [1]) or space.touch("key", 10),
        lambda space: space.set("key", [1], ttl=5) or space.touch("key", 10),
        lambda space: space.set("key", [1], ttl=50) or space.touch("key", 10),
    ],
    ids=["set", "set_many", "a load", "add", "setdefault", "get_or_set", "touch", "longer", "shorter"],
)
def test_a_record_lives_for_its_ttl_and_not_a_millisecond_longer(space, fresh, clock, write):
    write(space)
    reader = fresh.namespace("n") if space._space else fresh
    for elapsed, left in ((0, 10), (4.5, 5.5), (9.998, 0.002)):
        clock.now = START + elapsed
        for handle in (space, reader):
            assert handle["key"] == [1]
            assert handle.ttl("key") == pytest.approx(left, abs=0.002)
    for elapsed in (10.001, 11, 1e6):
        clock.now = START + elapsed
        for handle in (space, reader):
            assert handle.get("key") is None
            with pytest.raises(KeyError, match="key"):
                handle.ttl("key")


def test_a_record_without_a_ttl_never_ends(space, clock):
    space["key"] = 1
    assert space.ttl("key") is None
    clock.now = START + 1e9
    assert space["key"] == 1
    assert space.ttl("key") is None


@pytest.mark.parametrize("key", ["missing", 1.5, None, "x" * 600], ids=lambda key: repr(key)[:10])
def test_what_is_not_there_has_no_ttl(space, key):
    with pytest.raises(KeyError):
        space.ttl(key)
    assert space.touch(key, 5) is False
    assert space.touch(key, None) is False
    with pytest.raises(TypeError):
        space.ttl([])
    with pytest.raises(TypeError):
        space.touch([], 5)


@pytest.mark.parametrize("ttl", [0, -1, -0.5, math.inf, -math.inf, math.nan, 1e30])
def test_a_ttl_without_sense_is_a_value_error_and_nothing_is_written(space, ttl):
    refuses(space, ttl, ValueError)


@pytest.mark.parametrize("ttl", ["5", True, b"5", [5], 5j])
def test_a_ttl_that_is_no_number_is_a_type_error_and_nothing_is_written(space, ttl):
    refuses(space, ttl, TypeError)


def refuses(space, ttl, error):
    space["there"] = 1
    for write in (
        lambda: space.set("there", 2, ttl=ttl),
        lambda: space.set_many({"there": 2}, ttl=ttl),
        lambda: space.set_many({}, ttl=ttl),
        lambda: space.add("new", 2, ttl=ttl),
        lambda: space.setdefault("new", 2, ttl=ttl),
        lambda: space.get_or_set("new", lambda: 2, ttl=ttl),
        lambda: space.touch("there", ttl),
    ):
        with pytest.raises(error, match="ttl"):
            write()
    assert dict(space) == {"there": 1}
    assert space.ttl("there") is None


def test_no_record_ends_before_its_ttl_is_over_wherever_between_two_milliseconds_that_is(space, clock):
    clock.now = START + 0.0005
    space.set("key", 1, ttl=0.0002)
    clock.now = START + 0.0006
    assert space["key"] == 1
    clock.now = START + 0.002
    assert space.get("key") is None


def test_the_shortest_ttl_lasts_a_moment_and_the_longest_for_ever(space, clock):
    space.set("short", 1, ttl=1e-9)
    space.set("long", 1, ttl=1e10)
    assert space.get("short") in (1, None)
    clock.now += 0.002
    assert space.get("short") is None
    assert space["long"] == 1


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda space: space.set("key", 6), None),
        (lambda space: space.set("key", 6, ttl=7), 7),
        (lambda space: space.set_many({"key": 6}), None),
        (lambda space: space.touch("key", None), None),
        (lambda space: space.touch("key", 3), 3),
        (lambda space: space.incr("key"), 8),
        (lambda space: space.modify("key", lambda found: found + 1), 8),
        (lambda space: space.compare_and_set("key", 5, 6), 8),
        (lambda space: space.add("key", 6, ttl=3), 8),
        (lambda space: space.setdefault("key", 6, ttl=3), 8),
        (lambda space: space.get_or_set("key", lambda: 6, ttl=3), 8),
    ],
    ids=[
        "set",
        "set with ttl",
        "set_many",
        "touch None",
        "touch",
        "incr",
        "modify",
        "compare_and_set",
        "add",
        "setdefault",
        "get_or_set",
    ],
)
def test_what_a_write_does_to_the_ttl(space, fresh, clock, change, left):
    space.set("key", 5, ttl=10)
    clock.now += 2
    change(space)
    for handle in (space, fresh.namespace("n") if space._space else fresh):
        found = handle.ttl("key")
        assert found == left or found == pytest.approx(left, abs=0.002)
        assert handle["key"] in (5, 6)
    clock.now += 8.5
    assert ("key" in space) is (left is None)
    assert space.get("key") == (None if left is not None else handle["key"])


# -- never returned --------------------------------------------------------------------------------


@pytest.fixture
def half_past(space, clock):
    """A space of which every other record's time is over; all of them were in memory."""
    for number in range(0, 10, 2):
        space.set(number, [number], ttl=10)
        space[number + 1] = [number + 1]
    space.get_many(range(10))
    clock.now += 10
    return space


LEFT = {number: [number] for number in range(1, 10, 2)}


def readings(space):
    """What each way of reading says the space has."""
    return {
        "get": {number: value for number in range(10) if (value := space.get(number)) is not None},
        "in": {number: [number] for number in range(10) if number in space},
        "get_many": space.get_many(range(10)),
        "iteration": {number: [number] for number in space},
        "reversed": {number: [number] for number in reversed(list(reversed(space)))},
        "keys": {number: [number] for number in space.keys()},  # noqa: SIM118
        "items": dict(space.items()),
        "reversed items": dict(reversed(list(reversed(space.items())))),
        "values": {value[0]: value for value in space.values()},
        "scan": dict(space.scan()),
        "reversed scan": dict(reversed(list(space.scan(reverse=True)))),
        "scan_keys": {number: [number] for number in space.scan_keys(start=0, stop=10)},
        "limit": dict(space.scan(limit=5)),
        "item in items": {number: [number] for number in range(10) if (number, [number]) in space.items()},
        "value in values": {number: [number] for number in range(10) if [number] in space.values()},
    }


def test_nothing_returns_what_is_over(half_past, fresh, store):
    name = half_past._space
    others = [fresh.namespace(name) if name else fresh]
    with store.snapshot() as snapshot, store.transaction() as tx:
        others += [snapshot.namespace(name), tx.namespace(name)] if name else [snapshot, tx]
        for handle in (half_past, *others):
            for way, found in readings(handle).items():
                assert found == LEFT, way
            assert len(handle) == len(handle.keys()) == len(LEFT)
            for number in range(0, 10, 2):
                with pytest.raises(KeyError):
                    handle[number]
                with pytest.raises(KeyError):
                    handle.ttl(number)
    assert half_past == LEFT


def test_a_dump_leaves_out_what_is_over(half_past, store):
    stream = io.BytesIO()
    report = dump.write(store, stream)
    assert report.records == len(LEFT)
    exported = list(store.export_records())
    assert {record.key: record.value for record in exported} == LEFT
    assert [record for record in store.export_records(namespace=half_past._space)] == exported


def test_a_dump_carries_when_records_end(space, store, clock, tmp_path):
    space.set("ends", 1, ttl=10)
    space["stays"] = 2
    stream = io.BytesIO()
    dump.write(store, stream)
    stream.seek(0)
    with kvstore.open(tmp_path / "copy.kv", durability="none", clock=clock) as copy:
        clock.now += 4
        dump.load(copy, stream)
        there = copy.namespace("n") if space._space else copy
        assert there.ttl("ends") == pytest.approx(6, abs=0.002)
        assert there.ttl("stays") is None
        clock.now += 6
        assert dict(there) == {"stays": 2}
        assert copy.expire() == 1


def test_what_is_over_by_the_time_it_is_loaded_is_not_returned(space, store, clock, tmp_path):
    space.set("ends", 1, ttl=10)
    records = list(store.export_records())
    clock.now += 10
    with kvstore.open(tmp_path / "copy.kv", durability="none", clock=clock) as copy:
        copy.import_records(records)
        assert list((copy.namespace("n") if space._space else copy).items()) == []
        assert copy.expire() <= 1
        assert copy.stats().records == 0


@pytest.mark.parametrize("inside", ["the store", "a transaction"])
@pytest.mark.parametrize(
    ("write", "given", "after"),
    [
        (lambda space: space.add(0, "new"), True, "new"),
        (lambda space: space.setdefault(0, "new"), "new", "new"),
        (lambda space: space.get_or_set(0, lambda: "new"), "new", "new"),
        (lambda space: space.incr(0, 2, default=5), 7, 7),
        (lambda space: space.modify(0, lambda found: [found], default="d"), ["d"], ["d"]),
        (lambda space: space.compare_and_set(0, [0], "new"), False, None),
        (lambda space: space.pop(0, "default"), "default", None),
        (lambda space: space.delete(0), False, None),
        (lambda space: space.delete_many(range(4)), 2, None),
        (lambda space: space.touch(0, 100), False, None),
        (lambda space: space.popitem(), (1, [1]), None),
    ],
    ids=[
        "add",
        "setdefault",
        "get_or_set",
        "incr",
        "modify",
        "compare_and_set",
        "pop",
        "delete",
        "delete_many",
        "touch",
        "popitem",
    ],
)
def test_writes_take_what_is_over_for_absent(half_past, fresh, store, write, given, after, inside):
    if inside == "the store":
        assert write(half_past) == given
    else:
        with store.transaction() as tx:
            assert write(tx.namespace(half_past._space) if half_past._space else tx) == given
    for handle in (half_past, fresh.namespace("n") if half_past._space else fresh):
        assert handle.get(0) == after
        if after is not None:
            assert handle.ttl(0) is None
    assert_memory_is_true(store, fresh)


@pytest.mark.parametrize(
    "write",
    [
        lambda space: space.pop(0),
        lambda space: space.modify(0, lambda found: found),
        lambda space: space.__delitem__(0),
    ],
)
def test_writes_that_need_a_value_find_none(half_past, write):
    with pytest.raises(KeyError):
        write(half_past)


def test_a_snapshot_is_of_its_moment_and_its_records_end_all_the_same(space, store, clock):
    space.set("key", 1, ttl=10)
    with store.snapshot() as snapshot:
        view = snapshot.namespace("n") if space._space else snapshot
        space.touch("key", 100)
        assert view.ttl("key") == pytest.approx(10, abs=0.002)
        clock.now += 10
        assert view.get("key") is None
        assert space["key"] == 1


def test_a_modification_that_takes_longer_than_the_record_lasts_begins_again(space, clock):
    space.set("key", 1, ttl=10)
    seen = []

    def change(found):
        seen.append(found)
        clock.now += 10
        return [found]

    assert space.modify("key", change, default="anew") == ["anew"]
    assert seen == [1, "anew"]
    assert space.ttl("key") is None


# -- the space comes back --------------------------------------------------------------------------


def test_expire_purges_what_is_over_in_every_namespace_and_says_how_many(store, fresh, clock):
    spaces = [store, store.namespace("n"), store.namespace("m")]
    for space in spaces:
        space.set_many({number: [number] for number in range(1_000)}, ttl=10)
        space.set_many({-number: number for number in range(1, 51)}, ttl=20)
        space.set_many({"stays": 1})
    assert store.expire() == 0
    clock.now += 10
    assert spaces[1].expire() == 3_000
    assert store.expire() == 0
    assert [stored(space) for space in spaces] == [51, 51, 51]
    assert len(index_of(store)) == 150
    assert [dict(fresh.namespace(name) if name else fresh)["stays"] for name in ("", "n", "m")] == [1, 1, 1]
    assert store.stats().records == 153
    clock.now += 10
    assert store.expire() == 150
    assert index_of(store) == []
    assert store.stats().records == 3
    assert_memory_is_true(store, fresh)


def test_nothing_is_purged_in_the_last_millisecond_of_its_time(store, clock):
    store.set_many(dict.fromkeys(range(5), 1), ttl=10)
    clock.now = START + 9.9995
    assert store.expire() == 0
    store["another"] = 1
    assert len(store) == stored(store) == 6
    clock.now = START + 10.001
    assert store.expire() == 5


def test_purging_takes_no_step_for_each_record_that_stays(store_path, clock):
    with kvstore.open(store_path, durability="none", cache_size=0, clock=clock) as store:
        took = []
        for many in (10, 20_000):
            store.set_many({number: number for number in range(many)}, ttl=1_000)
            store.set("ends", 1, ttl=1)
            clock.now += 1
            purged = []
            took.append(calls_made(lambda purged=purged: purged.append(store.expire())))
            assert purged == [1]
        assert abs(took[0] - took[1]) < 20


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.set("other", 1),
        lambda store: store.namespace("other").set("other", 1),
        lambda store: store.incr("count"),
        lambda store: store.set_many({"a": 1, "b": 2}),
        lambda store: store.delete("there"),
    ],
    ids=["set", "in another namespace", "incr", "set_many", "delete"],
)
def test_writes_purge_a_bounded_few_on_the_way(store, fresh, clock, write):
    store["there"] = 1
    space = store.namespace("n")
    space.set_many({number: number for number in range(100)}, ttl=10)
    space.set_many({-number: number for number in range(1, 11)}, ttl=100)
    clock.now += 10
    left = stored(space)
    write(store)
    purged = left - stored(space)
    assert 1 <= purged <= 50
    for step in range(120):
        if stored(space) == 10:
            break
        store[f"step {step}"] = 1
    assert stored(space) == 10
    assert len(index_of(store)) == 10
    assert_memory_is_true(store, fresh)
    assert_books_balance(store)


def test_a_write_that_changes_nothing_purges_nothing(store, clock):
    store.set("ends", 1, ttl=10)
    clock.now += 10
    before = max(cell[0] for cell in store._engine.backend.commits)
    assert store.delete("none") is False
    assert store.add("ends too", 1, ttl=1) is True
    assert max(cell[0] for cell in store._engine.backend.commits) == before + 1
    assert stored(store) == 1


def test_records_without_a_ttl_leave_no_trace_in_the_index(store):
    store.set_many({"a": 1, "b": 2})
    store["c"] = 3
    store.namespace("n")["d"] = 4
    store.touch("a", None)
    assert index_of(store) == []
    with store._engine.backend.read() as view:
        assert expiry.INDEX not in view.databases()


def test_an_index_entry_that_is_out_of_date_harms_nothing(space, store, fresh, clock):
    for number, change in enumerate(
        [
            lambda key: space.set(key, "no end"),
            lambda key: space.touch(key, None),
            lambda key: space.touch(key, 100),
            lambda key: space.set(key, "longer", ttl=100),
            lambda key: space.delete(key) and space.add(key, "again"),
            lambda key: space.set_many({key: "no end"}),
        ]
    ):
        space.set(number, [number], ttl=10)
        change(number)
    before = dict(space)
    assert len(before) == 6
    clock.now += 10
    assert len(space) == 6
    assert store.expire() == 0
    assert dict(space) == dict(fresh.namespace("n") if space._space else fresh) == before
    assert sorted(when for when, *_ in index_of(store)) == [100, 100]
    clock.now += 90
    assert len(space) == 4
    assert store.expire() == 2
    assert index_of(store) == []


def test_what_is_replaced_or_deleted_leaves_the_index(space, store):
    for change in [
        lambda: space.set("key", "no end"),
        lambda: space.touch("key", None),
        lambda: space.set_many({"key": "no end", "other": 1}),
        lambda: space.delete("key"),
        lambda: space.delete_many(["key", "other"]),
        lambda: space.pop("key"),
        lambda: space.popitem(),
    ]:
        space.clear()
        space.set("key", 1, ttl=10)
        assert len(index_of(store)) == 1
        change()
        assert index_of(store) == []


def test_a_record_that_is_renewed_again_and_again_stays_one_in_the_index(space, store):
    for ttl in range(1, 50):
        space.set("set", 1, ttl=ttl)
        space.set_many({"set_many": 1}, ttl=ttl)
        space.touch("set", ttl + 100)
    assert len(index_of(store)) == 2


@pytest.mark.parametrize("others", [1, expiry._FEW], ids=["few entries", "few records"])
def test_what_is_cleared_leaves_the_index_and_others_stay_in_it(space, store, others):
    store.namespace("other").set_many({number: number for number in range(others)}, ttl=10)
    for number, clear in enumerate([lambda: space.clear(), lambda: store.drop_namespace(space._space or "none")]):
        space.set_many({"key": 1, number: 2}, ttl=10)
        clear()
        expected = 2 if space is store and number else 0
        assert [name for _, name, _ in index_of(store)].count(space._space.encode()) == expected
    assert [name for _, name, _ in index_of(store)].count(b"other") == others


def test_a_store_that_is_too_full_to_change_the_index_is_cleared_all_the_same(store_path, clock):
    with kvstore.open(store_path, durability="none", clock=clock, max_size=1 << 20) as store:
        space = store.namespace("n")
        space.set_many({number: number for number in range(expiry._FEW)}, ttl=10)
        with pytest.raises(kvstore.StoreFullError):
            for number in range(10_000):
                store[number] = bytes(1_000)
        space.clear()
        assert len(space) == 0
        store.clear()
        assert store.verify().ok


def test_the_index_entries_that_a_dropped_namespace_of_many_leaves_harm_nothing(store, clock, monkeypatch):
    monkeypatch.setattr(expiry, "_FEW", 0)
    space = store.namespace("n")
    space.set("key", 1, ttl=10)
    store.drop_namespace("n")
    space["key"] = "again"
    space.set("ends", 1, ttl=10)
    store.drop_namespace("n")
    space.update({"key": "again"})
    space.set("ends", "later", ttl=100)
    clock.now += 10
    assert len(space) == 2
    assert store.expire() == 0
    assert dict(space) == {"key": "again", "ends": "later"}
    space.set("key", 1, ttl=10)
    store.drop_namespace("n")
    clock.now += 100
    assert store.expire() == 0
    assert index_of(store) == []


def test_purging_frees_pages(store, clock):
    store.set_many({number: bytes(2_000) for number in range(500)}, ttl=10)
    used = store.stats().used_bytes
    clock.now += 10
    assert store.expire() == 500
    store["a"] = 1
    assert store.stats().used_bytes < used - 500 * 2_000
    assert store.stats().reclaimable_bytes > 500 * 2_000


def test_verify_has_nothing_against_expiry(store, clock):
    store.set_many({number: number for number in range(10)}, ttl=10)
    store.touch(3, 20)
    store.delete(4)
    assert store.verify().ok
    clock.now += 10
    assert store.verify().ok
    store.expire()
    assert store.verify().ok


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, [1], {"a": [1]}, (1, [2])], ids=repr)
def test_an_entry_in_memory_ends_with_its_record(space, clock, value):
    space.set("key", value, ttl=10)
    before = space.stats()
    for _ in range(3):
        assert space["key"] == value
    assert (space.stats() - before).hits == 3
    clock.now += 10
    assert space.get("key") is None
    interval = space.stats() - before
    assert (interval.hits, interval.misses, interval.absent) == (3, 1, 1)
    assert interval.expirations == 1


def test_an_entry_that_ends_after_the_policy_has_failed_is_absent(store_path, clock):
    with kvstore.open(store_path, durability="none", clock=clock, policy=policies.Failing) as store:
        store.set("key", 1, ttl=10)
        assert store["key"] == 1
        # Counts the hit, which the policy is told of.
        store.stats()
        clock.now += 10
        assert store.get("key") is None
        assert_books_balance(store)


def test_each_entry_that_ends_is_counted_once_where_it_was(store, clock):
    store.set_many({number: number for number in range(10)}, ttl=10)
    store.namespace("n").set_many({number: [number] for number in range(5)}, ttl=20)
    clock.now += 15
    for _ in range(3):
        store.get_many(range(10))
        store.get(3)
        assert len(store.namespace("n").get_many(range(5))) == 5
    stats = assert_books_balance(store)
    assert stats.expirations == stats.namespaces[""].expirations == 10
    assert stats.namespaces["n"].expirations == 0
    assert {namespace for namespace, *_ in in_memory(store)} == {"n"}


def test_a_touch_that_shortens_or_lengthens_reaches_memory(space, store, fresh, clock):
    for ttl, later in ((100, 50), (1, 0.5), (None, 1e6), (5, 4.9)):
        space.set("key", [1], ttl=10)
        assert space["key"] == [1]
        assert space.touch("key", ttl) is True
        assert space["key"] == [1]
        clock.now += later
        assert space["key"] == [1]
        assert_memory_is_true(store, fresh)
        clock.now += 50
        assert space.get("key") == ([1] if ttl is None else None)


# -- a clock that jumps ----------------------------------------------------------------------------


def test_a_clock_that_jumps_ahead_ends_records_early_and_back_again_brings_back_what_is_not_purged(
    space, store, fresh, clock
):
    space.set_many({"a": [1], "b": [2]}, ttl=10)
    assert space.get_many("ab") == {"a": [1], "b": [2]}
    clock.now += 1_000
    assert space.get_many("ab") == {}
    clock.now -= 1_000
    assert space.get_many("ab") == {"a": [1], "b": [2]}
    assert len(space) == 2
    clock.now += 1_000
    assert store.expire() == 2
    clock.now -= 1_000
    assert space.get_many("ab") == {}
    assert dict(space) == {}
    assert_memory_is_true(store, fresh)


def test_a_clock_that_jumps_back_lets_records_last_longer(space, clock):
    space.set("key", 1, ttl=10)
    clock.now -= 1_000
    assert space["key"] == 1
    assert space.ttl("key") == pytest.approx(1_010, abs=0.002)
    clock.now += 1_009
    assert space["key"] == 1
    clock.now += 1
    assert "key" not in space


moves = st.sampled_from((0, 1, 3, 10, 30, -1, -10, -30))
ttls = st.sampled_from((None, 1, 5, 10, 25))
few_keys = st.sampled_from("abc")
steps = st.one_of(
    st.tuples(st.just("set"), few_keys, st.integers(0, 9), ttls),
    st.tuples(st.just("add"), few_keys, st.integers(0, 9), ttls),
    st.tuples(st.just("touch"), few_keys, ttls),
    st.tuples(st.just("delete"), few_keys),
    st.tuples(st.just("incr"), few_keys),
    st.tuples(st.just("expire")),
    st.tuples(st.just("move"), moves),
    st.tuples(st.just("read"), few_keys),
)


@settings(max_examples=settings.default.max_examples // 2)
@given(taken=st.lists(steps, max_size=30), in_namespace=st.booleans())
def test_however_the_clock_jumps_memory_and_file_agree_and_nothing_is_there_that_is_over(
    tmp_path_factory, taken, in_namespace
):
    """The judge: values with the moment of their end. What is over may be purged by any write, and then stays away."""
    clock = Clock()
    path = tmp_path_factory.mktemp("jumps") / "store.kv"
    judge: dict[str, tuple[int, float]] = {}
    with (
        kvstore.open(path, durability="none", clock=clock) as store,
        kvstore.open(path, durability="none", cache_size=0, clock=clock) as fresh,
    ):
        space = store.namespace("n") if in_namespace else store
        reader = fresh.namespace("n") if in_namespace else fresh
        for name, *arguments in taken:
            alive = {key: value for key, (value, end) in judge.items() if end > clock.now}
            if name == "move":
                clock.now += arguments[0]
            elif name == "read":
                assert space.get(arguments[0]) == alive.get(arguments[0])
            elif name == "expire":
                space.expire()
            else:
                key, *rest = arguments
                end = math.inf if not rest or rest[-1] is None else clock.now + rest[-1]
                if name == "set":
                    space.set(key, rest[0], ttl=rest[1])
                    judge[key] = (rest[0], end)
                elif name == "add":
                    assert space.add(key, rest[0], ttl=rest[1]) is (key not in alive)
                    if key not in alive:
                        judge[key] = (rest[0], end)
                elif name == "touch":
                    assert space.touch(key, rest[0]) is (key in alive)
                    if key in alive:
                        judge[key] = (alive[key], end)
                elif name == "delete":
                    assert space.delete(key) is (key in alive)
                    judge.pop(key, None)
                else:
                    total = alive.get(key, 0) + 1
                    assert space.incr(key) == total
                    judge[key] = (total, judge[key][1] if key in alive else math.inf)
            found = dict(reader)
            for key, (_, end) in list(judge.items()):
                if end <= clock.now and stored_record(reader, key) is None:
                    del judge[key]
            alive = {key: value for key, (value, end) in judge.items() if end > clock.now}
            assert found == dict(space) == space.get_many("abc") == alive
            assert len(space) == len(reader) == len(alive)
        assert_books_balance(store)
        assert store.verify().ok


def stored_record(space, key):
    with space._view() as view:
        return view.get(space._space, kvstore.keys.encode(key))


# -- other processes -------------------------------------------------------------------------------


def test_what_another_process_has_given_an_end_ends_here_too(store_path, store, clock):
    """Here nobody has written anything with a ttl yet, so that there was no index to know of."""
    space = store.namespace("n")
    space["mine"] = store["mine"] = 1
    with with_store(store_path, durability="none") as other:
        other(f"clock = lambda: {START}")
        other(f"mine = kvstore.open({str(store_path)!r}, durability='none', clock=clock)")
        other("mine.namespace('n').set('ends', [1], ttl=10)")
        other("mine.set('ends', [1], ttl=10)")
        for handle in (space, store):
            assert handle["ends"] == [1]
            assert len(handle) == 2
        clock.now += 10
        for handle in (space, store):
            assert handle.get("ends") is None
            assert list(handle) == ["mine"]
            assert len(handle) == 1
        assert store.expire() == 2


def test_another_process_that_knew_of_no_index_sees_ends_and_purges(store_path, store, clock):
    with with_store(store_path, durability="none") as other:
        other("space = store.namespace('n')")
        other("len(store), list(store), len(space)")
        store.set("ends", [1], ttl=10)
        store.namespace("n").set("ends", [1], ttl=10)
        # Its clock is the real one, to which all of this is long past.
        assert other("(len(store), list(store), len(space), list(space), store.get('ends'))") == (0, [], 0, [], None)
        assert other("store.expire()") == 2
        assert store.stats().records == 0
