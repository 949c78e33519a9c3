"""Policies: cachetools' own to the last access, users' own at their word, all within the bound."""

from __future__ import annotations

import csv
import gzip
import itertools
import random
from pathlib import Path

import cachetools
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvstore
from kvstore.memory import BUFFER_LIMIT
from tests import policies
from tests.tiers import assert_books_balance, assert_memory_is_true

TRACE = Path(__file__).parent.parent / ".." / "shared" / "data" / "cloudphysics.csv.gz"

PLAIN = {
    "lru": cachetools.LRUCache,
    "fifo": cachetools.FIFOCache,
    "lfu": cachetools.LFUCache,
    "random": cachetools.RRCache,
}
OWN_TWINS = {name: type("Own" + base.__name__, (base,), {}) for name, base in PLAIN.items()}
"""Subclasses that change nothing: a tier must not know its own policies by name only."""

EVERY_POLICY = [*PLAIN.items(), *((twin, PLAIN[name]) for name, twin in OWN_TWINS.items())]
policy_pairs = pytest.mark.parametrize(
    ("policy", "plain"), EVERY_POLICY, ids=lambda policy: getattr(policy, "__name__", policy)
)


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


# -- the policy is cachetools' own ---------------------------------------------------------------


def replay_on_store(store, accesses, *, looked_at=()):
    """Do the accesses. For each: whether it was a hit, what its entry costs, how many entries there are then.

    An access is a key to get, or a key and a value to set. At the steps ``looked_at`` statistics are taken,
    which must make no difference.
    """
    front, log, keys = store._front, [], []
    random.seed(0)
    for step, (key, value) in enumerate(accesses):
        if value is None:
            hit = key in front
            store[key]
        else:
            hit = False
            store[key] = value
            # What is written comes into memory before the next read, not at once.
            store._tier.catch_up()
        entry = front.get(key)
        log.append((hit, None if entry is None else entry.cost, len(front)))
        if step in looked_at:
            store.stats()
        if step % 1_000 == 0:
            keys.append(set(front))
    return log, [*keys, set(front)]


def replay_on_plain(cache, accesses, costs):
    """The same on a bare cachetools policy."""
    log, keys = [], []
    random.seed(0)
    for step, ((key, value), cost) in enumerate(zip(accesses, costs, strict=True)):
        hit = value is None and key in cache
        if hit:
            cache[key]
        elif cost is None:
            cache.pop(key, None)
        else:
            cache[key] = cost
        log.append((hit, cost, len(cache)))
        if step % 1_000 == 0:
            keys.append(set(cache))
    return log, [*keys, set(cache)]


def compare(store, plain, accesses, **options):
    log, keys = replay_on_store(store, accesses, **options)
    cache = plain(store.stats().cache_size, getsizeof=lambda cost: cost)
    expected_log, expected_keys = replay_on_plain(cache, accesses, [cost for _, cost, _ in log])
    for step, (mine, theirs) in enumerate(zip(log, expected_log, strict=True)):
        assert mine == theirs, f"access {step}"
    assert keys == expected_keys
    stats = assert_books_balance(store)
    assert stats.memory_bytes == cache.currsize
    assert stats.hits == sum(hit for hit, _, _ in log)
    return stats


def skewed(rng, count):
    """A key of which some are much more popular than others."""
    return min(int(rng.paretovariate(0.6)), count) - 1


@policy_pairs
def test_hits_and_evictions_are_those_of_the_plain_policy(open_store, policy, plain):
    rng = random.Random(1)
    with open_store(cache_size=0) as loader:
        loader.set_many((key, bytes(rng.randrange(2_000))) for key in range(2_000))
        store = open_store(cache_size=100_000, policy=policy)
        accesses = [(skewed(rng, 2_000), None) for _ in range(12_000)]
        stats = compare(store, plain, accesses, looked_at={5, 6, 700, 8_000})
    assert stats.lookups == 12_000
    assert stats.evictions > 500
    assert stats.hits > 2_000


@policy_pairs
def test_writes_between_the_reads_change_nothing_of_that(open_store, policy, plain):
    rng = random.Random(2)
    store = open_store(cache_size=50_000, policy=policy)
    with open_store(cache_size=0) as loader:
        loader.set_many((key, bytes(rng.randrange(2_000))) for key in range(500))
    store.get("nothing")
    sizes = itertools.cycle([*range(0, 3_000, 70), 60_000])
    accesses = [(skewed(rng, 500), bytes(next(sizes)) if rng.random() < 0.2 else None) for _ in range(6_000)]
    stats = compare(store, plain, accesses)
    assert stats.bypassed > 0
    assert stats.invalidations > 100


@pytest.mark.skipif(not TRACE.exists(), reason="no recorded trace beside the project")
@pytest.mark.parametrize(("policy", "plain"), PLAIN.items(), ids=PLAIN)
@pytest.mark.parametrize("length", [15_000, pytest.param(None, marks=pytest.mark.torture)])
def test_a_real_block_trace_hits_and_evicts_as_in_the_plain_policy(open_store, policy, plain, length):
    with gzip.open(TRACE, "rt") as file:
        blocks = [int(row["lbn"]) for row in itertools.islice(csv.DictReader(file), length)]
    with open_store(cache_size=0) as loader:
        loader.set_many((block, block.to_bytes(8, "big") * 8) for block in set(blocks))
        store = open_store(cache_size=2_000_000, policy=policy)
        stats = compare(store, plain, [(block, None) for block in blocks])
    assert stats.lookups == len(blocks)
    assert stats.hits > 1_000
    assert stats.evictions > 1_000


def test_a_quarter_hit_a_thousand_times_is_known_to_the_policy_before_it_evicts(open_store):
    store = open_store(cache_size=6_000, policy="lfu")
    store["popular"] = "x"
    for _ in range(3 * BUFFER_LIMIT):
        store["popular"]
        assert len(store._hits) <= BUFFER_LIMIT
    store.set_many(dict.fromkeys(range(100), "y"))
    assert "popular" in store._front
    assert store.stats().hits == 3 * BUFFER_LIMIT


@pytest.mark.parametrize(
    "hit",
    [
        lambda store: store["ends"],
        lambda store: store.get("ends"),
        lambda store: store.get_many(["stays", "ends"]),
        lambda store: store.get_many(["stays", "absent"]),
    ],
    ids=["[]", "get", "get_many", "get_many with one that is nowhere"],
)
def test_hits_of_every_kind_wait_for_the_policy_in_a_bounded_number(open_store, hit):
    store = open_store()
    store.set("ends", 1, ttl=1_000)
    store["stays"] = 2
    for _ in range(BUFFER_LIMIT + 10):
        hit(store)
        assert len(store._hits) <= BUFFER_LIMIT + 1


# -- the bound -----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [*policies.NAMED, *policies.OWN])
@pytest.mark.parametrize("cache_size", [400, 3_000, 40_000])
def test_every_policy_keeps_the_bound_and_its_books_and_tells_the_truth(open_store, policy, cache_size):
    rng = random.Random(3)
    store, fresh = open_store(cache_size=cache_size, policy=policy), open_store(cache_size=0)
    judge = {}
    for step in range(1_500):
        key = skewed(rng, 100)
        if rng.random() < 0.3:
            judge[key] = store[key] = rng.choice([step, "x" * rng.randrange(500), [step], {"a": [step]}, None])
        elif rng.random() < 0.1:
            assert store.delete(key) == (judge.pop(key, judge) is not judge)
        elif rng.random() < 0.1:
            wanted = [skewed(rng, 100) for _ in range(5)]
            assert store.get_many(wanted) == {key: judge[key] for key in wanted if key in judge}
        else:
            assert store.get(key, "nothing") == judge.get(key, "nothing")
        if step % 10 == 0:
            assert_books_balance(store, has_clock=policy is policies.Brief)
            assert_memory_is_true(store, fresh)
    assert dict(store) == judge


@given(sizes=st.lists(st.integers(0, 3_000), max_size=30), cache_size=st.integers(1, 5_000))
def test_no_sequence_of_sizes_breaks_the_bound(tmp_path_factory, sizes, cache_size):
    path = tmp_path_factory.getbasetemp() / "sizes.kv"
    with kvstore.open(path, durability="none", cache_size=cache_size) as store:
        for number, size in enumerate(sizes):
            store[number % 7] = bytes(size)
            assert_books_balance(store)


def test_a_policy_that_refuses_keeps_what_it_has_and_the_store_has_everything(open_store):
    store = open_store(policy=policies.Choosy)
    for number in range(20):
        store[number] = "small"
        store[number] = "large" * 100
        assert store[number] == "large" * 100
        assert_books_balance(store)


def test_a_policy_that_raises_loses_no_write_and_fails_no_read(open_store):
    store, fresh = open_store(policy=policies.Refusing), open_store(cache_size=0)
    for number in range(30):
        store[number] = [number]
        store[number] = [number, number]
        assert store[number] == fresh[number] == [number, number]
        assert_books_balance(store)


def test_a_policy_that_keeps_three_keeps_three(open_store):
    store = open_store(policy=policies.Three)
    store.set_many({number: number for number in range(10)})
    assert store.stats().entries == 3
    assert [store[number] for number in range(10)] == list(range(10))
    assert store.stats().entries == 3


def test_what_a_policy_drops_by_itself_is_dropped_at_the_next_insertion(open_store):
    store = open_store(policy=policies.Sweeping)
    for number in range(9):
        store[number] = number
    stats = assert_books_balance(store)
    assert (stats.entries, stats.evictions) == (5, 4)


# -- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["LRU", "", "mru"])
def test_an_unknown_policy_is_refused_and_the_known_ones_are_named(store_path, policy):
    with pytest.raises(ValueError, match="'lru', 'fifo', 'lfu', 'random'"):
        kvstore.open(store_path, policy=policy)


@pytest.mark.parametrize("policy", [None, dict, 5, cachetools.LRUCache(5), cachetools.TTLCache])
def test_what_is_no_policy_is_a_type_error(store_path, policy):
    with pytest.raises(TypeError, match="policy"):
        kvstore.open(store_path, policy=policy)
    with kvstore.open(store_path, durability="relaxed") as store:
        store["a"] = 1


@pytest.mark.parametrize(("size", "error"), [(-1, ValueError), (1.5, TypeError), ("1", TypeError), (True, TypeError)])
def test_a_cache_size_without_sense_is_refused(store_path, size, error):
    with pytest.raises(error, match="cache_size"):
        kvstore.open(store_path, cache_size=size)
    assert not store_path.exists()
