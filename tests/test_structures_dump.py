"""Lists and sets in dumps: they come back as they were, to the byte, and a dump that is wrong about them is refused."""

from __future__ import annotations

import io
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvstore
from kvstore import KvstoreError, codec, dump, elements, keys
from kvstore.dump import DumpItem, DumpMember, DumpRecord, DumpStructure
from tests import strategies
from tests.dump_samples import FAR, dumped, line, refused, sealed, values
from tests.mapping_contract import order

HEADER = '{"format":"kvstore dump","version":2,"namespaces":["","n"]}'
LIST = '{"ns":"","list":"k","expires":null}'
SET = '{"ns":"","set":"k","expires":null}'
IN_N = '{"ns":"n","list":"k","expires":null}'


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store


@pytest.fixture
def other(tmp_path):
    with kvstore.open(tmp_path / "other.kv", durability="none") as store:
        yield store


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A store for loads that are refused: it has one list, and keeps no other."""
    with kvstore.open(tmp_path_factory.mktemp("target") / "store.kv", durability="none") as store:
        store.list("mine").append("untouched")
        yield store
        assert (dict(store), list(store.list("mine"))) == ({}, ["untouched"])
        assert (list(store.structures()), store.namespaces()) == ([("mine", "list")], [])


def test_a_structure_is_a_line_and_so_is_each_element(store):
    store["a"] = 1
    store.list("history").extend(["x", b"\x00\x01", (1,)])
    store.list("history").touch(FAR / 1000 - store._clock())
    store.namespace("n").set_of(("t", 1)).update([("b", 2), "é", 5])
    ends = next(item.expires for item in store.export_records() if isinstance(item, DumpStructure))
    *lines, trailer = dumped(store).decode().splitlines()
    assert lines == [
        HEADER,
        f'{{"ns":"","list":"history","expires":{ends}}}',
        '{"item":"x"}',
        '{"item":{"$bytes":"AAE="}}',
        '{"item":{"$tuple":[1]}}',
        '{"ns":"","key":"a","value":1,"expires":null}',
        '{"ns":"n","set":["t",1],"expires":null}',
        '{"member":"é"}',
        '{"member":5}',
        '{"member":["b",2]}',
    ]
    assert json.loads(trailer)["count"] == len(lines) - 1


def test_without_structures_a_dump_is_of_the_version_that_knew_none(store, other):
    store["a"] = 1
    assert json.loads(dumped(store).splitlines()[0])["version"] == 1
    store.list("k").append(1)
    assert json.loads(dumped(store).splitlines()[0])["version"] == 2
    store.list("k").clear()
    assert json.loads(dumped(store).splitlines()[0])["version"] == 1
    assert dump.load(other, io.BytesIO(dumped(store))).records == 1


contents = st.dictionaries(
    st.tuples(
        st.sampled_from(("", "n", "é m")),
        strategies.keys().filter(lambda key: len(keys.encode(key)) <= elements.MAX_BYTES),
    ),
    st.lists(values(), min_size=1, max_size=4) | st.sets(st.sampled_from(("a", 1, b"x", ("t", -1))), min_size=1),
    max_size=5,
)


@given(filled=contents)
@settings(max_examples=settings.default.max_examples // 10)
def test_what_is_dumped_loaded_and_dumped_again_is_the_same(tmp_path_factory, filled):
    folder = tmp_path_factory.mktemp("again")
    with (
        kvstore.open(folder / "one.kv", durability="none") as one,
        kvstore.open(folder / "two.kv", durability="none") as two,
    ):
        for (name, key), held in filled.items():
            space = one.namespace(name) if name else one
            if type(held) is list:
                # From the other end, so that the positions are not those that a load gives.
                space.list(key).extendleft(reversed(held))
            else:
                space.set_of(key).update(held)
        first = dumped(one)
        report = dump.load(two, io.BytesIO(first))
        assert dumped(two) == first
        assert report.records == sum(1 + len(held) for held in filled.values())
        assert two.verify().ok
        assert two.verify().records == one.verify().records
        for (name, key), held in filled.items():
            space = two.namespace(name) if name else two
            if type(held) is set:
                assert list(space.set_of(key)) == sorted(held, key=order)
            else:
                assert len(space.list(key)) == len(held)


def test_a_prefix_and_a_namespace_choose_among_structures_too(store):
    for name in ("", "n"):
        space = store.namespace(name) if name else store
        for key in ("a1", "a2", "b", ("a", 1)):
            space.list(key).append(key)
            space[key] = key
    chosen = list(store.export_records(prefix="a", namespace="n"))
    assert [item.key for item in chosen if isinstance(item, DumpStructure | DumpRecord)] == ["a1", "a2", "a1", "a2"]
    assert [item.value for item in chosen if isinstance(item, DumpItem)] == ["a1", "a2"]
    header, *lines = map(json.loads, dumped(store, prefix=("a",), namespace="n").splitlines())
    assert header["namespaces"] == ["n"]
    assert lines[0] == {"ns": "n", "list": ["a", 1], "expires": None}


def test_what_has_ended_is_not_dumped(store_path):
    now = [1_000.0]
    with kvstore.open(store_path, durability="none", clock=lambda: now[0]) as store:
        store.list("k").extend([1, 2])
        store.list("k").touch(10)
        now[0] += 10
        assert list(store.export_records()) == []
        assert json.loads(dumped(store).splitlines()[0]) == {"format": "kvstore dump", "version": 1, "namespaces": []}


def test_an_end_travels(tmp_path):
    now = [1_000.0]
    with (
        kvstore.open(tmp_path / "one.kv", clock=lambda: now[0]) as one,
        kvstore.open(tmp_path / "two.kv", clock=lambda: now[0]) as two,
    ):
        one.set_of("k").update("ab")
        one.set_of("k").touch(10)
        dump.load(two, io.BytesIO(dumped(one)))
        assert two.set_of("k").ttl() == 10
        now[0] += 10
        assert two.expire() == 1
        assert not two.set_of("k")


def test_merging_replaces_a_structure_as_a_whole(store, other):
    other["a"] = 1
    other.list("k").extend([1, 2])
    other.set_of("was a list").add("b")
    store["kept"] = 1
    store.list("k").extend(range(100))
    store.list("was a list").extend(range(100))
    store.list("stays").append(1)
    with pytest.raises(KvstoreError, match="merge"):
        dump.load(store, io.BytesIO(dumped(other)))
    assert dump.load(store, io.BytesIO(dumped(other)), merge=True).records == 6
    assert list(store.list("k")) == [1, 2]
    assert list(store.set_of("was a list")) == ["b"]
    assert (list(store.list("stays")), dict(store)) == ([1], {"a": 1, "kept": 1})
    store.expire()
    assert store.verify() == store.verify().replaced(records=6, problems=())


def test_a_store_that_has_structures_alone_is_not_empty(store, other):
    other["a"] = 1
    for fill in (lambda: store.list("k").append(1), lambda: store.namespace("n").set_of("k").add(1)):
        fill()
        with pytest.raises(KvstoreError, match="merge"):
            store.import_records(other.export_records())
        store.list("k").clear()


def test_registered_types_travel_as_they_are_stored(store, other):
    opaque = codec.Opaque("test.structures.unknown", (1, 2))
    store.import_records([DumpStructure("", "k", "list", None), DumpItem(opaque)])
    dump.load(other, io.BytesIO(dumped(store)))
    assert list(other.export_records())[1] == DumpItem(opaque)
    with pytest.raises(kvstore.UnknownTypeError):
        list(other.list("k"))


MISPLACED = {
    "an item without a list": [DumpItem(1)],
    "a member without a set": [DumpMember("a")],
    "a member of a list": [DumpStructure("", "k", "list", None), DumpMember("a")],
    "an item of a set": [DumpStructure("", "k", "set", None), DumpItem("a")],
    "an item behind a record": [
        DumpStructure("", "k", "list", None),
        DumpItem(1),
        DumpRecord("", "a", 1, None),
        DumpItem(2),
    ],
}


@pytest.mark.parametrize("records", MISPLACED.values(), ids=MISPLACED)
def test_elements_that_belong_to_nothing_are_not_imported(target, records):
    with pytest.raises(KvstoreError, match="follow"):
        target.import_records(records, merge=True)


def test_memory_does_not_grow_with_a_structure(store, other):
    store.list("k").extend(number.to_bytes(1_000, "big") for number in range(4_000))

    def most_while(work):
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    stream = io.BytesIO(dumped(store))
    assert most_while(lambda: dump.write(store, _Nowhere())) < 500_000
    # The names of the changed keys are kept, up to a limit, for other processes' memory.
    assert most_while(lambda: dump.load(other, stream)) < 4_000 * 400
    assert len(other.list("k")) == 4_000


class _Nowhere:
    def write(self, data):
        return len(data)


REFUSED = {
    "an item first": (2, ['{"item":1}']),
    "a member first": (2, ['{"member":1}']),
    "an item behind a record": (3, [line('"a"'), '{"item":1}']),
    "an item of a set": (3, [SET, '{"item":1}']),
    "a member of a list": (3, [LIST, '{"member":1}']),
    "a list without items": (3, [LIST, line('"a"')]),
    "a set without members at the end": (3, [SET]),
    "two lists of one key": (4, [LIST, '{"item":1}', LIST, '{"item":1}']),
    "a list and a set of one key": (4, [LIST, '{"item":1}', SET, '{"member":1}']),
    "a list behind a record": (3, [line('"a"'), LIST, '{"item":1}']),
    "a list of an earlier namespace": (4, [IN_N, '{"item":1}', LIST, '{"item":1}']),
    "a list of no namespace": (2, ['{"ns":"x","list":"k","expires":null}', '{"item":1}']),
    "members out of order": (4, [SET, '{"member":2}', '{"member":1}']),
    "a member twice": (4, [SET, '{"member":1}', '{"member":1}']),
    "a member that is no key": (3, [SET, '{"member":1.5}']),
    "a member that is too long": (3, [SET, f'{{"member":"{"x" * 502}"}}']),
    "a key that is too long": (2, [LIST.replace('"k"', f'"{"x" * 502}"'), '{"item":1}']),
    "a key that is none": (2, [LIST.replace('"k"', "null"), '{"item":1}']),
    "an end that is none": (2, [LIST.replace("null", '"never"'), '{"item":1}']),
    "a structure of another kind": (2, ['{"ns":"","heap":"k","expires":null}', '{"item":1}']),
    "a list and a set in one": (2, ['{"ns":"","list":"k","set":"k","expires":null}']),
    "an item with more": (3, [LIST, '{"item":1,"expires":null}']),
}


@pytest.mark.parametrize(("number", "lines"), REFUSED.values(), ids=REFUSED)
def test_a_line_is_refused_that_no_writer_makes(target, number, lines):
    assert refused(target, sealed(*lines, header=HEADER)).line == number


def test_a_dump_of_the_first_version_has_no_structures(target):
    assert "version 1" in str(refused(target, sealed(LIST, '{"item":1}')))


def test_a_dump_is_refused_wherever_it_is_cut_off_or_lines_change_places(target, store):
    store.list("k").extend(["a", "b"])
    store.set_of("s").update([1, 2])
    store["a"] = 1
    sample = dumped(store)
    for length in range(len(sample)):
        refused(target, sample[:length])
    lines = sample.splitlines(keepends=True)
    for one in range(len(lines)):
        refused(target, b"".join(lines[:one] + lines[one + 1 :]))
        for two in range(one):
            changed = lines.copy()
            changed[one], changed[two] = changed[two], changed[one]
            refused(target, b"".join(changed))


def test_an_element_that_is_too_long_for_a_line_is_said_to_be(store):
    store.list("k").append("x" * 1_000)
    with pytest.raises(KvstoreError, match="item"):
        dump.write(store, io.BytesIO(), max_line=500)
