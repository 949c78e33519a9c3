"""The list of hot keys as a file: whatever happens to it, it names fewer keys, and never breaks anything."""

from __future__ import annotations

import os
import struct
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from kvstore import warm_list

hot_keys = st.lists(
    st.tuples(st.text(max_size=20), st.binary(min_size=1, max_size=511), st.integers(0, 2**32 - 1)), max_size=20
)
MANY = [(f"space {number % 3}", b"\x02key %d" % number, number) for number in range(10_000)]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "store.kv-hot")


@given(keys=hot_keys)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_in_the_same_order(path, keys):
    warm_list.write(path, keys)
    assert [*warm_list.read(path)] == keys


def test_a_long_list_is_read_block_by_block(path):
    warm_list.write(path, MANY)
    assert [*warm_list.read(path)] == MANY
    listed = warm_list.read(path)
    assert next(listed) == MANY[0]
    listed.close()


def test_a_cost_beyond_the_format_is_the_highest_that_it_can_say(path):
    warm_list.write(path, [("", b"k", 2**40)])
    assert [*warm_list.read(path)] == [("", b"k", 2**32 - 1)]


@given(data=st.data())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_of_a_damaged_list_the_keys_before_the_damage_are_read(path, data):
    warm_list.write(path, MANY)
    with open(path, "rb") as file:
        whole = file.read()
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(
        st.sampled_from([whole[:at], whole[:at] + bytes((whole[at] ^ 0x10,)) + whole[at + 1 :], whole[:at] + bytes(99)])
    )
    with open(path, "wb") as file:
        file.write(damaged)
    found = [*warm_list.read(path)]
    assert found == MANY[: len(found)]
    assert len(found) < len(MANY)


@pytest.mark.parametrize("body", [b"\0" * 7, b"\0\0\0\1\xff\xff\xff\xff", b"\0\0\0\1\0\1\0\0\xff"])
def test_a_list_that_means_harm_ends_there(path, body):
    with open(path, "wb") as file:
        file.write(b"kvhot\0\0\1" + struct.pack(">IQ", len(body), xxh3_64_intdigest(body, 0)) + body)
    assert [key for key in warm_list.read(path) if len(key[1]) > 511] == []


@pytest.mark.parametrize("make", [lambda path: None, os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_where_there_is_no_list_there_are_no_keys(path, make):
    make(path)
    assert [*warm_list.read(path)] == []


def test_a_list_is_not_read_through_a_link(path, tmp_path):
    another = str(tmp_path / "another.kv-hot")
    warm_list.write(another, MANY)
    os.symlink(another, path)
    assert [*warm_list.read(path)] == []


@pytest.mark.parametrize("length", [2**31 - 1, 2**32 - 1])
def test_a_block_is_not_believed_to_be_as_long_as_it_says(path, length):
    with open(path, "wb") as file:
        file.write(b"kvhot\0\0\1" + struct.pack(">IQ", length, 0) + bytes(1_000))
    tracemalloc.start()
    try:
        assert [*warm_list.read(path)] == []
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_block_in_anothers_place_ends_the_list(path):
    warm_list.write(path, MANY)
    with open(path, "rb") as file:
        magic, rest = file.read(8), file.read()
    first = struct.calcsize(">IQ") + struct.unpack_from(">I", rest)[0]
    with open(path, "wb") as file:
        file.write(magic + rest[:first] * 2)
    found = [*warm_list.read(path)]
    assert found == MANY[: len(found)]


def test_a_list_replaces_what_is_in_its_place_and_nothing_that_is_pointed_at(path, tmp_path):
    target = tmp_path / "target"
    target.write_text("untouched")
    os.symlink(target, path)
    warm_list.write(path, MANY)
    assert target.read_text() == "untouched"
    assert [*warm_list.read(path)] == MANY
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_list_that_cannot_be_written_leaves_the_one_before_and_no_traces(path, tmp_path):
    warm_list.write(path, MANY)
    os.mkdir(tmp_path / "folder")
    with pytest.raises(OSError):
        warm_list.write(str(tmp_path / "folder"), MANY)
    with pytest.raises(ZeroDivisionError):
        warm_list.write(path, ((("", b"k", 1 // 0)) for _ in range(1)))
    assert [*warm_list.read(path)] == MANY
    assert sorted(os.listdir(tmp_path)) == ["folder", "store.kv-hot"]
