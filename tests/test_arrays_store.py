"""Arrays in a store: a hit hands out the one array without a copy, and nobody's change reaches anybody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

import kvstore  # noqa: E402
from tests import policies  # noqa: E402
from tests.array_samples import identity  # noqa: E402
from tests.test_memory_entry import real_memory  # noqa: E402

ROOT = Path(__file__).parent.parent


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


VALUES = {
    "float32": lambda: np.arange(512, dtype=np.float32),
    "uint8": lambda: np.arange(200, dtype=np.uint8),
    "long": lambda: np.arange(5_000.0),
    "Fortran": lambda: np.asfortranarray(np.eye(3)),
    "fields": lambda: np.zeros(3, [("a", "i1"), ("b", "f8")]),
    "structured scalar": lambda: np.zeros((), [("a", "i1"), ("b", "f8")])[()],
    "float32 scalar": lambda: np.float32(1),
}


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
def test_a_hit_gives_the_very_same_array_again_whether_written_or_read(open_store, make):
    writer, reader = open_store(), open_store()
    for ttl in (None, 1000):
        writer.set("key", make(), ttl=ttl)
        for store in (writer, reader):
            first = store["key"]
            before = store.stats()
            assert store["key"] is first
            assert (store.stats() - before).hits == 1
            assert identity(first) == identity(make())


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
def test_an_array_without_an_expiry_is_handed_out_by_nothing(open_store, make):
    writer, reader = open_store(), open_store()
    writer["key"] = make()
    for store in (writer, reader):
        store["key"]
        assert store._front["key"].hand is None


def test_containers_are_copied_and_the_arrays_in_them_are_not(open_store):
    writer, reader = open_store(), open_store()
    array = np.arange(3)
    for value in ({"emb": array}, [array, array], (array, 1)):
        writer["key"] = value
        for store in (writer, reader):
            one, other = store["key"], store["key"]
            [first, second] = [next(iter(each.values() if type(each) is dict else each)) for each in (one, other)]
            assert first is second
            assert first is not array
            assert (one is other) == (type(value) is tuple)


@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: {"emb": a}, lambda a: [[a]], lambda a: (a,)])
def test_changing_what_was_stored_changes_nothing_that_is_read(open_store, wrap):
    writer, reader = open_store(), open_store()
    array = np.arange(512, dtype=np.uint8)
    writer["key"] = wrap(array)
    seen = writer["key"]
    array[:] = 7
    for store in (writer, reader):
        assert repr(store["key"]) == repr(seen) == repr(wrap(np.arange(512, dtype=np.uint8)))


def test_changing_a_structured_scalar_changes_nothing_that_is_read(open_store):
    store = open_store()
    scalar = np.zeros((), [("a", "i4")])[()]
    store["key"] = scalar
    scalar["a"] = 5
    assert store["key"]["a"] == 0


def test_nothing_that_is_read_can_be_changed(open_store):
    store, off = open_store(), open_store(cache_size=0)
    store["key"] = np.arange(5_000.0)
    store["nested"] = {"a": [np.arange(3)]}
    for handle in (store, off):
        for read in (handle["key"], handle["nested"]["a"][0], *handle.get_many(["key"]).values(), dict(handle)["key"]):
            with pytest.raises(ValueError, match="read-only"):
                read[0] = 1
            with pytest.raises(ValueError, match="WRITEABLE"):
                read.setflags(write=True)


def test_an_array_is_the_same_in_another_process(open_store, store_path):
    store = open_store()
    store["key"] = {"emb": np.arange(5, dtype=">f4"), "label": np.str_("ü"), "at": np.datetime64("2024-05-01")}
    code = f"""
import kvstore
with kvstore.open({str(store_path)!r}) as store:
    value = store["key"]
    print([type(value[name]).__name__ for name in value], value["emb"].dtype, value["emb"].tolist(), value["at"])
    store["back"] = value["emb"][::2]
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert shown == "['ndarray', 'str_', 'datetime64'] >f4 [0.0, 1.0, 2.0, 3.0, 4.0] 2024-05-01\n"
    assert identity(store["back"]) == identity(np.array([0, 2, 4], ">f4"))


def test_arrays_go_through_every_kind_of_write(open_store):
    store = open_store()
    array = np.arange(3)
    assert store.add("a", array)
    assert identity(store.get_or_set("b", lambda: array)) == identity(array)
    assert identity(store.setdefault("c", array)) == identity(array)
    assert identity(store.modify("a", lambda value: value + 1)) == identity(array + 1)
    with store.transaction() as txn:
        txn["d"] = array
        assert identity(txn["d"]) == identity(array)
    array[0] = 9
    assert store["d"][0] == 0
    store.touch("d", 100)
    assert identity(store["d"]) == identity(np.arange(3))
    assert identity(store.pop("d")) == identity(np.arange(3))
    store.set_many({key: np.full(3, key) for key in range(5)})
    assert [*store.get_many(range(5))[4]] == [4, 4, 4]


@pytest.mark.parametrize(
    ("now", "expected", "equal"),
    [
        (np.arange(3), np.arange(3), True),
        (np.arange(3), np.arange(3)[::-1], False),
        (np.arange(3), np.arange(4), False),
        (np.array([1]), np.array([1.0]), False),
        (np.array([1]), np.array([[1]]), False),
        (np.array([]), np.array([]), True),
        (np.array([np.nan]), np.array([np.nan]), True),
        (np.float32(1), np.float32(1), True),
        (np.float32(1), np.float64(1), False),
        ({"a": np.arange(3)}, {"a": np.arange(3)}, True),
        ([np.arange(3), 1], [np.arange(3), 2], False),
    ],
    ids=repr,
)
def test_comparing_and_setting_compares_arrays_whole(open_store, now, expected, equal):
    store = open_store()
    store["key"] = now
    assert store.compare_and_set("key", expected, "new") is equal
    assert (type(store["key"]) is str) is equal


# -- what they cost ----------------------------------------------------------------------------------------------

KINDS = {
    "512 float32": lambda number: np.full(512, number, np.float32),
    "3,000 float64": lambda number: np.full(3_000, number, np.float64),
    "a dict with 384 float32": lambda number: {"emb": np.full(384, number, np.float32), "label": f"label {number}"},
    "a list of 4 arrays": lambda number: [np.full(16, number + column, np.float32) for column in range(4)],
    "nested": lambda number: {"user": {"emb": np.full(64, number, np.float32)}, "tags": ["a"]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_memory_full_of_arrays_really_costs_what_it_may(store_path, kind):
    policy = policies.NAMED[[*KINDS].index(kind) % len(policies.NAMED)]
    assert 0.7 <= real_memory(store_path, policy, 2 * 2**20, KINDS[kind]) <= 1.1


def test_a_memory_full_of_arrays_that_were_read_costs_no_more(store_path):
    """What is read may be a view of its whole record, and of what the record was read from."""
    import gc
    import tracemalloc

    size = 2**21
    sample = 2**18  # of so few accesses, for forecasts: beside the entries, and this at the most
    for length in (100, 3_000):
        with kvstore.open(store_path, durability="none", cache_size=0) as off:
            off.set_many({number: np.full(length, number, np.float64) for number in range(3 * size // (length * 8))})
            count = len(off)
            gc.collect()
            tracemalloc.start()
            try:
                before, _ = tracemalloc.get_traced_memory()
                with kvstore.open(store_path, durability="none", cache_size=size) as store:
                    for number in range(count):
                        assert store[number][0] == number
                    assert store.stats().evictions
                    assert store.stats().utilization > 0.95
                    gc.collect()
                    after, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert 0.7 * size <= after - before <= 1.1 * size + sample
