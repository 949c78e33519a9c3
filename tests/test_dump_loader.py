"""The dumps that are refused, and at which line; the store stays as it is."""

from __future__ import annotations

import io
import json
import lzma
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvstore
from kvstore import dump
from kvstore.dump import DumpRecord
from kvstore.errors import DumpFormatError, KvstoreError
from tests.dump_samples import FAR, dumped, line, refused, sealed


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


# What is refused, and at which line


DAMAGED = {
    "two lines of one key": (3, [line('"a"'), line('"a"', "2")]),
    "keys out of order": (3, [line('"b"'), line('"a"')]),
    "types of keys out of order": (3, [line('"a"'), line('{"$bytes":"AA=="}')]),
    "a field too few": (2, ['{"ns":"","key":"a","value":1}']),
    "a field too many": (2, ['{"ns":"","key":"a","value":1,"expires":null,"ttl":1}']),
    "a field twice": (2, ['{"ns":"","key":"a","key":"b","value":1,"expires":null}']),
    "a field twice in the value": (2, [line('"a"', '{"x":[{"y":1,"y":1}]}')]),
    "a key that is none": (2, [line("1.5")]),
    "a key that is a bool": (2, [line("true")]),
    "a key with a dict in it": (2, [line('["a",{}]')]),
    "a key that is too long": (2, [line(f'"{"a" * 511}"')]),
    "a key with half a character": (2, [line('"\\ud800"')]),
    "a value with half a character": (2, [line('"a"', '"\\ud800"')]),
    "a value that is nested too deeply": (2, [line('"a"', "[" * 300 + "]" * 300)]),
    "a value of depth 100,000": (2, [line('"a"', "[" * 100_000 + "]" * 100_000)]),
    "a value of depth 100,000 that never ends": (2, [line('"a"', "[" * 100_000)]),
    "an unknown tag": (3, [line('"a"'), line('"b"', '{"$pickle":"gASVAAA="}')]),
    "not a number": (2, [line('"a"', "NaN")]),
    "a number beyond floats": (2, [line('"a"', "-1e400")]),
    "more digits than Python converts": (2, [line('"a"', "1" * 10_000)]),
    "an unknown namespace": (2, [line('"a"', ns='"x"')]),
    "a namespace that is none": (2, [line('"a"', ns="null")]),
    "a namespace that is a list": (2, [line('"a"', ns="[]")]),
    "an expiry that is a float": (2, [line('"a"', expires="1.5")]),
    "an expiry that is a bool": (2, [line('"a"', expires="true")]),
    "an expiry before time": (2, [line('"a"', expires="-1")]),
    "an expiry beyond 8 bytes": (2, [line('"a"', expires=str(2**64))]),
    "an array for a record": (2, ["[]"]),
    "a tagged value for a record": (2, ['{"$tuple":[]}']),
    "an empty line": (3, [line('"a"'), ""]),
    "a second header": (2, ['{"format":"kvstore dump","version":1,"namespaces":[""]}']),
    "a second trailer": (2, ['{"count":0,"sha256":""}']),
    "text": (2, ["Ada"]),
}


@pytest.mark.parametrize(("number", "lines"), DAMAGED.values(), ids=DAMAGED)
def test_a_line_is_refused_that_no_writer_makes(target, number, lines):
    assert refused(target, sealed(*lines)).line == number


HEADERS = {
    "": "not a kvstore dump",
    "Ada": "not a kvstore dump",
    "{}": "not a kvstore dump",
    "[]": "not a kvstore dump",
    '{"format":"pg_dump","version":1,"namespaces":[]}': "not a kvstore dump",
    '{"format":"kvstore dump","version":3,"namespaces":[]}': "upgrade",
    '{"format":"kvstore dump","version":0,"namespaces":[]}': "version",
    '{"format":"kvstore dump","version":true,"namespaces":[]}': "version",
    '{"format":"kvstore dump","version":1}': "header",
    '{"format":"kvstore dump","version":1,"namespaces":{}}': "header",
    '{"format":"kvstore dump","version":1,"namespaces":[1]}': "header",
    '{"format":"kvstore dump","version":1,"namespaces":[""],"more":1}': "header",
    '{"format":"kvstore dump","version":1,"namespaces":["b","a"]}': "order",
    '{"format":"kvstore dump","version":1,"namespaces":["a","a"]}': "order",
}


@pytest.mark.parametrize(("header", "reason"), HEADERS.items(), ids=HEADERS)
def test_a_header_is_refused_that_no_writer_of_this_version_makes(target, header, reason):
    error = refused(target, sealed(line('"a"'), header=header))
    assert error.line == 1
    assert reason in str(error)


def test_what_is_no_dump_at_all_is_refused(target):
    assert refused(target, b"").line == 1
    assert refused(target, b"\n").line == 1
    assert refused(target, bytes(range(256))).line == 1
    assert "compressed" in str(refused(target, b"\x1f\x8b\x08\x00\n"))
    assert "compressed" in str(refused(target, lzma.compress(b"")))


def test_a_trailer_that_does_not_fit_is_refused(target):
    good = sealed(line('"a"'), line('"b"'))
    assert refused(target, good.replace(b'"count":2', b'"count":3')).line == 4
    assert refused(target, good.replace(b'"count":2', b'"count":2.0')).line == 4
    assert refused(target, good.replace(b'"sha256":"', b'"sha256":"0')).line == 4
    assert refused(target, good.replace(b'"value":1', b'"value":2', 1)).line == 4
    assert refused(target, good.replace(line('"a"').encode() + b"\n", b"")).line == 3


def test_what_follows_the_end_is_refused(target):
    good = sealed(line('"a"'))
    for more in (b"\n", b" ", b"\x00", good):
        assert refused(target, good + more).line == 4


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A short dump with a bit of everything."""
    with kvstore.open(tmp_path_factory.mktemp("sample") / "store.kv", durability="none") as store:
        records = [
            ("", "a", (1.5, {"x": b"\x00"}), None),
            ("", ("b", -1), {1, "é"}, FAR),
            ("n", 1, [None], None),
        ]
        store.import_records((DumpRecord(*record) for record in records), merge=False)
        return dumped(store)


def test_a_dump_is_refused_wherever_it_is_cut_off(target, sample):
    for length in range(len(sample)):
        assert refused(target, sample[:length]).line == max(1, sample[:length].count(b"\n") + 1)


def test_a_dump_is_refused_whichever_bit_is_flipped(target, sample):
    for bit in range(len(sample) * 8):
        flipped = bytearray(sample)
        flipped[bit // 8] ^= 1 << bit % 8
        assert refused(target, bytes(flipped)).line <= sample.count(b"\n") + 2


def test_a_dump_is_refused_whatever_lines_change_places_or_are_left_out(target, sample):
    lines = sample.splitlines(keepends=True)
    for one in range(len(lines)):
        refused(target, b"".join(lines[:one] + lines[one + 1 :]))
        refused(target, b"".join(lines[: one + 1] + lines[one:]))
        for two in range(one):
            changed = lines.copy()
            changed[one], changed[two] = changed[two], changed[one]
            refused(target, b"".join(changed))


@pytest.mark.parametrize("name", ["d.gz", "d.xz"])
def test_a_compressed_dump_is_refused_wherever_it_is_cut_off(target, sample, name):
    file = io.BytesIO()
    with dump.packed(file, name) as stream:
        stream.write(sample)
    whole = file.getvalue()
    for length in range(len(whole)):
        with pytest.raises(DumpFormatError):
            dump.load(target, dump.unpacked(io.BytesIO(whole[:length]), name), merge=True)


@given(data=st.binary())
def test_a_dump_of_any_bytes_is_refused(target, data):
    refused(target, data)


@given(lines=st.lists(st.sampled_from(["{}", "[]", line("1"), line('"a"'), line('"a"', '{"$set":[]}'), '"', "{"])))
def test_any_lines_are_loaded_whole_or_refused(tmp_path_factory, target, lines):
    try:
        keys = [dump.load_key(json.dumps(json.loads(text)["key"])) for text in lines]
    except (TypeError, KeyError, ValueError):
        keys = None
    if keys is not None and keys in ([], ["a"], [1], ["a", 1]):
        with kvstore.open(tmp_path_factory.mktemp("whole") / "store.kv", durability="none") as store:
            assert dump.load(store, io.BytesIO(sealed(*lines))).records == len(store) == len(lines)
    else:
        refused(target, sealed(*lines))


# Limits


class Endless(io.RawIOBase):
    """A header, and then a line that never ends."""

    def __init__(self):
        self.given = 0
        self.head = b'{"format":"kvstore dump","version":1,"namespaces":[""]}\n{"ns":"","key":"a","value":"'

    def readable(self):
        return True

    def readinto(self, buffer):
        piece = self.head[: len(buffer)] or b"a" * len(buffer)
        self.head = self.head[len(piece) :]
        buffer[: len(piece)] = piece
        self.given += len(piece)
        return len(piece)


def test_a_line_that_never_ends_is_given_up_on(target):
    source = Endless()
    with pytest.raises(DumpFormatError, match=r"line 2: .*max_line"):
        dump.load(target, source, merge=True, max_line=8 * 2**20)
    assert source.given < 10 * 2**20


@pytest.mark.parametrize("name", ["d.gz", "d.xz"])
def test_a_compressed_line_of_any_length_takes_no_more_memory_than_the_limit(target, name):
    file = io.BytesIO()
    with dump.packed(file, name) as stream:
        stream.write(Endless().head)
        for _ in range(64):
            stream.write(b"a" * 2**20)
    assert len(file.getvalue()) < 2**20
    file.seek(0)
    tracemalloc.start()
    try:
        with pytest.raises(DumpFormatError, match=r"line 2: .*max_line"):
            dump.load(target, dump.unpacked(file, name), merge=True, max_line=4 * 2**20)
        assert tracemalloc.get_traced_memory()[1] < 24 * 2**20
    finally:
        tracemalloc.stop()


def test_what_the_writer_lets_through_the_reader_takes(store, other):
    store["a"] = "x" * 1000
    longest = max(len(text) + 1 for text in dumped(store).splitlines())
    with pytest.raises(KvstoreError, match=r'the record "a" takes \d+ bytes'):
        dumped(store, max_line=longest - 1)
    data = dumped(store, max_line=longest)
    dump.load(other, io.BytesIO(data), max_line=longest)
    assert refused(other, data, max_line=longest - 1).line == 2
