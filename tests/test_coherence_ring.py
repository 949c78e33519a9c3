"""The log of changes: it tells what every commit changed, or nothing, whatever becomes of its bytes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore import keys
from kvstore.backends import OWN_SPACE
from kvstore.coherence import RING_BYTES, NoChanges, Ring
from tests.rings import NUMBERS, SLOTS, STORE, File, Going, a_ring, change, log

# -- what the ring tells ---------------------------------------------------------------------------


def test_it_tells_what_each_commit_changed():
    ring = a_ring()
    log(ring, 5, change("a"), change("b", "n"))
    log(ring, 6, ("n", b""))
    log(ring, 7, change((1, b"\0"), "é"), change(-3))
    assert ring.between(4, 5) == [change("a"), change("b", "n")]
    assert ring.between(5, 7) == [("n", b""), change((1, b"\0"), "é"), change(-3)]
    assert ring.between(4, 7) == ring.between(4, 5) + ring.between(5, 7)
    assert ring.between(7, 7) == []


def test_what_it_was_not_told_it_does_not_know():
    ring = a_ring()
    log(ring, 5, change("a"))
    log(ring, 7, change("b"))
    assert ring.between(3, 5) is None
    assert ring.between(4, 7) is None
    assert ring.between(6, 8) is None
    assert ring.between(6, 7) == [change("b")]


def test_the_librarys_own_spaces_are_nobodys_business():
    ring = a_ring()
    log(ring, 5, (OWN_SPACE + "expiry", b"12345678"), change("a"))
    log(ring, 6, (OWN_SPACE + "expiry", b"12345678"))
    assert ring.between(4, 6) == [change("a")]


def test_all_see_what_one_was_told():
    file = File()
    log(a_ring(file), 5, change("a"))
    log(a_ring(file), 6, change("b"))
    assert Ring(file, STORE, Going()).between(4, 6) == [change("a"), change("b")]


def test_an_entry_counts_while_its_writer_goes_on():
    going = Going()
    ring = a_ring(going=going)
    ring.publish(5, [change("a"), change("b" * 300)])
    ring.publish_one(6, keys.encode("c"))
    assert ring.between(4, 6) is None
    going.on.add(ring.writer)
    assert ring.between(4, 6) == [change("a"), change("b" * 300), change("c")]
    going.on.clear()
    assert ring.between(4, 6) is None


def test_what_a_writer_has_settled_counts_for_ever():
    ring = a_ring()
    ring.publish(5, [change("a"), change("b" * 300)])
    ring.publish_one(6, keys.encode("c"))
    ring.settle()
    ring.writer = next(NUMBERS)
    assert ring.between(4, 6) == [change("a"), change("b" * 300), change("c")]


def test_a_writer_settles_nobody_elses_entries():
    file = File()
    a_ring(file).publish(5, [change("of one that died")])
    log(a_ring(file), 6, change("b"))
    assert a_ring(file).between(4, 5) is None
    assert a_ring(file).between(5, 6) == [change("b")]


def test_what_is_published_under_no_number_is_not_believed():
    ring = a_ring(going=lambda writer: True)
    ring.writer = 0
    ring.publish(5, [change("a")])
    ring.publish_one(6, keys.encode("b"))
    ring.settle()
    assert ring.between(4, 5) is None
    assert ring.between(5, 6) is None


def test_it_knows_so_many_commits_and_no_more():
    ring = a_ring()
    for commit in range(1, 2_500):
        log(ring, commit, change(commit))
    last = 2_499
    assert ring.between(last - SLOTS, last) == [change(commit) for commit in range(last - SLOTS + 1, last + 1)]
    assert ring.between(last - SLOTS - 1, last) is None
    assert ring.between(0, 2) is None


def test_it_knows_so_many_bytes_and_no_more():
    ring = a_ring()
    told = {}
    for commit in range(1, 200):
        told[commit] = [change(f"{commit} {number} " + "x" * 400) for number in range(commit % 90 + 1)]
        log(ring, commit, *told[commit])
    known = [commit for commit in told if ring.between(commit - 1, commit) is not None]
    assert known[-20:] == list(range(180, 200))
    assert 1 not in known
    assert all(ring.between(commit - 1, commit) == told[commit] for commit in known)


def test_a_commit_that_is_too_large_for_it_is_not_known_and_those_after_it_are():
    ring = a_ring()
    log(ring, 4, change("before"))
    log(ring, 5, *(change(f"{number:>500}") for number in range(1_000)))
    log(ring, 6, change("after"))
    assert ring.between(3, 4) == [change("before")]
    assert ring.between(4, 5) is None
    assert ring.between(5, 6) == [change("after")]


def test_without_a_ring_nothing_is_known():
    changes = NoChanges()
    changes.publish(5, [change("a")])
    changes.publish_one(5, keys.encode("a"))
    assert changes.between(4, 5) is None


# -- what may happen to it -------------------------------------------------------------------------


def a_used_file(commits=30):
    file = File()
    ring = a_ring(file)
    told = {commit: [change(f"{commit} {n}") for n in range(commit % 7)] for commit in range(1, commits)}
    for commit, changed in told.items():
        log(ring, commit, *changed)
    return file, told


def assert_nothing_is_missing(ring, told):
    """Of each commit the ring tells what it changed, or nothing."""
    for commit, changed in told.items():
        assert ring.between(commit - 1, commit) in (None, changed)


@pytest.mark.parametrize("store", [(7, 12), (8, 11)])
def test_a_ring_of_another_store_is_not_believed_and_not_made_ours(store):
    file, told = a_used_file()
    foreign = a_ring(file, store)
    log(foreign, 30, change("a"))
    log(foreign, 31, change("b" * 300))
    assert all(foreign.between(commit - 1, commit) is None for commit in [*told, 30, 31])
    assert_nothing_is_missing(a_ring(file), told)


@pytest.mark.parametrize("size", [1, 40, 64, RING_BYTES // 2, RING_BYTES, RING_BYTES + 999])
@pytest.mark.parametrize("fill", ["zeros", "ones", "noise"])
def test_a_file_that_is_no_ring_is_not_believed(fill, size):
    rng = random.Random(size)
    data = {"zeros": bytes, "ones": lambda size: b"\xff" * size, "noise": rng.randbytes}[fill](size)
    file = File(data)
    ring = a_ring(file)
    log(ring, 5, change("a"))
    log(ring, 6, change("b" * 300))
    assert ring.between(4, 5) is None
    assert ring.between(5, 6) is None


def test_after_a_reset_nothing_of_before_is_told():
    file, told = a_used_file()
    ring = a_ring(file)
    ring.reset()
    assert all(ring.between(commit - 1, commit) is None for commit in told)
    log(ring, 30, change("a"))
    assert ring.between(29, 30) == [change("a")]


@given(st.integers(0, 64 + 40 * 256), st.booleans())
def test_a_ring_that_is_cut_off_tells_what_is_whole(size, regrown):
    file, told = a_used_file()
    writer = a_ring(file)
    del file.data[size:]
    if regrown:
        file.data.extend(bytes(RING_BYTES - size))
    assert_nothing_is_missing(writer, told)
    log(writer, 30, change("a"))
    assert_nothing_is_missing(writer, {**told, 30: [change("a")]})


@given(st.data())
def test_a_ring_with_bytes_that_somebody_else_wrote_tells_what_is_whole(data):
    file, told = a_used_file()
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.one_of(st.integers(0, 64 + 40 * 256), st.integers(0, len(file.data) - 1)))
        bytes_ = data.draw(st.binary(min_size=1, max_size=60))
        file.data[position : position + len(bytes_)] = bytes_
    ring = a_ring(file)
    assert_nothing_is_missing(ring, told)
    log(ring, 30, change("a"))
    assert_nothing_is_missing(ring, {**told, 30: [change("a")]})


@given(st.integers(0, 300))
def test_a_writer_that_dies_in_the_middle_of_an_entry_leaves_none(bytes_written):
    file, told = a_used_file()
    writer = a_ring(file)
    with file.losing_all_but(bytes_written):
        writer.publish(30, [change("a"), change("b" * 100)])
    reader = Ring(file, STORE, Going())
    assert_nothing_is_missing(reader, told)
    # Somebody without this code has committed under that id.
    assert reader.between(29, 30) is None


@given(st.integers(0, 600), st.integers(0, 60), st.booleans())
def test_a_medium_that_loses_writes_settles_nothing_that_was_not_published(published, settled, long):
    file, told = a_used_file()
    a_ring(file).publish(30, [change("of one that died")])
    going = Going()
    writer = a_ring(file, going=going)
    going.on.add(writer.writer)
    changed = [change("of the one that committed"), change("b" * (300 if long else 100))]
    with file.losing_all_but(published):
        writer.publish(30, changed)
    assert Ring(file, STORE, going).between(29, 30) in (None, changed)
    with file.losing_all_but(settled):
        writer.settle()
    for reader in (Ring(file, STORE, Going()), Ring(file, STORE, going)):
        assert_nothing_is_missing(reader, told)
        assert reader.between(29, 30) in (None, changed)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["commits", "goes on", "dies", "fails", "dies after the commit", "is foreign", "is oversized"]),
        st.lists(st.integers(0, 300), min_size=1, max_size=4),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 3 * SLOTS))
@settings(max_examples=200)
def test_whatever_becomes_of_the_writers_nothing_that_was_committed_is_missing(steps, first):
    file, going, told = File(), Going(), {}
    reader = a_ring(file, going=going)
    commit = first
    for what, numbers in steps:
        changed = [change(number) for number in numbers]
        if what == "is foreign":
            told[commit] = changed
            commit += 1
            continue
        writer = a_ring(file, going=going)
        going.on.add(writer.writer)
        if what == "is oversized":
            changed = [change(f"{number} {index:>480}") for number in numbers for index in range(600)]
        writer.publish(commit, changed)
        if what not in {"dies", "fails"}:
            told[commit] = changed
            assert reader.between(commit - 1, commit) in (None, changed)
            if what not in {"dies after the commit", "goes on"}:
                writer.settle()
            commit += 1
        if what != "goes on":
            going.on.discard(writer.writer)
        assert_nothing_is_missing(reader, told)
    if told:
        everything = reader.between(first - 1, commit - 1)
        assert everything is None or set(everything) >= {one for changed in told.values() for one in changed}
