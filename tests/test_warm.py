"""Warm restarts: what was hot before a restart is in memory after it, as it is by then."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import pickle
import random
import subprocess
import sys
import threading

import pytest

import kvstore
import kvstore.aio
from kvstore import warm, warm_list
from kvstore.backends import identify
from kvstore.engine import _engines
from kvstore.memory import MemoryTier
from tests.conftest import ROOT
from tests.forks import WARNING, Child, in_child
from tests.other_process import OtherProcess, with_store
from tests.policies import NAMED, OWN
from tests.threads import PATIENCE_SECONDS, at_once, until
from tests.tiers import assert_books_balance, assert_memory_is_true, in_memory

pytestmark = pytest.mark.filterwarnings(WARNING)

COUNT = 400
SMALL_TIER = 40_000


@pytest.fixture
def filled(store_path):
    """A store of many records, in two namespaces, that nobody has open."""
    with kvstore.open(store_path, durability="none") as store:
        store.set_many({f"k{number}": [number] * 5 for number in range(COUNT)})
        store.namespace("n").set_many({number: f"v{number}" for number in range(COUNT)})
    return store_path


def opened(path, **options):
    """The store at ``path``, warm, with everything loaded."""
    store = kvstore.open(path, **{"durability": "none", "warm": True, **options})
    assert store.warmed(PATIENCE_SECONDS)
    return store


def hot_list(path):
    return f"{path}-hot"


def leave_hot(path, wanted, **options):
    """Read these keys of the default namespace, in this order, and close."""
    with opened(path, **options) as store:
        for key in wanted:
            store[key]


def is_open(path):
    """Whether this process has the file open."""
    return identify(path) in _engines


def order(store):
    """What the policy holds, in the order in which it would leave."""
    return [(entry.space, entry.token) for entry in store._tier.coldest_first()]


def loaded(store):
    return sorted(key for _, key, _ in in_memory(store))


class Gate:
    """Has a loading thread wait before each key after the first ``free``, until told to go on."""

    def __init__(self, monkeypatch, free):
        self.reached = threading.Event()
        self.open = threading.Event()
        read = warm_list.read

        def gated(path):
            for number, hot in enumerate(read(path)):
                if number == free:
                    self.reached.set()
                    assert self.open.wait(PATIENCE_SECONDS)
                yield hot

        monkeypatch.setattr(warm_list, "read", gated)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.open.set()


# -- the tier is as it was -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["lru", "fifo", "lfu"])
def test_the_keys_come_back_in_the_policys_order(filled, policy):
    rng = random.Random(policy)
    with opened(filled, policy=policy, cache_size=SMALL_TIER) as store:
        for _ in range(2_000):
            number = int(rng.paretovariate(1)) % COUNT
            store[f"k{number}"]
            store.namespace("n")[rng.randrange(20)]
        before = order(store)
        assert store.stats().evictions
    with opened(filled, policy=policy, cache_size=SMALL_TIER) as store:
        assert order(store) == before
        assert {space for space, _ in before} == {"", "n"}
        assert_books_balance(store)


@pytest.mark.parametrize("policy", [*NAMED, *OWN])
def test_under_any_policy_what_is_loaded_is_true_and_within_the_bound(filled, policy):
    with opened(filled, policy=policy, cache_size=SMALL_TIER) as store:
        for number in range(COUNT):
            store[f"k{number % 150}"]
    with (
        opened(filled, policy=policy, cache_size=SMALL_TIER) as store,
        kvstore.open(filled, durability="none", cache_size=0) as reader,
    ):
        assert store.stats().entries
        assert store.stats().evictions == 0
        assert_memory_is_true(store, reader)
        assert_books_balance(store, has_clock=policy not in NAMED)


def test_keys_of_every_kind_are_remembered(store_path):
    items = {
        "text": 1,
        5: 2.5,
        -(2**70): None,
        b"bytes": [1, [2]],
        ("tuple", (1, b"")): {"a": {1}},
        "": bytearray(b"x"),
    }
    with opened(store_path) as store:
        store.set_many(items)
        store.namespace("ü").set_many(items)
    with opened(store_path) as store:
        assert store.stats().entries == 2 * len(items)
        assert store.get_many(items) == items == store.namespace("ü").get_many(items)
        assert (store.stats().hits, store.stats().misses) == (2 * len(items), 0)


@pytest.mark.parametrize("policy", NAMED)
def test_the_first_thousand_reads_hit_as_in_the_steady_state_and_without_it_they_do_not(filled, policy):
    rng = random.Random(policy)
    population = [f"of many {number}" for number in range(4_000)]
    weights = [*itertools.accumulate(1 / (rank + 1) for rank in range(len(population)))]
    rng.shuffle(population)
    with kvstore.open(filled, durability="none", cache_size=0) as store:
        store.set_many(dict.fromkeys(population, "value"))

    def hit_rate(store, reads):
        before = store.stats()
        for key in rng.choices(population, cum_weights=weights, k=reads):
            store[key]
        return (store.stats() - before).hit_rate

    tier = 500_000
    with opened(filled, policy=policy, cache_size=tier) as store:
        hit_rate(store, 10_000)
        steady = hit_rate(store, 10_000)
    with kvstore.open(filled, durability="none", policy=policy, cache_size=tier) as store:
        cold = hit_rate(store, 1_000)
    with opened(filled, policy=policy, cache_size=tier) as store:
        warm = hit_rate(store, 1_000)
    assert warm >= 0.95 * steady
    assert cold < 0.8 * steady


def test_a_smaller_tier_gets_the_hottest_that_fit_and_a_larger_one_all(filled):
    leave_hot(filled, [f"k{number}" for number in range(100)])
    with opened(filled, cache_size=20_000) as store:
        kept = store.stats().entries
        assert 10 < kept < 100
        assert order(store) == [("", f"k{number}") for number in range(100 - kept, 100)]
    with opened(filled, cache_size=1 << 24) as store:
        assert store.stats().entries == 100


def test_loading_counts_what_comes_in_and_no_lookups(filled):
    leave_hot(filled, ["k1", "k2"])
    with opened(filled) as store:
        stats = store.stats()
        assert (stats.lookups, stats.hits, stats.misses, stats.absent) == (0, 0, 0, 0)
        assert stats.insertions == stats.entries == 2


# -- live traffic goes first ---------------------------------------------------------------------------------------


def test_what_is_read_meanwhile_stays_and_is_the_hottest(filled, monkeypatch):
    leave_hot(filled, [f"k{number}" for number in range(50)])
    with Gate(monkeypatch, free=20) as gate, kvstore.open(filled, durability="none", warm=True) as store:
        assert gate.reached.wait(PATIENCE_SECONDS)
        assert store.stats().entries == 20
        for key in ("k300", "k45", "k2", "k35"):
            store[key]
        assert store.stats().hits == 2
        gate.open.set()
        assert store.warmed(PATIENCE_SECONDS)
        live = ["k300", "k45", "k2", "k35"]
        before = [f"k{number}" for number in range(50) if f"k{number}" not in live]
        assert order(store) == [("", key) for key in (*before, *live)]


def test_nothing_that_live_traffic_has_brought_in_leaves_for_it(filled, monkeypatch):
    leave_hot(filled, [f"k{number}" for number in range(100)], cache_size=SMALL_TIER)
    with (
        Gate(monkeypatch, free=0) as gate,
        kvstore.open(filled, durability="none", warm=True, cache_size=SMALL_TIER) as store,
    ):
        assert gate.reached.wait(PATIENCE_SECONDS)
        live = [f"k{number}" for number in range(300, 350)]
        for key in live:
            store[key]
        gate.open.set()
        assert store.warmed(PATIENCE_SECONDS)
        assert store.stats().evictions == 0
        assert set(live) < set(loaded(store))
        assert order(store)[-len(live) :] == [("", key) for key in live]


def test_a_value_that_has_grown_out_of_the_free_room_is_left_out(filled):
    leave_hot(filled, [f"k{number}" for number in range(20)], cache_size=SMALL_TIER)
    with kvstore.open(filled, durability="none") as store:
        store.set_many({f"k{number}": bytes(SMALL_TIER // 2) for number in range(18, 20)})
    with opened(filled, cache_size=SMALL_TIER) as store:
        assert loaded(store) == sorted(f"k{number}" for number in range(20) if number != 18)
        assert store.stats().evictions == 0


# -- nothing stale, nothing wrong ----------------------------------------------------------------------------------


def test_what_was_changed_in_between_is_loaded_as_it_is_now(filled):
    leave_hot(filled, ["k1", "k2", "k3"])
    with with_store(filled, durability="none") as other:
        other("store['k1'] = 'new'; del store['k2']")
    with opened(filled) as store:
        assert loaded(store) == ["k1", "k3"]
        assert (store["k1"], store.get("k2"), store["k3"]) == ("new", None, [3] * 5)


def test_a_value_that_is_replaced_while_it_is_loaded_is_never_put_back(filled):
    wanted = [f"k{number}" for number in range(100)]
    leave_hot(filled, wanted)
    for turn in range(5):
        with (
            kvstore.open(filled, durability="none", cache_size=0) as reader,
            kvstore.open(filled, durability="none") as other,
            kvstore.open(filled, durability="none", warm=True) as store,
        ):
            at_once(
                lambda turn=turn, other=other: [other.set(key, (turn, "other")) for key in wanted],
                lambda turn=turn, store=store: [store.set(key, (turn, "own")) for key in reversed(wanted)],
                lambda store=store: store.warmed(PATIENCE_SECONDS),
            )
            assert_memory_is_true(store, reader)
            assert_books_balance(store)
            assert store.get_many(wanted) == reader.get_many(wanted)


def test_a_value_that_is_replaced_between_reading_and_taking_it_in_is_read_again(filled):
    class Slow:
        pass

    reached, go_on = threading.Event(), threading.Event()

    def decode(stored):
        if threading.current_thread().name == "kvstore-warm":
            reached.set()
            assert go_on.wait(PATIENCE_SECONDS)
        return Slow()

    kvstore.register(Slow, "tests.warm.slow", lambda value: None, decode)
    with opened(filled) as store:
        store["slow"] = Slow()
    with (
        kvstore.open(filled, durability="none", cache_size=0) as writer,
        kvstore.open(filled, durability="none", warm=True) as store,
    ):
        assert reached.wait(PATIENCE_SECONDS)
        writer["slow"] = "new"
        # The tier stands at that commit now.
        assert store["k1"] == [1] * 5
        go_on.set()
        assert store.warmed(PATIENCE_SECONDS)
        assert sorted(in_memory(store)) == [("", "k1", [1] * 5), ("", "slow", "new")]
        assert store.stats().invalidations == 0


def test_what_has_ended_and_what_was_dropped_is_not_loaded(store_path):
    now = 1_000.0
    with opened(store_path, clock=lambda: now) as store:
        store.set("ends", 1, ttl=10)
        store.set("lasts", 2, ttl=100)
        store.namespace("dropped")["x"] = 3
        store.namespace("kept")["x"] = 4
    with kvstore.open(store_path, durability="none", clock=lambda: now) as store:
        store.drop_namespace("dropped")
    now += 50
    with opened(store_path, clock=lambda: now) as store:
        assert sorted((space, key) for space, key, _ in in_memory(store)) == [("", "lasts"), ("kept", "x")]
        assert store.stats().entries == 2
        assert "dropped" not in store.stats().namespaces
        now += 50
        assert store.get("lasts") is None
        assert store.stats().expirations == 1


def test_a_damaged_record_is_left_for_a_read_to_report(filled):
    leave_hot(filled, ["k1", "k2"])
    with OtherProcess("import lmdb; from kvstore import keys") as other:
        other(f"env = lmdb.open({str(filled)!r}, subdir=False, max_dbs=8)")
        other("with env.begin(write=True) as txn:\n    txn.put(keys.encode('k1'), b'\\x10rubbish and a checksum')")
    with opened(filled) as store:
        assert loaded(store) == ["k2"]
        with pytest.raises(kvstore.CorruptRecordError):
            store["k1"]


def test_a_value_of_a_type_that_is_not_registered_yet_is_left_for_later(filled):
    class Point:
        pass

    kvstore.register(Point, "tests.warm.point", lambda point: None, lambda stored: Point())
    leave_hot(filled, ["k1"])
    with opened(filled) as store:
        store["point"] = Point()
    with OtherProcess("import kvstore") as other:
        other(f"store = kvstore.open({str(filled)!r}, durability='none', warm=True)")
        assert other("store.warmed(20), store.stats().entries") == (True, 1)
        with pytest.raises(RuntimeError, match="UnknownTypeError"):
            other("store['point']")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, 3),
        lambda path: path.write_bytes(b"kvhot\0\0\1" + bytes(1000)),
        lambda path: path.write_bytes(random.Random(1).randbytes(5000)),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: warm_list.write(str(path), [("", b"", 0), ("kvstore:meta", b"format", 0), ("", b"\xff" * 600, 9)]),
        lambda path: warm_list.write(
            str(path), [("no such", b"\x02k", 5), ("", b"\x02\xff", 5), ("x" * 600, b"\x02", 5)]
        ),
    ],
)
def test_a_list_that_is_damaged_or_hostile_changes_nothing(filled, tmp_path, damage):
    leave_hot(filled, ["k1"])
    damage(tmp_path / "store.kv-hot")
    with opened(filled) as store:
        assert store.stats().entries == 0
        assert store["k1"] == [1] * 5
        assert store.verify().ok
    kvstore.open(filled, warm=True).close()


# -- when it is saved ----------------------------------------------------------------------------------------------


def test_a_handle_that_is_not_warm_neither_reads_nor_writes_the_list(filled):
    with kvstore.open(filled) as store:
        assert store["k1"] == [1] * 5
        assert not store.warmed()
    assert not os.path.exists(hot_list(filled))
    leave_hot(filled, ["k1", "k2"])
    with kvstore.open(filled) as store:
        assert store.stats().entries == 0
        store["k9"]
    with opened(filled) as store:
        assert loaded(store) == ["k1", "k2"]


def test_a_handle_without_a_tier_leaves_the_list_as_it_is(filled):
    leave_hot(filled, ["k1", "k2"])
    with kvstore.open(filled, cache_size=0, warm=True) as store:
        assert store["k9"] == [9] * 5
    with opened(filled) as store:
        assert loaded(store) == ["k1", "k2"]


def test_saving_is_no_commit_and_whoever_has_done_nothing_saves_nothing(filled):
    with kvstore.open(filled, durability="none", cache_size=0) as observer:
        commits = observer._engine.backend.commits
        before = [cell[0] for cell in commits]
        leave_hot(filled, ["k1", "k2"])
        assert [cell[0] for cell in commits] == before
    saved = os.stat(hot_list(filled)).st_mtime_ns
    opened(filled).close()
    assert os.stat(hot_list(filled)).st_mtime_ns == saved


@pytest.mark.parametrize("handle", ["dropped", "never closed"])
def test_a_handle_that_nobody_closes_saves_all_the_same(filled, handle):
    if handle == "dropped":
        store = opened(filled)
        store["k7"]
        del store
        gc.collect()
        assert not is_open(filled)
    else:
        code = f"import kvstore; s = kvstore.open({str(filled)!r}, warm=True); s.warmed(); s['k7']"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    with opened(filled) as store:
        assert loaded(store) == ["k7"]


def test_a_killed_process_leaves_the_list_that_it_saved_last(filled):
    with OtherProcess("import kvstore, kvstore.warm; kvstore.warm.SAVE_SECONDS = 0") as other:
        other(f"store = kvstore.open({str(filled)!r}, warm=True); store.warmed()")
        other("numbers = iter(range(400))")
        until(lambda: other("store[f'k{next(numbers)}']") and len([*warm_list.read(hot_list(filled))]) >= 5)
        other.kill()
    listed = [key for _, key, _ in warm_list.read(hot_list(filled))]
    with opened(filled) as store:
        assert order(store) == [("", key[1:].decode()) for key in reversed(listed)]


def test_an_open_store_is_remembered_again_once_an_eighth_of_its_tier_is_new(filled, monkeypatch):
    monkeypatch.setattr(warm, "SAVE_SECONDS", 0)
    leave_hot(filled, [f"k{number}" for number in range(16)])
    with opened(filled) as store:
        loading = store._keeper._thread
        store["k1"]
        store["k100"]
        assert store._keeper._thread is loading
        store["k101"]
        store._keeper._thread.join(PATIENCE_SECONDS)
        saved = {key for _, key, _ in warm_list.read(hot_list(filled))}
        assert saved == {b"\x02k%d" % number for number in (*range(16), 100, 101)}


def test_what_comes_in_while_the_list_is_being_saved_is_on_it_after_the_close(filled, monkeypatch):
    monkeypatch.setattr(warm, "SAVE_SECONDS", 0)
    leave_hot(filled, [])
    listed, went_on = threading.Event(), threading.Event()
    coldest_first = MemoryTier.coldest_first

    def slow(tier):
        entries = [*coldest_first(tier)]
        listed.set()
        assert went_on.wait(PATIENCE_SECONDS)
        return iter(entries)

    with opened(filled) as store:
        monkeypatch.setattr(MemoryTier, "coldest_first", slow)
        store["k1"]
        assert listed.wait(PATIENCE_SECONDS)
        store["k2"]
        went_on.set()
        store._keeper._thread.join(PATIENCE_SECONDS)
    assert {key for _, key, _ in warm_list.read(hot_list(filled))} == {b"\x02k1", b"\x02k2"}


def test_an_open_store_is_not_remembered_again_before_its_time(filled):
    leave_hot(filled, ["k1"])
    saved = os.stat(hot_list(filled)).st_mtime_ns
    with opened(filled) as store:
        loading = store._keeper._thread
        store.get_many([f"k{number}" for number in range(COUNT)])
        store.set_many({number: number for number in range(COUNT)})
        assert store._keeper._thread is loading
        assert os.stat(hot_list(filled)).st_mtime_ns == saved


@pytest.mark.parametrize("obstacle", ["a directory in its place", "no permission", "the list is gone"])
def test_what_keeps_the_list_from_being_saved_keeps_nobody_from_closing(filled, tmp_path, monkeypatch, obstacle):
    with opened(filled) as store:
        store["k1"]
        if obstacle == "a directory in its place":
            os.makedirs(f"{hot_list(filled)}/in the way")
        if obstacle == "no permission":
            monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError))
    assert not is_open(filled)
    assert not [name for name in os.listdir(tmp_path) if ".new-" in name]


def test_a_full_store_is_remembered_too(store_path):
    with opened(store_path, max_size=256 * 1024) as store:
        with pytest.raises(kvstore.StoreFullError):
            for number in itertools.count():
                store[number] = bytes(2_000)
        count = store.stats().entries
    with opened(store_path, max_size=256 * 1024) as store:
        assert store.stats().entries == count > 10


def test_a_transaction_of_another_process_keeps_nobody_from_closing(filled):
    with with_store(filled, durability="none") as other, opened(filled) as store:
        store["k1"]
        other("tx = store.transaction().__enter__(); tx['k1'] = 'theirs'")
        store.close()
        other("tx.__exit__(None, None, None)")
    with opened(filled) as store:
        assert store["k1"] == "theirs"
        assert store.stats().misses == 0


def test_a_read_only_handle_is_warm_like_any_other(filled):
    leave_hot(filled, ["k1", "k2"])
    with opened(filled, readonly=True) as store:
        assert loaded(store) == ["k1", "k2"]
        store["k3"]
    with opened(filled, readonly=True) as store:
        assert loaded(store) == ["k1", "k2", "k3"]


def test_of_several_handles_the_list_is_the_last_ones(filled):
    one, two = opened(filled), opened(filled)
    one["k1"]
    two["k2"]
    two.close()
    one.close()
    with opened(filled) as store:
        assert loaded(store) == ["k1"]


def test_compacting_and_dumping_leave_the_list_alone(filled, tmp_path):
    with opened(filled) as store:
        store["k1"]
        store.compact()
        store["k2"]
        store.backup(tmp_path / "backup.kv")
        assert {record.namespace for record in store.export_records()} == {"", "n"}
    assert not os.path.exists(hot_list(tmp_path / "backup.kv"))
    with opened(filled) as store:
        assert loaded(store) == ["k1", "k2"]


# -- its end -------------------------------------------------------------------------------------------------------


def test_closing_ends_the_loading_and_keeps_the_list(filled, monkeypatch):
    leave_hot(filled, ["k1", "k2"])
    with open(hot_list(filled), "rb") as file:
        saved = file.read()
    with monkeypatch.context() as patch:
        endless = (("", b"\x02nothing", 1) for _ in itertools.count())
        patch.setattr(warm_list, "read", lambda path: endless)
        store = kvstore.open(filled, durability="none", warm=True)
        assert not store.warmed(0)
        assert store["k9"] == [9] * 5
        store.close()
        assert not is_open(filled)
        assert not [thread for thread in threading.enumerate() if thread.name == "kvstore-warm"]
        assert not store.warmed()
    with open(hot_list(filled), "rb") as file:
        assert file.read() == saved


def test_a_handle_that_is_dropped_while_it_loads_is_given_back(filled, monkeypatch):
    leave_hot(filled, ["k1"])
    endless = (("", b"\x02nothing", 1) for _ in itertools.count())
    monkeypatch.setattr(warm_list, "read", lambda path: endless)
    store = kvstore.open(filled, durability="none", warm=True)
    del store
    gc.collect()
    until(lambda: not is_open(filled))


def test_a_store_that_cannot_start_a_thread_is_cold(filled, monkeypatch):
    leave_hot(filled, ["k1"])

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with kvstore.open(filled, warm=True) as store:
            assert not store.warmed()
            assert store["k2"] == [2] * 5
    with opened(filled) as store:
        assert loaded(store) == ["k1"]


# -- forks and other faces -----------------------------------------------------------------------------------------


def test_a_child_forked_while_its_parent_loads_goes_on_by_itself(filled, monkeypatch):
    wanted = [f"k{number}" for number in range(40)]
    leave_hot(filled, wanted)
    with Gate(monkeypatch, free=10) as gate, kvstore.open(filled, durability="none", warm=True) as store:
        assert gate.reached.wait(PATIENCE_SECONDS)

        def work():
            gate.open.set()
            before = threading.active_count(), store.stats().entries
            assert store["k300"] == [300] * 5
            until(lambda: store.stats().entries == len(wanted) + 1)
            assert store.warmed(PATIENCE_SECONDS)
            found = order(store)
            store.close()
            return before, found, is_open(filled)

        assert in_child(work) == ((1, 10), [("", key) for key in (*wanted, "k300")], False)
        assert not store.warmed(0)
        gate.open.set()
        assert store.warmed(PATIENCE_SECONDS)
        assert order(store) == [("", key) for key in wanted]
    with opened(filled) as store:
        # The child has saved, and its parent has done nothing since.
        assert loaded(store) == sorted([*wanted, "k300"])


def test_a_child_that_only_waits_is_warm_too_and_one_that_does_nothing_has_no_thread(filled, monkeypatch):
    leave_hot(filled, ["k1", "k2"])
    with Gate(monkeypatch, free=1) as gate, kvstore.open(filled, durability="none", warm=True) as store:
        assert gate.reached.wait(PATIENCE_SECONDS)

        def wait():
            gate.open.set()
            return store.warmed(PATIENCE_SECONDS), loaded(store)

        assert in_child(wait) == (True, ["k1", "k2"])
        assert in_child(lambda: (store.close(), is_open(filled), threading.active_count())) == (None, False, 1)
        assert in_child(lambda: (store.close(), store.warmed())) == (None, False)
        gate.open.set()


def test_what_is_loaded_before_a_fork_is_every_childs(filled):
    leave_hot(filled, ["k1", "k2"])
    with opened(filled) as store:
        children = [Child(lambda: (store["k1"], store["k2"], store.stats().misses)) for _ in range(3)]
        assert [child.answer() for child in children] == [([1] * 5, [2] * 5, 0)] * 3


def test_forking_again_and_again_while_it_loads_does_no_harm(filled):
    leave_hot(filled, [f"k{number}" for number in range(300)])
    for _ in range(8):
        with kvstore.open(filled, durability="none", warm=True) as store:
            child = Child(lambda store=store: (store["k5"], store.incr("n"), store.warmed(PATIENCE_SECONDS)))
            assert store["k6"] == [6] * 5
            assert child.answer()[0] == [5] * 5
            assert store.warmed(PATIENCE_SECONDS)
    with kvstore.open(filled) as store:
        assert store["n"] == 8
        assert store.verify().ok


def test_a_store_that_travels_is_warm_where_it_arrives(filled):
    leave_hot(filled, ["k1"])
    with opened(filled) as store, pickle.loads(pickle.dumps(store)) as again:
        assert again.warmed(PATIENCE_SECONDS)
        assert loaded(again) == ["k1"]


def test_tasks_have_it_too(filled):
    async def use():
        async with kvstore.aio.open(filled, warm=True) as store:
            assert await store.warmed(PATIENCE_SECONDS)
            await store.get("k5")
            return (await store.stats()).entries

    assert [asyncio.run(use()), asyncio.run(use())] == [1, 1]
    with opened(filled) as store:
        assert loaded(store) == ["k5"]
