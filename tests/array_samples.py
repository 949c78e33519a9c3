"""numpy arrays and scalars, what makes one this one and no other, and hypothesis strategies for them."""

from __future__ import annotations

import pytest

np = pytest.importorskip("numpy")

from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as npst  # noqa: E402

NUMBERS = "?bhilqBHILQefdFD"
DTYPES = [
    *NUMBERS,
    *(f">{char}" for char in "hilqHILQefdFD"),
    "g",
    "G",
    "S0",
    "S5",
    "U0",
    "U3",
    ">U3",
    "V0",
    "V7",
    "M8",
    "M8[ns]",
    ">M8[D]",
    "M8[25s]",
    "m8",
    "m8[us]",
    "m8[7Y]",
]
STRUCTURED = {
    "packed": [("a", "i1"), ("b", ">f8")],
    "aligned": np.dtype([("a", "i1"), ("b", "f8")], align=True),
    "padded": np.dtype({"names": ["a", "b"], "formats": ["i1", "U2"], "offsets": [3, 8], "itemsize": 40}),
    "overlapping": np.dtype({"names": ["a", "b"], "formats": ["i4", "u2"], "offsets": [0, 2], "itemsize": 4}),
    "out of order": np.dtype({"names": ["a", "b"], "formats": ["i4", "u2"], "offsets": [2, 0], "itemsize": 6}),
    "nested": [("a", [("b", "M8[s]"), ("ü \ud800", "S3")]), ("c", "?")],
    "subarrays": [("a", "f4", (2, 3)), ("b", [("c", "i2", (2,))], (1, 2))],
    "without fields": [],
    "long doubles": [("a", "g"), ("b", "i1")],
}
SHAPES = [(), (1,), (5,), (0,), (0, 3), (3, 0, 2), (2, 3), (2, 1, 3)]


def identity(value):
    """What makes an array or scalar this one: ``==`` knows neither NaN nor bytes, nor which 64-bit type it is."""
    kind, dtype = type(value), value.dtype
    if kind is np.ndarray:
        is_fortran = value.flags.f_contiguous and not value.flags.c_contiguous and value.nbytes > 0
        return kind, layout(dtype), value.shape, is_fortran, meaning(value)
    if kind in (np.str_, np.bytes_):
        return kind, value[:]
    return kind, layout(dtype), meaning(np.asarray(value))


def layout(dtype):
    """A dtype in full; numpy's ``==`` ignores a part of it."""
    if dtype.names is None:
        base, shape = dtype.subdtype or (dtype, ())
        return base.str, base.char, base.type, shape if base is dtype else (shape, layout(base))
    fields = tuple((name, layout(dtype.fields[name][0]), dtype.fields[name][1]) for name in dtype.names)
    return fields, dtype.itemsize, dtype.isalignedstruct, dtype.type


def meaning(array):
    """The bytes of the values, in C order, without what lies between them."""
    if array.dtype.names is not None:
        return tuple(meaning(array[name]) for name in array.dtype.names)
    if array.dtype.char in "gG":
        return tuple(repr(item) for item in array.ravel())
    return array.tobytes()


def leaves():
    """Dtypes without fields, and some with."""
    return st.sampled_from([*map(np.dtype, DTYPES), *map(np.dtype, STRUCTURED.values())]) | npst.scalar_dtypes()


@st.composite
def dtypes(draw, depth=2):
    """Every dtype that is stored, but for those of ml_dtypes."""
    if not depth or draw(st.booleans()):
        return draw(leaves())
    fields = []
    for name in draw(st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=3, unique=True)):
        part = draw(dtypes(depth - 1))
        shape = draw(st.sampled_from([None, (2,), (1, 2)]))
        fields.append((name, part, shape) if shape and part.itemsize else (name, part))
    return np.dtype(fields, align=draw(st.booleans()))


@st.composite
def arrays(draw):
    """Arrays of any such dtype over random bytes: every NaN there is; rows, columns and steps of larger ones."""
    dtype = draw(dtypes())
    shape = draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    array = np.zeros(shape, dtype, draw(st.sampled_from("CF")))
    fill(array, draw)
    for axis in range(array.ndim):
        step = draw(st.sampled_from([1, 1, 2, -1]))
        array = array[(slice(None),) * axis + (slice(None, None, step),)]
    return array if draw(st.booleans()) else array.T


def fill(array, draw):
    """Random values; text of characters that there are, bools of 0 and 1 where a scalar is to come back."""
    if array.dtype.names is not None:
        for name in array.dtype.names:
            fill(array[name], draw)
    elif array.size and array.dtype.itemsize:
        if array.dtype.kind == "U":
            codes = draw(st.lists(st.integers(0, 0x10FFFF), min_size=1, max_size=5))
            text = np.resize(np.array(codes, "u4"), array.nbytes // 4).view("U" + array.dtype.str[2:])
            array[...] = text.reshape(array.shape)
            return
        raw = np.frombuffer(draw(st.binary(min_size=1, max_size=24)), "u1")
        if array.dtype.char in "gG":
            array[...] = raw[0] / 7
        else:
            raw = raw & 1 if array.dtype.kind == "b" else raw
            array[...] = np.resize(raw, array.nbytes).view(array.dtype).reshape(array.shape)
