"""Arguments as canonical bytes: what is the same argument, in every process, and what isn't."""

from __future__ import annotations

import datetime as dt
import enum
import random
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from kvstore import codec, memo_key
from kvstore.refusal import Refused
from tests import strategies
from tests.other_process import OtherProcess

np = pytest.importorskip("numpy")


def meaning(value):
    """What makes an argument this one and no other: as stored, but for the order of dicts."""
    kind = type(value)
    if kind is dict:
        return kind, frozenset((meaning(key), meaning(item)) for key, item in value.items())
    if kind in {list, tuple}:
        return kind, tuple(map(meaning, value))
    if kind in {set, frozenset}:
        return kind, frozenset(map(meaning, value))
    return strategies.fingerprint(value)


def reordered(value, order):
    """An equal value whose dicts and sets were filled in another order."""
    kind = type(value)
    if kind is dict:
        items = [(key, reordered(item, order)) for key, item in value.items()]
        return dict(order.sample(items, len(items)))
    if kind in {list, tuple}:
        return kind(reordered(item, order) for item in value)
    if kind in {set, frozenset}:
        return kind(order.sample(list(value), len(value)))
    return value


@settings(max_examples=50)
@given(strategies.values(), st.randoms(use_true_random=False))
def test_the_order_of_dicts_and_sets_does_not_matter(value, order):
    assert memo_key.encode(reordered(value, order)) == memo_key.encode(value)


@settings(max_examples=50)
@given(strategies.values(), strategies.values())
def test_two_arguments_have_one_encoding_where_they_mean_the_same_and_only_there(one, other):
    assert (memo_key.encode(one) == memo_key.encode(other)) == (meaning(one) == meaning(other))


ALIKE = [
    *(0, 0.0, -0.0, False, "0", b"0", None, "", b"", 0j, Decimal(0), Decimal("0.0"), Fraction(0)),
    *([], (), {}, set(), frozenset(), bytearray(), [[]], [()], [None], (None,), {None}, {None: None}),
    *(1, True, 1.0, "1", b"1", [1], (1,), {1}, frozenset({1}), {1: 1}, {1: True}, {True: 1}, [1, 1], [[1], 1]),
    *(["ab"], ["a", "b"], ["", "ab"], {"a": "b"}, {"a", "b"}, 2**64, -(2**64), float(2**64), 256, -256),
    *(dt.date(2024, 1, 1), dt.datetime(2024, 1, 1), dt.time(), dt.timedelta(), UUID(int=0)),
    *(int, bool, float, str, np.float32, np.float32(0), np.float64(0), np.int64(0), np.int64(1), np.bool_(False)),
    *(
        np.array(0.0),
        np.array([0.0]),
        np.array([[0.0]]),
        np.zeros(0),
        np.zeros((0, 1)),
        np.zeros((1, 0)),
        np.array([-0.0]),
    ),
    *(np.zeros(2, "f4"), np.zeros(2, ">f4"), np.zeros(2, "i4"), np.zeros(2, "m8[s]"), np.zeros(2, "m8[D]")),
    *(
        np.zeros(2, "M8[s]"),
        np.zeros(2, "S4"),
        np.zeros(2, "U1"),
        np.zeros(8, "?"),
        np.zeros(8, "u1"),
        np.zeros(2, "V4"),
    ),
    *(np.zeros(2, [("a", "i4")]), np.zeros(2, [("b", "i4")]), np.zeros(2, [("a", "i2"), ("b", "i2")])),
]


def test_what_python_or_numpy_hold_equal_are_arguments_of_their_own():
    found = {}
    for value in ALIKE:
        encoded = memo_key.encode(value)
        assert encoded not in found, (value, found[encoded])
        found[encoded] = value


def test_an_encoding_is_not_the_beginning_of_another_one():
    encodings = [memo_key.encode(value) for value in ALIKE]
    assert not [(one, other) for one in encodings for other in encodings if one != other and other.startswith(one)]


@pytest.fixture(scope="module")
def others():
    """Two processes that hash each in their own way."""
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for seed in ("1", "2"):
            patch.setenv("PYTHONHASHSEED", seed)
            found.append(OtherProcess("from kvstore import codec, memo_key"))
        with found[0], found[1]:
            yield found


@settings(max_examples=10)
@given(st.lists(strategies.values(), min_size=20, max_size=40))
def test_an_argument_is_the_same_in_every_process(others, values):
    payloads = [codec.encode(value) for value in values]
    told = [memo_key.digest(memo_key.encode(value)).hex() for value in values]
    for other in others:
        assert other(f"[memo_key.digest(memo_key.encode(codec.decode(*each))).hex() for each in {payloads!r}]") == told


# -- arrays --------------------------------------------------------------------------------------------------------


def test_an_array_is_its_dtype_shape_and_content_however_it_lies_in_memory():
    whole = np.arange(24, dtype="f4").reshape(2, 3, 4)
    same = [
        np.asfortranarray(whole),
        np.ascontiguousarray(whole.transpose(2, 1, 0)).transpose(2, 1, 0),
        np.repeat(whole, 2, axis=2)[:, :, ::2],
        whole[::-1, ::-1][::-1, ::-1],
    ]
    assert {memo_key.encode(array) for array in same} == {memo_key.encode(whole)}
    changed = whole.copy()
    changed[1, 2, 3] += 1
    assert memo_key.encode(changed) != memo_key.encode(whole)


def test_an_array_in_a_file_is_the_array(tmp_path):
    np.save(tmp_path / "array.npy", np.arange(10))
    mapped = np.load(tmp_path / "array.npy", mmap_mode="r")
    assert memo_key.encode(mapped) == memo_key.encode(np.arange(10))


def test_what_lies_between_the_fields_of_an_array_is_no_part_of_it():
    dtype = np.dtype({"names": ["a", "b"], "formats": ["u1", "u4"], "offsets": [0, 4], "itemsize": 12})
    one, other = (np.frombuffer(bytes([filling]) * 36, dtype).copy() for filling in (0, 255))
    for array in (one, other):
        array["a"], array["b"] = 7, 8
    assert one.tobytes() != other.tobytes()
    assert memo_key.encode(one) == memo_key.encode(other)
    other["b"][2] = 9
    assert memo_key.encode(one) != memo_key.encode(other)


@pytest.mark.parametrize("kind", ["g", "G"])
def test_the_bytes_of_a_long_double_that_mean_nothing_are_no_part_of_it(kind):
    one = np.zeros(3, kind)
    raw = bytearray(one.tobytes())
    size = np.dtype("g").itemsize
    if size > 8:
        for at in range(0, len(raw), size):
            raw[at + 10 : at + size] = b"x" * (size - 10)
    other = np.frombuffer(bytes(raw), kind)
    assert (one == other).all()
    assert memo_key.encode(one) == memo_key.encode(other)
    assert memo_key.encode(one) != memo_key.encode(one + 1)
    pair = np.array([one, other])
    assert memo_key.encode_rows(pair) == [memo_key.encode(one)] * 2


def test_dtypes_of_an_extension_differ_though_numpy_writes_them_alike():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kinds = [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.dtype("V2"), np.dtype("f2")]
    assert len({memo_key.encode(np.zeros(4, kind)) for kind in kinds}) == len(kinds)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype="f4").reshape(3, 4),
        np.asfortranarray(np.arange(24, dtype="i2").reshape(2, 3, 4)),
        np.arange(12).reshape(6, 2)[::2],
        np.arange(5),
        np.array(["a", "bc"]),
        np.zeros(3, [("a", "i4"), ("b", "f8", 2)]),
        np.zeros((3, 0)),
        np.zeros((0, 3)),
        np.zeros(0),
    ],
    ids=lambda array: f"{array.dtype.kind}{array.shape}",
)
def test_a_row_is_encoded_among_others_as_alone(array):
    assert memo_key.encode_rows(array) == [memo_key.encode(row) for row in array]


@pytest.mark.parametrize("array", [np.array([None]), np.array(["a", None]), np.zeros(2, [("a", "O")])], ids=str)
def test_arrays_of_objects_are_refused(array):
    with pytest.raises(Refused, match="content is Python objects"):
        memo_key.encode([array])
    with pytest.raises(Refused, match="content is Python objects"):
        memo_key.encode_rows(np.array([array, array]))


@pytest.mark.parametrize("array", [np.ma.array([1, 2], mask=[0, 1]), np.rec.array([(1,)])], ids=["masked", "record"])
def test_arrays_that_are_more_than_their_content_are_refused(array):
    with pytest.raises(Refused, match=r"is of the type numpy\."):
        memo_key.encode(array)


# -- own types -----------------------------------------------------------------------------------------------------


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y


class Model:
    def __init__(self, version):
        self.version = version

    def __memo_key__(self):
        return {"version": self.version}


class OtherModel(Model):
    pass


def test_a_registered_type_is_its_name_and_stored_form():
    codec.register(Point, "memo-point", lambda point: {"x": point.x, "y": point.y}, lambda form: Point(**form))
    assert memo_key.encode(Point(1, 2)) == memo_key.encode(Point(1, 2))
    assert memo_key.encode(Point(1, 2)) != memo_key.encode(Point(1.0, 2))
    assert memo_key.encode(Point(1, 2)) != memo_key.encode({"x": 1, "y": 2})
    codec.register(Point, "memo-point", lambda point: {"y": point.y, "x": point.x}, lambda form: Point(**form))
    assert memo_key.encode(Point(np.arange(3), [2])) == memo_key.encode(Point(np.arange(3), [2]))


def test_a_value_with_a_hook_is_its_class_and_what_the_hook_gives():
    assert memo_key.encode([Model(2)]) == memo_key.encode([Model(2)])
    told = [Model(1), Model(2), OtherModel(1), {"version": 1}]
    assert len({memo_key.encode(value) for value in told}) == len(told)


def test_a_class_is_its_name_and_one_whose_name_is_not_its_own_is_refused():
    assert memo_key.encode(Model) != memo_key.encode(OtherModel)

    class Local:
        pass

    with pytest.raises(Refused, match=r"is the class .*<locals>\.Local, whose name others may have"):
        memo_key.encode(Local)


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [object(), len, lambda: 1, Path("a"), Colour.RED, type("Text", (str,), {})("a"), iter([]), sys, random.Random(1)],
    ids=lambda value: type(value).__name__,
)
def test_what_is_neither_a_value_nor_has_a_hook_is_refused_with_its_place(value):
    with pytest.raises(Refused, match="is of the type") as refused:
        memo_key.encode({"a": [0, value]})
    assert refused.value.trail[0] is value


def test_a_value_without_end_is_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(Refused, match="contains itself"):
        memo_key.encode(endless)
    with pytest.raises(Refused, match="lone surrogate"):
        memo_key.encode(["\ud800"])
