"""Statistics: exact, always on, and an interval is a subtraction."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvstore
from kvstore.stats import Counts, Stats

numbers = st.builds(Counts, *[st.integers(0, 10**9)] * len(vars(Counts())))


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store


def counted(store, call):
    """What one call adds to the counters that are not zero."""
    before = store.stats()
    call()
    return {name: value for name, value in vars(Counts.__add__(store.stats() - before, Counts())).items() if value}


# -- the figures ---------------------------------------------------------------------------------------------------


def test_the_seed_case_gives_sixty_percent_hits_and_fifty_percent_utilization(store_path):
    kilobyte = 1_000
    with kvstore.open(store_path, durability="none", cache_size=100 * kilobyte) as store:
        store["00"] = b""
        empty = store.stats().memory_bytes
        store.set_many({f"{number:02}": bytes(kilobyte - empty) for number in range(50)})
        before = store.stats()
        assert before.memory_bytes == 50 * kilobyte
        for query in range(1_000):
            store.get(f"{query % 50:02}" if query % 5 < 3 else "not there")
        interval = store.stats() - before
        assert (interval.lookups, interval.hits, interval.misses) == (1_000, 600, 400)
        assert interval.hit_rate == 0.6
        assert interval.utilization == 0.5


def test_a_store_that_has_done_nothing_has_no_hit_rate(store):
    stats = store.stats()
    assert (stats.lookups, stats.hits, stats.misses, stats.hit_rate) == (0, 0, 0, None)
    assert stats.utilization == 0
    assert (stats.records, stats.entries, stats.memory_bytes) == (0, 0, 0)
    assert stats.cache_size == 64 * 2**20


def test_a_store_without_memory_has_no_utilization(store_path):
    with kvstore.open(store_path, durability="none", cache_size=0) as store:
        store["a"] = 1
        store["a"]
        assert store.stats().utilization is None
        assert store.stats().hit_rate == 0


def test_each_lookup_is_a_hit_or_a_miss(store):
    store.set_many({"a": 1, "b": 2})
    assert counted(store, lambda: store["a"]) == {"hits": 1}
    assert counted(store, lambda: store.get("b")) == {"hits": 1}
    assert counted(store, lambda: store.get("c")) == {"misses": 1, "absent": 1}
    assert counted(store, lambda: store.get_many(["a", "b", "a"])) == {"hits": 2}
    assert counted(store, lambda: store.get_many(["a", "c", "d"])) == {"hits": 1, "misses": 2, "absent": 2}
    with pytest.raises(KeyError):
        store["c"]
    assert store.stats().lookups == 9


@pytest.mark.parametrize("key", [1.5, None, True, "x" * 600, ("a", 1.5), "\ud800"])
def test_looking_up_what_can_be_no_key_is_a_miss_too(store, key):
    assert counted(store, lambda: store.get(key)) == {"misses": 1, "absent": 1}


def test_a_miss_that_finds_something_is_an_insertion(store, store_path):
    store["a"] = 1
    with kvstore.open(store_path, durability="none") as other:
        assert counted(other, lambda: other["a"]) == {"misses": 1, "insertions": 1}
        assert counted(other, lambda: other["a"]) == {"hits": 1}


def test_writes_are_no_lookups(store):
    assert counted(store, lambda: store.set("a", 1)) == {"insertions": 1}
    assert counted(store, lambda: store.set("a", 2)) == {"insertions": 1, "invalidations": 1}
    assert counted(store, lambda: store.set_many({"b": 1, "c": 2})) == {"insertions": 2}
    assert counted(store, lambda: store.add("a", 3)) == {}
    assert counted(store, lambda: store.setdefault("a", 3)) == {}
    assert counted(store, lambda: store.delete("a")) == {"invalidations": 1}
    assert counted(store, lambda: store.delete("a")) == {}
    assert counted(store, lambda: store.pop("b")) == {"invalidations": 1}
    assert counted(store, store.clear) == {"invalidations": 1}


def test_looking_around_counts_nothing(store):
    store.set_many({"a": 1, "b": [2]})

    def look_around():
        assert "a" in store
        assert "c" not in store
        assert len(store) == 2
        assert list(store) == ["a", "b"]
        assert list(store.items()) == list(store.scan())
        assert ("a", 1) in store.items()
        assert 1 in store.values()
        assert store == {"a": 1, "b": [2]}
        list(store.export_records())
        store.stats()
        store.namespaces()

    assert counted(store, look_around) == {}


def test_a_store_whose_file_was_deleted_under_it_still_has_figures(store, store_path):
    store["key"] = 1
    before = store.stats()
    store_path.unlink()
    after = store.stats()
    assert after.records == before.records == 1
    assert after.file_bytes > 0


def test_every_handle_counts_for_itself(store, store_path):
    with kvstore.open(store_path, durability="none") as other:
        store["a"] = 1
        store["a"]
        assert other.stats().lookups == 0
        assert other.stats().insertions == 0
        assert store.stats().hits == 1


def test_the_counters_of_the_spaces_add_up_to_the_stores(store):
    store.set_many({"a": 1, "b": 2})
    store.get_many("abc")
    stats = store.stats()
    total = sum(stats.namespaces.values(), Counts())
    assert vars(total) == {name: getattr(stats, name) for name in vars(Counts())}
    assert list(stats.namespaces) == [""]


# -- the file's figures --------------------------------------------------------------------------------------------


def test_the_files_figures_are_the_files(store, store_path):
    store.set_many((number, bytes(1_000)) for number in range(2_000))
    full = store.stats()
    assert full.records == 2_000
    assert full.file_bytes == store_path.stat().st_size
    assert 2_000_000 < full.used_bytes <= full.file_bytes
    store.delete_many(range(1_000))
    half = store.stats()
    assert half.records == 1_000
    assert half.used_bytes < 0.7 * full.used_bytes
    assert half.reclaimable_bytes > 0.3 * full.used_bytes
    assert half.used_bytes + half.reclaimable_bytes <= half.file_bytes
    # What a commit has freed is for the commit after the next.
    store["a"] = store["b"] = 1
    store.set_many((number, bytes(1_000)) for number in range(5_000, 5_900))
    assert store.stats().file_bytes <= 1.1 * half.file_bytes


def test_the_lag_of_the_oldest_reader_is_in_commits(store):
    store["a"] = 1
    assert store.stats().oldest_reader_lag == 0
    reading = iter(store)
    next(reading)
    for number in range(5):
        store["a"] = number
    assert store.stats().oldest_reader_lag == 5
    reading.close()
    assert store.stats().oldest_reader_lag == 0


# -- as values -----------------------------------------------------------------------------------------------------


def test_statistics_are_frozen(store):
    stats = store.stats()
    with pytest.raises(AttributeError):
        stats.hits = 1
    store.get("a")
    assert stats.lookups == 0


def test_an_interval_has_the_counters_between_and_the_later_state(store):
    store["a"] = 1
    store["a"]
    earlier = store.stats()
    store["b"] = 2
    store.get_many("abc")
    later = store.stats()
    interval = later - earlier
    assert type(interval) is Stats
    assert (interval.hits, interval.misses, interval.absent, interval.insertions) == (2, 1, 1, 1)
    assert interval.hit_rate == 2 / 3
    assert (interval.entries, interval.records, interval.file_bytes) == (2, 2, later.file_bytes)
    assert interval.utilization == later.utilization
    assert interval.namespaces == {"": Counts(hits=2, misses=1, absent=1, insertions=1)}


@given(numbers, numbers)
def test_subtracting_undoes_adding(one, other):
    assert (one + other) - other == one
    assert (one + other).lookups == one.lookups + other.lookups


@given(numbers)
def test_the_hit_rate_is_hits_by_lookups(counts):
    assert counts.lookups == counts.hits + counts.misses
    assert counts.hit_rate == (counts.hits / counts.lookups if counts.lookups else None)


def test_statistics_are_compared_with_their_like_only(store):
    with pytest.raises(TypeError):
        store.stats() - 1
    with pytest.raises(TypeError):
        store.stats() - Counts()


@pytest.mark.parametrize("kind", [Counts, Stats])
def test_every_figure_is_documented(kind):
    import ast
    import inspect
    import textwrap

    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body
    undocumented = [
        node.target.id
        for node, following in zip(body, [*body[1:], None], strict=True)
        if isinstance(node, ast.AnnAssign)
        and not (isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant))
    ]
    assert undocumented == []
