"""The dump of a store: the same to the byte when it has been loaded and is dumped again."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvstore
from kvstore import codec, dump
from kvstore.dump import DumpRecord
from kvstore.errors import KvstoreError
from tests import strategies
from tests.dump_samples import FAR, FORMS, dumped, values


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A store for loads that are refused: it has one record, and keeps no other."""
    with kvstore.open(tmp_path_factory.mktemp("target") / "store.kv", durability="none") as store:
        store["mine"] = "untouched"
        yield store
        assert dict(store) == {"mine": "untouched"}
        assert store.namespaces() == []


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store


@pytest.fixture
def other(tmp_path):
    with kvstore.open(tmp_path / "other.kv", durability="none") as store:
        yield store


# What it looks like


def test_a_dump_is_a_header_a_line_for_each_record_and_a_trailer(store):
    store.set_many({"a": 1, ("b", 2): b"\x00\x01", 7: "é"})
    store.import_records([DumpRecord("", "until", None, FAR)], merge=True)
    text = (
        '{"format":"kvstore dump","version":1,"namespaces":[""]}\n'
        '{"ns":"","key":"a","value":1,"expires":null}\n'
        '{"ns":"","key":"until","value":null,"expires":4102444800000}\n'
        '{"ns":"","key":7,"value":"é","expires":null}\n'
        '{"ns":"","key":["b",2],"value":{"$bytes":"AAE="},"expires":null}\n'
    ).encode()
    digest = hashlib.sha256(text).hexdigest()
    assert dumped(store) == text + f'{{"count":4,"sha256":"{digest}"}}\n'.encode()


def test_a_dump_of_nothing_is_a_header_and_a_trailer(store, other):
    data = dumped(store)
    assert data.splitlines()[0] == b'{"format":"kvstore dump","version":1,"namespaces":[]}'
    assert len(data.splitlines()) == 2
    assert dump.load(other, io.BytesIO(data)).records == 0


def test_the_reports_say_what_was_written_and_read(store, other):
    store.set_many({number: number for number in range(1000)})
    stream = io.BytesIO()
    written = dump.write(store, stream)
    assert written.records == 1000
    assert written.bytes == len(stream.getvalue())
    assert written.sha256 == json.loads(stream.getvalue().splitlines()[-1])["sha256"]
    stream.seek(0)
    read = dump.load(other, stream)
    assert (read.records, read.bytes, read.sha256) == (written.records, written.bytes, written.sha256)


def test_the_digest_is_the_one_that_sha256sum_computes(store, tmp_path):
    store["a"] = "é\u202e"
    (tmp_path / "d.jsonl").write_bytes(dumped(store))
    command = "head -n -1 d.jsonl | sha256sum"
    printed = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=True, text=True).stdout
    assert printed.split()[0] == json.loads(dumped(store).splitlines()[-1])["sha256"]


# What is written comes back


def test_every_form_of_value_survives_to_the_byte(store, other):
    store.set_many({number: value for number, (value, _) in enumerate(FORMS)})
    data = dumped(store)
    dump.load(other, io.BytesIO(data))
    assert dumped(other) == data


@given(
    items=st.dictionaries(strategies.keys(), values(), max_size=8),
    named=st.dictionaries(
        st.text("ab/é", min_size=1, max_size=3),
        st.dictionaries(strategies.keys(), st.none() | st.integers(FAR, 2**63), min_size=1, max_size=3),
        max_size=2,
    ),
)
@settings(max_examples=40)
def test_dumped_loaded_and_dumped_again_is_the_same_to_the_byte(tmp_path_factory, items, named):
    place = tmp_path_factory.mktemp("stores")
    records = [DumpRecord("", key, value, None) for key, value in items.items()]
    records += [DumpRecord(ns, key, 1, expires) for ns, keys in named.items() for key, expires in keys.items()]
    with (
        kvstore.open(place / "one.kv", durability="none") as one,
        kvstore.open(place / "two.kv", durability="none") as two,
    ):
        one.import_records(records, merge=False)
        data = dumped(one)
        assert dump.load(two, io.BytesIO(data)).records == len(records)
        assert dumped(two) == data
        assert list(two) == list(one)
        assert all(strategies.same(export.value, items[export.key]) for export in two.export_records(namespace=""))


def test_values_of_types_that_nobody_has_registered_survive(store, other):
    own = codec.Opaque("nobody knows", [1, (2,)])
    store.import_records([DumpRecord("", "own", {"inside": [own]}, None)], merge=False)
    data = dumped(store)
    assert b'{"inside":[{"$type":"nobody knows","value":[1,{"$tuple":[2]}]}]}' in data
    dump.load(other, io.BytesIO(data))
    assert dumped(other) == data


def test_values_of_a_registered_type_are_dumped_by_its_name(store, other):
    class Point:
        def __init__(self, x, y):
            self.x, self.y = x, y

    kvstore.register(Point, "dump test point", lambda point: (point.x, point.y), lambda xy: Point(*xy))
    store["p"] = Point(1, 2.5)
    data = dumped(store)
    assert b'{"$type":"dump test point","value":{"$tuple":[1,2.5]}}' in data
    dump.load(other, io.BytesIO(data))
    assert (other["p"].x, other["p"].y) == (1, 2.5)


def test_a_prefix_dumps_the_keys_that_begin_with_it(store, other):
    store.set_many({"a/1": 1, "a/2": 2, "b/1": 3, ("a/", 1): 4, ("a/",): 5, 7: 6})
    dump.load(other, io.BytesIO(dumped(store, prefix="a/")))
    assert dict(other) == {"a/1": 1, "a/2": 2}
    dump.load(other, io.BytesIO(dumped(store, prefix=("a/",))), merge=True)
    assert dict(other) == {"a/1": 1, "a/2": 2, ("a/",): 5, ("a/", 1): 4}


def test_namespaces_are_dumped_in_order_or_one_alone(store, other):
    records = [DumpRecord("", "a", 0, None), DumpRecord("x", "b", 1, FAR), DumpRecord("é", "a", 2, None)]
    store.import_records(records, merge=False)
    data = dumped(store)
    assert json.loads(data.splitlines()[0])["namespaces"] == ["", "x", "é"]
    dump.load(other, io.BytesIO(data))
    assert list(other.export_records()) == records
    assert dumped(store, namespace="x").splitlines()[1] == b'{"ns":"x","key":"b","value":1,"expires":4102444800000}'
    assert json.loads(dumped(store, prefix="b").splitlines()[0])["namespaces"] == ["x"]


def test_a_dump_shows_one_moment(store):
    store.set_many(dict.fromkeys(range(100), "old"))
    before = dumped(store)

    def write_more(done):
        store[done] = "new"
        store[f"more {done}"] = "new"

    assert dumped(store, progress=write_more) == before


def test_progress_is_told_after_each_record(store, other):
    store.set_many(dict.fromkeys(range(5)))
    told = []
    data = dumped(store, progress=told.append)
    assert told == [1, 2, 3, 4, 5]
    dump.load(other, io.BytesIO(data), progress=told.append)
    assert told == [1, 2, 3, 4, 5] * 2


def test_a_target_that_takes_little_at_a_time_gets_all_of_it(store):
    class Slow(io.RawIOBase):
        got = b""

        def writable(self):
            return True

        def write(self, data):
            self.got += bytes(data[:1000])
            return len(data[:1000])

    store.set_many(dict.fromkeys(range(1000), "x" * 100))
    slow = Slow()
    dump.write(store, slow)
    assert slow.got == dumped(store)


def test_a_source_that_gives_little_at_a_time_is_read_whole(store, other):
    class Slow(io.RawIOBase):
        def __init__(self, data):
            self.data = io.BytesIO(data)

        def readable(self):
            return True

        def readinto(self, buffer):
            return self.data.readinto(memoryview(buffer)[:7])

    store.set_many(dict.fromkeys(range(100), "x" * 10))
    dump.load(other, Slow(dumped(store)))
    assert dict(other) == dict(store)


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.jsonl.xz"])
def test_a_dump_goes_through_a_file(store, other, tmp_path, name):
    store.set_many(dict.fromkeys(range(1000), "x" * 10))
    with dump.writing(tmp_path / name) as stream:
        dump.write(store, stream)
    with dump.reading(tmp_path / name) as stream:
        dump.load(other, stream)
    assert dict(other) == dict(store)


def test_a_dump_that_fails_leaves_no_read_open(store):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    store.set_many(dict.fromkeys(range(2000), "x" * 100))
    with pytest.raises(OSError, match="No space left") as caught:
        dump.write(store, Full())
    assert caught.tb is not None  # which knows all that write had open
    for number in range(5):
        store["a"] = number
    assert store.stats().oldest_reader_lag == 0


# What a load does to the store


def test_a_load_goes_into_a_store_without_records_unless_it_is_to_merge(store, other):
    store.set_many({"a": 1, "b": 2})
    other.set_many({"b": 3, "c": 4})
    data = dumped(store)
    with pytest.raises(KvstoreError, match="merge"):
        dump.load(other, io.BytesIO(data))
    assert dict(other) == {"b": 3, "c": 4}
    dump.load(other, io.BytesIO(data), merge=True)
    assert dict(other) == {"a": 1, "b": 2, "c": 4}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_load_leaves_the_store_as_it_was(target, store, error):
    store.set_many(dict.fromkeys(range(100)))

    def interrupt(done):
        if done == 50:
            raise error

    with pytest.raises(error):
        dump.load(target, io.BytesIO(dumped(store)), merge=True, progress=interrupt)


def test_a_source_that_fails_leaves_the_store_as_it_was(target, store):
    class Failing(io.BytesIO):
        def readline(self, size=-1):
            if self.tell() > 100:
                raise OSError(5, "Input/output error")
            return super().readline(size)

    store.set_many(dict.fromkeys(range(100)))
    with pytest.raises(OSError, match="Input/output"):
        dump.load(target, Failing(dumped(store)), merge=True)


# Memory


class Nowhere(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        return len(data)

    def import_records(self, records, *, merge):
        return sum(1 for _ in records)


def peak(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_of_a_dump_and_of_its_reader_does_not_grow_with_the_store(store):
    peaks = []
    for count in (10, 1_000, 8_000):
        store.set_many(dict.fromkeys(range(count), "x" * 200))
        data = io.BytesIO(dumped(store))
        actions = (lambda: dump.write(store, Nowhere()), lambda data=data: dump.load(Nowhere(), data))
        peaks.append([peak(action) for action in actions])
    for small, large in zip(*peaks[1:], strict=True):
        assert large < small + 2**18


def test_a_record_knows_its_stored_length():
    assert DumpRecord("", "a", b"x" * 100, None).stored_bytes() == 1 + (2 + 100) + 8
    assert DumpRecord("n", "a", None, FAR).stored_bytes() == 1 + 8 + 1 + 8
