"""Stored arrays that nobody wrote: a ValueError whatever they claim, and no memory for what they only claim."""

from __future__ import annotations

import contextlib
import json
import re
import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore import array_types, codec
from kvstore.array_form import StoredArray, StoredScalar
from kvstore.errors import CorruptRecordError, UnstorableValueError

ANY = re.compile(".", re.DOTALL)


def array(dtype, shape, items=b"", order=None, *, zeros=0):
    """The content of an array that claims this."""
    header = {"dtype": dtype, "shape": shape} | ({"order": order} if order else {})
    return raw(json.dumps(header, separators=(",", ":")).encode(), bytes(zeros) + items)


def raw(header, rest=b""):
    return len(header).to_bytes(2, "big") + header + rest


def struct(names, formats, offsets, itemsize, **more):
    return {"names": names, "formats": formats, "offsets": offsets, "itemsize": itemsize, **more}


def nested(depth, around):
    dtype = "|i1"
    for _ in range(depth):
        dtype = around(dtype)
    return dtype


ARRAYS = {
    "nothing": b"",
    "half a length": b"\0",
    "a header that is cut off": b"\xff\xff{",
    "no JSON": raw(b"what"),
    "no object": raw(b"[1,2]"),
    "no UTF-8": raw(b"\xff"),
    "NaN": raw(b'{"dtype":NaN,"shape":[]}'),
    "a space": raw(b'{"dtype": "|i1","shape":[]}', b"\1"),
    "fields in another order": raw(b'{"shape":[],"dtype":"|i1"}', b"\1"),
    "a field twice": raw(b'{"dtype":"|i1","shape":[9],"shape":[]}', b"\1"),
    "a field too many": raw(b'{"dtype":"|i1","shape":[],"more":1}', b"\1"),
    "no shape": raw(b'{"dtype":"|i1"}', b"\1"),
    "no dtype": raw(b'{"shape":[]}', b"\1"),
    "a header nested without end": raw(b"[" * 60_000),
    "an int without end": raw(b'{"dtype":"|i1","shape":[' + b"9" * 60_000 + b"]}"),
    "items too few": array("<f4", [3], bytes(11)),
    "items too many": array("|i1", [3], b"\1" * 4),
    "zeros too many": array("|i1", [3], bytes(3), zeros=64),
    "something between": array("|i1", [3], b"\1\0\0\0"),
    "a negative length": array("|i1", [-1]),
    "two negative lengths": array("|i1", [-1, -1], b"\1"),
    "a length of 2**63": array("|i1", [2**63]),
    "a length that is a float": array("|i1", [1.0], b"\1"),
    "a length that is a bool": array("|i1", [True], b"\1"),
    "a length that is a str": array("|i1", ["1"], b"\1"),
    "a shape that is a number": array("|i1", 1, b"\1"),
    "more items than there is memory": array("<f8", [2**40, 2**40]),
    "a product that wraps around to nothing": array("|i1", [2**32, 2**32]),
    "too many dimensions": array("|i1", [1] * 65, b"\1"),
    "Fortran order of a row": array("|i1", [3], b"abc", "F"),
    "Fortran order of nothing": array("|i1", [0, 3], b"", "F"),
    "Fortran order of items of nothing": array("|V0", [2, 2], b"", "F"),
    "an order that is none": array("|i1", [1, 2], b"ab", "X"),
    "C order spelt out": array("|i1", [2, 2], b"abcd", "C"),
    "no character": array("<U1", [1], b"\xff\xff\xff\xff"),
    "no character in a field": array(struct(["a"], ["<U1"], [0], 4), [1], b"\0\0\x11\0"),
}

DTYPES = {
    "objects": "|O",
    "objects by name": "object",
    "objects in a field": struct(["a"], ["|O"], [0], 8),
    "a native byte order": "=f4",
    "no byte order": "f4",
    "a byte order for a byte": "<i1",
    "a byte order for bytes": "<S5",
    "no byte order for text": "|U5",
    "a float of 3 bytes": "<f3",
    "a long double of no kind": "<f16",
    "a float that is a long double": "<f8 x87",
    "a bool of 8 bytes": "<b8",
    "a leading zero": "<f04",
    "a comma-separated structure": "i4,f4",
    "a repeated item": "3f4",
    "a Python name": "__import__('os').system('true')",
    "a type's name": "float32",
    "a ctypes name": "c_int",
    "a unit for a float": "<f4[ns]",
    "an unknown unit": "<M8[x]",
    "a unit of none": "<M8[]",
    "no seconds": "<M8[0s]",
    "one second": "<M8[1s]",
    "too many seconds": "<M8[2147483648s]",
    "a datetime of 4 bytes": "<M4[s]",
    "too long a text": "<U536870912",
    "too many bytes": "|S2147483648",
    "Arabic digits": "<f\u0664",
    "a line end": "<f4\n",
    "a private name of ml_dtypes": "_finfo",
    "a module of ml_dtypes": "finfo",
    "a number": 5,
    "null": None,
    "true": True,
    "an empty list": [],
    "a list of fields": [["a", "<f4"]],
    "a subarray alone": ["|i1", [1]],
    "a subarray without dimensions": struct(["a"], [["|i1", []]], [0], 1),
    "a subarray of a subarray": struct(["a"], [[["|i1", [1]], [1]]], [0], 1),
    "a subarray of a negative length": struct(["a"], [["|i1", [-1]]], [0], 1),
    "a subarray that wraps around": struct(["a"], [["|i1", [2**32, 2**32]]], [0], 1),
    "a subarray larger than any": struct(["a"], [["|i1", [2**40]]], [0], 2**31 - 1),
    "an empty object": {},
    "fields without names": {"formats": ["|i1"], "offsets": [0], "itemsize": 1},
    "a name too few": struct([], ["|i1"], [0], 1),
    "an offset too few": struct(["a"], ["|i1"], [], 1),
    "a name twice": struct(["a", "a"], ["|i1", "|i1"], [0, 1], 2),
    "a name that is a number": struct([1], ["|i1"], [0], 1),
    "a negative offset": struct(["a"], ["|i1"], [-1], 1),
    "an offset that is a float": struct(["a"], ["|i1"], [0.0], 1),
    "a field beyond the end": struct(["a"], ["<i4"], [1], 4),
    "an offset beyond any": struct(["a"], ["|i1"], [2**62], 2**62 + 1),
    "a negative size": struct(["a"], ["|i1"], [0], -1),
    "titles": struct(["a"], ["|i1"], [0], 1, titles=["b"]),
    "not aligned": struct(["a"], ["|i1"], [0], 1, aligned=False),
    "structures in structures without end": nested(100, lambda inner: struct(["a"], [inner], [0], 1)),
    "lists in lists": nested(100, lambda inner: [inner, [1]]),
}


def payloads(content, code):
    """Payloads with this content: alone in the form that is written, alone in another one, and in a list."""
    whole = b"\xc9" + len(content).to_bytes(4, "big") + bytes((code,)) + content
    return [whole, msgpack.packb(msgpack.ExtType(code, content)), msgpack.packb([msgpack.ExtType(code, content)])]


def refused(content, code=32, decoders=(codec.decode, codec.decode_opaque)):
    for payload in payloads(content, code):
        for decode in decoders:
            for given_payload in (payload, memoryview(payload)):
                tracemalloc.start()
                try:
                    with pytest.raises(ValueError, match=ANY):
                        decode(given_payload, True)
                    assert tracemalloc.get_traced_memory()[1] < 1_000_000
                finally:
                    tracemalloc.stop()


@pytest.mark.parametrize("content", ARRAYS.values(), ids=ARRAYS)
def test_a_forged_array_is_refused(content):
    codec.encode(pytest.importorskip("numpy").zeros(1))  # what is imported by it is not the forger's doing
    refused(content)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_forged_dtype_is_refused(dtype):
    pytest.importorskip("numpy")
    for items in (b"", bytes(4), bytes(16)):
        refused(array(dtype, [1], items))
        refused(raw(json.dumps(dtype, separators=(",", ":")).encode(), items), code=33)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        raw(b'"<f4"', bytes(3)),
        raw(b'"<f4"', bytes(5)),
        raw(b'"|b1"', b"\2"),
        raw(b'">f4"', bytes(4)),
        raw(b'"<U1"', b"\xff\xff\xff\xff"),
        raw(b' "<f4"', bytes(4)),
    ],
    ids=repr,
)
def test_a_forged_scalar_is_refused(content):
    pytest.importorskip("numpy")
    refused(content, code=33, decoders=(codec.decode,))


def test_a_scalar_as_a_key_or_member_is_refused():
    np = pytest.importorskip("numpy")
    scalar = codec.encode(np.int64(1))[0]
    for payload in (b"\x93\xc7\0\x13" + scalar + b"\xc0", b"\x92\xc7\0\x11" + scalar, b"\x92\xc7\0\x12" + scalar):
        for decode in (codec.decode, codec.decode_opaque):
            with pytest.raises(ValueError, match=ANY):
                decode(payload, True)


def test_headers_that_nobody_repeats_do_not_fill_memory():
    tracemalloc.start()
    try:
        for number in range(800):
            codec.decode_opaque(payloads(array(struct([f"name {number}"], ["|i1"], [0], 1), [0]), 32)[0], True)
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()


@given(st.data())
def test_a_damaged_array_is_refused_or_an_array(data):
    np = pytest.importorskip("numpy")
    value = data.draw(
        st.sampled_from(
            [
                np.arange(6, dtype="f4").reshape(2, 3).T,
                np.array(["a", "bc"]),
                np.zeros(2, [("a", "i1"), ("b", "M8[ns]", (2,))]),
                np.float32(1),
                [np.zeros((0, 3)), np.str_("a")],
            ]
        )
    )
    payload, extended = codec.encode(value)
    damaged = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    for decode in (codec.decode, codec.decode_opaque):
        try:
            read = decode(bytes(damaged), extended)
        except ValueError:
            continue
        repr(read)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.sampled_from(["<f4", "|S3", "a", "names", "<M8[ns]", "bfloat16"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["names", "formats", "offsets", "itemsize", "aligned"]), inner)
            | st.builds(lambda inner, size: struct(["a"], [inner], [0], size), inner, st.integers(0, 20))
        ),
        max_leaves=6,
    )
)
def test_whatever_is_given_for_a_dtype_is_refused_or_one(parsed):
    try:
        text = array_types.checked(parsed)
    except ValueError:
        return
    np = pytest.importorskip("numpy")
    header = raw(text.encode(), bytes(array_types.item_type(text).itemsize))
    with contextlib.suppress(ValueError):
        assert isinstance(codec.decode(payloads(header, 33)[0], True), np.generic)


@pytest.mark.parametrize(
    "stand_in",
    [
        StoredArray('"<f4"', (3,), "C", bytes(11)),
        StoredArray('"<f4"', (-1,), "C", b""),
        StoredArray('"<f4"', (1,), "X", bytes(4)),
        StoredArray('"<f4"', (1,), "F", bytes(4)),
        StoredArray("<f4", (1,), "C", bytes(4)),
        StoredArray('"|O"', (1,), "C", bytes(8)),
        StoredArray(None, (1,), "C", b""),
        StoredArray('"<f4"', None, "C", b""),
        StoredArray('"<f4"', (1,), "C", None),
        StoredArray('"<U1"', (1,), "C", b"\xff\xff\xff\xff"),
        StoredScalar('"<f4"', bytes(3)),
        StoredScalar('"|b1"', b"\2"),
        StoredScalar('"<U1"', b"\xff\xff\xff\xff"),
        StoredScalar('"é"', b""),
        StoredScalar(None, b""),
    ],
    ids=repr,
)
def test_a_stand_in_for_what_is_none_is_refused(stand_in):
    for value, place in ((stand_in, "value "), ([stand_in], r"value\[0\] ")):
        with pytest.raises(UnstorableValueError, match=f"^{place}is a Stored"):
            codec.encode(value)


def test_a_forged_array_in_a_store_is_a_damaged_record(store_path):
    pytest.importorskip("numpy")
    import lmdb

    import kvstore
    from kvstore import record

    with kvstore.open(store_path) as store:
        store["key"] = 1
    content = payloads(array("<f8", [2**40]), 32)[0]
    with lmdb.open(str(store_path), subdir=False) as environment, environment.begin(write=True) as txn:
        txn.put(b"\x02key", record.pack(b"\x02key", content, True, None))
    with kvstore.open(store_path) as store, pytest.raises(CorruptRecordError, match="'key'"):
        store["key"]
