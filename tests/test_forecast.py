"""The forecast: what it says is what a store then measures, it stays small, and it leaves the store as it is."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import tracemalloc

import pytest

import kvstore
import kvstore.aio
from bench import forecasting, loads
from bench.__main__ import line
from bench.rows import NotMeasurableError
from kvstore import memory_sample
from kvstore.errors import KvstoreError, StoreClosedError
from kvstore.forecast import Forecast, Prediction
from kvstore.memory_entry import EntryMaker
from kvstore.memory_rank import rank, rate
from kvstore.memory_sample import MISS, Sample
from tests import forks, policies
from tests.loops import running

KEYS, ACCESSES = 1_500, 8_000
SIZES = (60_000, 200_000, 500_000)
LOAD = loads.zipf(0.9, keys=KEYS, accesses=ACCESSES)


@pytest.fixture
def open_store(store_path):
    """Opens handles of one store; closes them at the end."""
    handles = []

    def opened(**options):
        handles.append(kvstore.open(store_path, **{"durability": "none"} | options))
        return handles[-1]

    yield opened
    for handle in handles:
        handle.close()


@pytest.fixture
def served(open_store, store_path):
    """A store that has served the load."""
    loads.fill(store_path, set(LOAD))
    store = open_store(cache_size=SIZES[1])
    for key in LOAD:
        store[key]
    return store


@pytest.fixture
def small_sample(monkeypatch):
    """A sample that is full after few accesses, as a real one is after many."""
    monkeypatch.setattr(memory_sample, "_FULL", 4_096)
    monkeypatch.setattr(memory_sample, "_MARKED_EVERY", 256)
    monkeypatch.setattr(memory_sample, "_MANY_KEYS", 600)


# -- that it is right ----------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["lru", "fifo", "lfu", policies.Three, policies.Sweeping])
def test_at_the_present_size_it_says_what_was_measured_whatever_has_happened(open_store, policy):
    now = [1e9]
    store = open_store(cache_size=20_000, policy=policy, clock=lambda: now[0])
    other = open_store(cache_size=0)
    space = store.namespace("other")
    chance = random.Random(3)
    for _ in range(3_000):
        key, action = int(chance.paretovariate(0.7)) % 200, chance.random()
        if action < 0.8:
            (space if key % 5 == 0 else store).get(key)
        elif action < 0.9:
            (space if key % 5 == 0 else store).set(key, "x" * chance.randrange(400))
        elif action < 0.93:
            other[key] = [key]
        elif action < 0.96:
            store.delete(key)
        elif action < 0.98:
            store.set(key, "brief", ttl=chance.choice([30, 300]))
        elif action < 0.99:
            store.set_many({key: "y", key + 1: bytes(30_000), str(key): None})
        else:
            now[0] += 40
            for each in range(1, 20):
                store.get(each)
            store.get_many(range(key, key + 5))
    forecast, stats = store.forecast(policies=[policy]), store.stats()
    assert 0.2 < stats.hit_rate < 0.9
    assert min(stats.absent, stats.evictions, stats.invalidations, stats.bypassed) > 0
    assert stats.expirations > 0 or policy in policies.OWN
    assert forecast.measured == pytest.approx(stats.hit_rate)
    assert forecast.lookups == stats.lookups
    assert forecast.hit_rate(policy, 20_000) == pytest.approx(stats.hit_rate)


@pytest.mark.parametrize("policy", policies.NAMED)
def test_while_every_key_is_sampled_it_is_exact_for_every_size_and_policy(served, store_path, policy):
    forecast = served.forecast(sizes=SIZES, policies=[policy])
    assert forecast.sampled == 1
    for size in SIZES:
        row = forecast.row(policy, size)
        measured = loads.measured(store_path, LOAD, cache_size=size, policy=policy).hit_rate
        # Random replacement draws its lots anew in each run.
        assert row.hit_rate == pytest.approx(measured, abs=0.02 if policy == "random" else 1e-9)
        assert row.error == 0


def test_a_sample_of_the_keys_comes_close_and_knows_how_close(served, open_store, store_path, small_sample):
    store = open_store(cache_size=SIZES[1])
    for key in LOAD:
        store[key]
    exact = served.forecast(sizes=SIZES, policies=policies.NAMED)
    forecast = store.forecast(sizes=SIZES, policies=policies.NAMED)
    assert forecast.sampled < 0.8
    assert (forecast.lookups, forecast.measured) == (exact.lookups, exact.measured)
    differences = [abs(row.hit_rate - exact.hit_rate(row.policy, row.size)) for row in forecast]
    assert sum(differences) / len(differences) < 0.03
    for row, difference in zip(forecast, differences, strict=True):
        assert 0 < row.error < 0.07
        assert difference < 4 * row.error


@pytest.mark.parametrize(
    ("skew", "policy"),
    [
        (0.6, "lru"),
        (0.9, "lfu"),
        pytest.param(0.6, "lfu", marks=pytest.mark.torture),
        pytest.param(0.9, "lru", marks=pytest.mark.torture),
    ],
)
def test_nine_forecasts_of_ten_are_within_twice_their_error(open_store, store_path, small_sample, skew, policy):
    base = loads.zipf(skew, keys=KEYS, accesses=ACCESSES)
    # One load, under other keys each time, and so of other samples. Each key has a value of one size throughout.
    as_others = [[key + 160 * KEYS * number for key in base] for number in range(10)]
    for load in as_others:
        loads.fill(store_path, set(load))
    truth = {
        size: loads.measured(store_path, base, cache_size=size, policy=policy).hit_rate for size in (*SIZES, 100_000)
    }
    off, errors = [], []
    for load in as_others:
        store = open_store(cache_size=SIZES[1])
        loads.serve(store, load)
        forecast = store.forecast(sizes=truth, policies=[policy])
        assert forecast.sampled < 0.8
        off += [abs(row.hit_rate - truth[row.size]) for row in forecast]
        errors += [row.error for row in forecast]
    within = sum(one < 2 * error for one, error in zip(off, errors, strict=True))
    assert within >= 0.9 * len(off)
    # And no more is said than must be, even of as few keys as these.
    assert sum(errors) < 4 * sum(off)


def test_the_error_counts_what_small_samples_are_all_off_by(open_store, store_path, small_sample):
    base = loads.zipf(1.2, keys=6_000, accesses=12_000)
    sizes = (250_000, 500_000, 1_000_000)
    as_others = [[key + 160 * 6_000 * number for key in base] for number in range(8)]
    for load in as_others:
        loads.fill(store_path, set(load))
    truth = {size: loads.measured(store_path, base, cache_size=size, policy="lru").hit_rate for size in sizes}
    within = 0
    for load in as_others:
        store = open_store(cache_size=60_000)
        loads.serve(store, load)
        within += sum(abs(row.hit_rate - truth[row.size]) < 2 * row.error for row in store.forecast(sizes=sizes))
    # Of 24, the rest being off by what no part of so small a sample shows. By the spread of the parts alone it were 10.
    assert within >= 14


def test_it_is_for_recent_traffic_where_there_was_more_than_the_sample_holds(
    open_store, store_path, small_sample, monkeypatch
):
    monkeypatch.setattr(memory_sample, "_MANY_KEYS", 5_000)
    loads.fill(store_path, range(1_000))
    store = open_store(cache_size=100_000)
    for _ in range(3):
        for key in range(1_000):
            store[key]
    before = store.stats()
    recent = loads.zipf(0.6, keys=500, accesses=12_000)
    for key in recent:
        store[key]
    forecast = store.forecast(sizes=[50_000, 100_000, 400_000])
    assert forecast.lookups < len(recent)
    assert forecast.measured == pytest.approx((store.stats() - before).hit_rate, abs=0.02)
    assert forecast.hit_rate("lru", 100_000) == pytest.approx(forecast.measured, abs=0.02)
    # Where all of it fits, nothing is missed but what was not seen in the part that is still recorded.
    assert forecast.hit_rate("lru", 400_000) > 0.93


def test_hits_that_were_not_recorded_count_as_the_recorded_ones_do(open_store):
    store = open_store(cache_size=500_000)
    store.set_many(dict.fromkeys(range(500), "x" * 50))
    load = loads.zipf(0.9, keys=500, accesses=20_000)
    for _ in range(3):
        for key in load:
            store[key]
    store.stats()
    assert len(store._tier._sample) < 30_000
    forecast = store.forecast(sizes=[20_000, 80_000, 500_000])
    assert forecast.lookups == store.stats().lookups == 60_000
    assert forecast.measured == forecast.hit_rate("lru", 500_000) == 1
    whole = open_store(cache_size=80_000)
    for key in load:
        whole[key]
    assert forecast.hit_rate("lru", 80_000) == pytest.approx(whole.stats().hit_rate, abs=0.03)
    assert forecast.hit_rate("lru", 20_000) < forecast.hit_rate("lru", 80_000) < 0.9


def test_lookups_of_what_is_not_there_are_misses_at_every_size(open_store):
    store = open_store(cache_size=100_000)
    store["a"] = 1
    for _ in range(10):
        store["a"], store.get("b")
    forecast = store.forecast(sizes=[100_000, 10**9], policies=policies.NAMED)
    assert {row.hit_rate for row in forecast} == {0.5}


def test_what_was_cleared_is_in_no_tier_any_more(open_store):
    store = open_store(cache_size=5_000)
    store.set_many(dict.fromkeys(range(100), "x"))
    store.clear()
    with open_store(cache_size=0) as other:
        other.set_many(dict.fromkeys(range(100), "y"))
    for key in range(100):
        store[key]
    assert store.forecast(sizes=[10**6]).hit_rate("lru", 10**6) == 0


def test_a_value_larger_than_a_size_is_missed_there_and_hit_at_a_larger_one(open_store):
    store = open_store(cache_size=10_000)
    store["large"] = bytes(20_000)
    for _ in range(4):
        store["large"]
    forecast = store.forecast(sizes=[10_000, 30_000])
    assert [row.hit_rate for row in forecast] == [0, 1]


@pytest.mark.torture
@pytest.mark.parametrize("row", forecasting.ROWS[:3], ids=lambda row: row.operation)
def test_it_is_within_its_error_on_whole_loads(row, tmp_path):
    try:
        result = row.measure(tmp_path)
    except NotMeasurableError as reason:
        pytest.skip(str(reason))
    assert row.limit.holds(result.ratio), line(row, result)


# -- that it is small and still ------------------------------------------------------------------


def test_the_sample_takes_less_than_700_kb_however_many_accesses_and_keys_there_are():
    maker = EntryMaker(365)
    entries = [maker.make("", key, "value", b"", False, None) for key in range(20_000)]
    tracemalloc.start()
    try:
        sample = Sample(lambda: len(entries), lambda: 0)
        tracemalloc.reset_peak()
        empty, _ = tracemalloc.get_traced_memory()
        for turn in range(2):
            for entry in entries:
                sample.record(MISS, entry.address, entry.rank, entry.cost)
                sample.dropped(entry.address + turn, entry.rank)
            for begin in range(0, len(entries), 4096):
                sample.hits(entries[begin : begin + 4096])
        peak = tracemalloc.get_traced_memory()[1] - empty
    finally:
        tracemalloc.stop()
    assert sample.traffic().rate < 1
    assert peak < 700_000


def test_keys_are_sampled_evenly_and_whatever_their_pattern():
    count = 20_000
    for keys in (range(count), range(0, 2**20 * count, 2**20), map("user:{:08}".format, range(count))):
        ranks = [rank("", key) for key in keys]
        for floor in (8, 16, 48):
            assert sum(each >= floor for each in ranks) / count == pytest.approx(rate(floor), rel=0.1)
    assert len({rank("", 5), rank("", "5"), rank("", b"5"), rank("a", 5), rank("b", 5)}) > 1


def test_asking_leaves_the_store_and_the_program_as_they_are(served):
    before, drawn = served.stats(), random.getstate()
    order = list(served._tier._policy._cache)
    first = served.forecast(policies=policies.NAMED)
    assert served.forecast(policies=policies.NAMED) == first
    assert (served.stats(), list(served._tier._policy._cache), random.getstate()) == (before, order, drawn)


def test_the_same_traffic_gives_the_same_forecast_in_every_process(store_path, source_tree_on_path):
    code = f"""
import sys
from kvstore import memory_sample
memory_sample._FULL, memory_sample._MARKED_EVERY, memory_sample._MANY_KEYS = 2_048, 256, 300
import kvstore
with kvstore.open({str(store_path)!r} + sys.argv[1], durability="none", cache_size=50_000) as store:
    store.set_many((str(key), key) for key in range(600))
    for number in range(4_000):
        store[str(number * number % 599)]
    print(list(store.forecast(policies=["lru", "random"])))
"""
    shown = [
        subprocess.run(
            [sys.executable, "-c", code, seed],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    ]
    assert shown[0] == shown[1]
    assert "error=0.0," not in shown[0]


def test_threads_go_on_meanwhile_and_every_lookup_is_counted(served):
    before = served.stats()
    threads = [threading.Thread(target=lambda: [served[key] for key in LOAD[:2_000]]) for _ in range(4)]
    for thread in threads:
        thread.start()
    forecasts = [served.forecast(sizes=SIZES) for _ in range(2)]
    for thread in threads:
        thread.join()
    assert (served.stats() - before).lookups == 8_000
    assert before.lookups <= forecasts[0].lookups <= forecasts[1].lookups
    assert served.forecast(sizes=SIZES).lookups == before.lookups + 8_000


@pytest.mark.filterwarnings(forks.WARNING)
def test_a_forked_child_goes_on_from_what_its_parent_has_seen(served):
    expected = served.forecast(sizes=SIZES).rows

    def look():
        inherited = served.forecast(sizes=SIZES).rows
        served[LOAD[0]]
        return [vars(row) for row in inherited], served.forecast(sizes=SIZES).lookups

    rows, lookups = forks.Child(look).answer()
    assert rows == [vars(row) for row in expected]
    assert lookups == ACCESSES + 1


def test_asyncio_has_it_too(store_path):
    async def ask():
        async with kvstore.aio.open(store_path, durability="none") as store:
            await store.set("a", 1)
            await store.get("a")
            return await store.forecast(sizes=[10**6], policies=["lfu"])

    with running() as run:
        assert run(ask()).hit_rate("lfu", 10**6) == 1


# -- what is asked, and what is answered ---------------------------------------------------------


def test_before_the_first_lookup_there_is_no_rate(open_store):
    store = open_store()
    forecast = store.forecast(policies=["lru", "lfu"])
    assert {row.hit_rate for row in forecast} == {None}
    assert forecast.measured is None
    assert "nothing was looked up yet" in str(forecast)
    with pytest.raises(KvstoreError, match="nothing was looked up"):
        forecast.recommend()
    store["a"] = 1
    assert {row.hit_rate for row in store.forecast(sizes=[100])} == {None}


def test_without_memory_there_is_none(open_store):
    store = open_store(cache_size=0)
    with pytest.raises(KvstoreError, match="cache_size=0"):
        store.forecast()


def test_a_closed_store_refuses(open_store):
    store = open_store()
    store.close()
    with pytest.raises(StoreClosedError):
        store.forecast()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sizes": [0]}, ValueError, "at least 1 byte"),
        ({"sizes": [1.5]}, TypeError, "not float"),
        ({"sizes": []}, ValueError, "sizes is empty"),
        ({"policies": "lru"}, TypeError, "sequence of policies"),
        ({"policies": policies.Three}, TypeError, "sequence of policies"),
        ({"policies": ()}, ValueError, "policies is empty"),
        ({"policies": ["mru"]}, ValueError, "unknown policy 'mru'"),
        ({"policies": [dict]}, TypeError, "cachetools.Cache"),
    ],
)
def test_what_makes_no_sense_is_refused(open_store, options, error, message):
    with pytest.raises(error, match=message):
        open_store().forecast(**options)


def test_by_itself_it_looks_at_the_present_size_and_at_those_up_to_where_all_fits(served):
    forecast = served.forecast()
    sizes = [row.size for row in forecast]
    assert SIZES[1] in sizes
    assert sizes == sorted(sizes)
    assert len(sizes) == 8
    best = forecast.hit_rate("lru", sizes[-1])
    assert best == 1 - len(set(LOAD)) / ACCESSES
    assert forecast.hit_rate("lru", sizes[-2]) < best


def made(*rows):
    return Forecast(tuple(Prediction(*row, 0.0) for row in rows), "lru", 100, 0.5, 1_000, 1.0)


def test_it_recommends_the_smallest_size_within_a_point_of_the_best_rate():
    forecast = made(
        ("lru", 100, 0.5),
        ("lru", 200, 0.885),
        ("lru", 400, 0.9),
        ("lfu", 100, 0.6),
        ("lfu", 200, 0.89),
        ("lfu", 400, 0.895),
    )
    assert forecast.recommend() == Prediction("lfu", 200, 0.89, 0.0)
    assert forecast.recommend(0.99) == Prediction("lfu", 200, 0.89, 0.0)
    assert forecast.recommend(0.895) == Prediction("lru", 400, 0.9, 0.0)
    assert forecast.recommend(0.55) == Prediction("lfu", 100, 0.6, 0.0)
    assert forecast.recommend(0) == Prediction("lfu", 100, 0.6, 0.0)
    for nonsense in (-0.1, 1.5, 90):
        with pytest.raises(ValueError, match="from 0 to 1"):
            forecast.recommend(nonsense)


def test_it_prints_as_a_table():
    forecast = made(("lru", 100, 0.5), ("lru", 3 * 2**20, 0.875), ("lfu", 100, 0.25), ("lfu", 3 * 2**20, 1.0))
    assert str(forecast).splitlines() == [
        "cache_size    lru     lfu",
        "100 B *     50.0%   25.0%",
        "3 MiB       87.5%  100.0%",
        "",
        "* measured: 50.0% with lru at 100 B, over 1,000 lookups; every key sampled",
    ]
    assert len(forecast) == 4


def test_what_was_not_asked_for_is_not_made_up():
    with pytest.raises(ValueError, match="no forecast of 'lfu' at 100 bytes, only of lru at 100"):
        made(("lru", 100, 0.5)).hit_rate("lfu", 100)
