"""numpy's arrays and scalars as values: they come back exactly as they were, or are refused."""

from __future__ import annotations

import io

import pytest

np = pytest.importorskip("numpy")

from hypothesis import given  # noqa: E402

from kvstore import array_types, codec  # noqa: E402
from kvstore.errors import InvalidKeyError, UnstorableValueError  # noqa: E402
from tests import array_samples  # noqa: E402
from tests.array_samples import DTYPES, SHAPES, STRUCTURED, identity  # noqa: E402
from tests.test_codec import run  # noqa: E402


def through(value):
    """What is read, of the payload and of a view of one, alone and inside other values."""
    payload, extended = codec.encode(value)
    assert extended
    assert codec.encode(codec.decode_opaque(payload, extended)) == (payload, extended)
    read = codec.decode(payload, extended)
    assert identity(codec.decode(memoryview(payload), extended)) == identity(read)
    assert codec.encode(read) == (payload, extended)
    [(inner,)] = codec.decode(*codec.encode([({"a": value},)]))
    assert identity(inner["a"]) == identity(read)
    return read


@given(array_samples.arrays())
def test_an_array_and_a_scalar_of_it_come_back_exactly_as_they_were(array):
    assert identity(through(array)) == identity(array)
    if array.size:
        scalar = array[(0,) * array.ndim]
        assert identity(through(scalar)) == identity(scalar)


@pytest.mark.parametrize("dtype", [*DTYPES, *STRUCTURED.values()], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_dtype_comes_back_in_every_shape_and_order(dtype, shape):
    for order in "CF":
        array = np.zeros(shape, dtype, order)
        assert identity(through(array)) == identity(array)


@pytest.mark.parametrize("name", array_types.ML_DTYPES)
def test_the_types_of_ml_dtypes_come_back(name):
    kind = getattr(pytest.importorskip("ml_dtypes"), name)
    array = np.array([1, 0, 1], kind)
    assert identity(through(array)) == identity(array)
    assert identity(through(array[0])) == identity(array[0])
    fields = np.zeros(2, [("a", kind), ("b", "i1")])
    assert identity(through(fields)) == identity(fields)


@pytest.mark.parametrize(
    "scalar",
    [
        np.float32(0.1),
        np.float64(0.1),
        np.int8(-1),
        np.longlong(1),
        np.True_,
        np.complex64(1j),
        np.longdouble(1) / 3,
        np.str_("a\0"),
        np.str_("\ud800"),
        np.str_(""),
        np.bytes_(b"a\0"),
        np.datetime64("NaT", "s"),
        np.zeros((), "M8")[()],
        np.datetime64("2024-05-01", "h"),
        np.timedelta64(5, "ms"),
        np.void(b"abc"),
        np.zeros((), [("a", "i4"), ("b", "U3")])[()],
    ],
    ids=lambda scalar: scalar.dtype.str,
)
def test_a_scalar_keeps_its_type(scalar):
    read = through(scalar)
    assert type(read) is type(scalar)
    assert identity(read) == identity(scalar)


@pytest.mark.parametrize("array", [np.arange(24)[::-3], np.arange(24).reshape(2, 3, 4)[:, 1], np.arange(6)[::2].T])
def test_items_that_stand_apart_come_back_together(array):
    read = through(array)
    assert identity(read) == identity(array)
    assert read.flags.c_contiguous


def test_fortran_order_is_kept():
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    read = through(array)
    assert read.flags.f_contiguous
    assert not read.flags.c_contiguous
    assert (read == array).all()


def test_nobody_can_change_what_is_read():
    for array in (np.arange(3), np.arange(3, dtype="u1"), np.zeros(2, "U3")):
        for read in (through(array), codec.decode(*codec.encode({"a": array}))["a"]):
            with pytest.raises(ValueError, match="read-only"):
                read[0] = 1
            with pytest.raises(ValueError, match="WRITEABLE"):
                read.setflags(write=True)
            assert type(read.base) is bytes
            assert read.flags.aligned
    scalar = through(np.zeros((), [("a", "i4")])[()])
    with pytest.raises(ValueError, match="read-only"):
        scalar["a"] = 1


def test_an_array_that_is_read_of_somebodys_bytes_is_a_copy_of_them():
    payload, extended = codec.encode(np.zeros(5, "u1"))
    theirs = bytearray(payload)
    read = codec.decode(memoryview(theirs), extended)
    theirs[-1] = 7
    assert identity(read) == identity(np.zeros(5, "u1"))


@pytest.mark.parametrize("dtype", STRUCTURED.values(), ids=STRUCTURED)
def test_equal_arrays_have_equal_bytes_whatever_lies_between_their_items(dtype):
    one, other = np.zeros(3, dtype), np.zeros(3, dtype)
    other = np.frombuffer(bytearray(b"\xff" * other.nbytes), dtype).copy() if other.nbytes else other
    neaten(other)
    assert codec.encode(one) == codec.encode(other)


def neaten(array):
    """Zeros for all values, and only for them."""
    for name in array.dtype.names:
        if array.dtype[name].names is not None or (array.dtype[name].base.names is not None):
            neaten(array[name])
        else:
            array[name] = np.zeros((), array.dtype[name].base)


def test_ten_bytes_of_a_long_double_count():
    if np.finfo(np.longdouble).nmant != 63:
        pytest.skip("long doubles are others here")
    clean, dirty = np.zeros(1, "g"), np.zeros(1, "g")
    dirty.view("u1")[10:] = 0xFF
    assert codec.encode(clean) == codec.encode(dirty)


REFUSED = {
    "objects": (lambda: np.array([1, "a"], object), r"Python objects.*array\.tolist"),
    "objects in a field": (lambda: np.zeros(1, [("a", object)]), r"Python objects.*array\.tolist"),
    "a masked array": (lambda: np.ma.array([1]), r"MaskedArray.*\(value\.data, value\.mask\)"),
    "a matrix": (lambda: np.matrix([[1]]), r"numpy\.asarray\(value\)"),
    "records": (lambda: np.zeros(1, np.dtype((np.record, [("a", "i4")]))), r"array\.view\(numpy\.dtype\(\(numpy\.void"),
    "a record": (lambda: np.zeros(1, np.dtype((np.record, [("a", "i4")])))[0], r"numpy\.record.*value\.item\(\)"),
    "metadata": (lambda: np.zeros(1, np.dtype("f4", metadata={"a": 1})), "metadata.*astype"),
    "titles": (lambda: np.zeros(1, [(("title", "name"), "f4")]), "titles"),
    "no character": (lambda: np.array([0x110000], "u4").view("U1"), r"U\+10FFFF"),
    "no character in a field": (lambda: np.array([0x110000], "u4").view([("a", "U1")]), r"U\+10FFFF"),
    "surrogates that are one": (lambda: np.zeros(1, [("\ud83d\ude00", "f4")]), "would not come back"),
    "too many fields": (lambda: np.zeros(1, [(f"a field {n}", "i1") for n in range(5000)]), "65535"),
    "a scalar as a key": (lambda: {np.int64(1): 2}, r"keys.*int\(x\)"),
    "a scalar in a key": (lambda: {(1, np.int64(1)): 2}, r"keys.*int\(x\)"),
    "a scalar as a member": (lambda: {np.float32(1)}, r"members.*float\(x\)"),
    "a class": (lambda: np.float32, "type"),
    "a dtype": (lambda: np.dtype("f4"), "DType"),
}


@pytest.mark.parametrize(("make", "why"), REFUSED.values(), ids=REFUSED)
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_what_would_not_come_back_is_refused(make, why):
    for whole, place in ((make(), "value "), ([1, make()], r"value\[1\] ")):
        with pytest.raises(UnstorableValueError, match=f"^{place}.*{why}"):
            codec.encode(whole)


def test_strings_of_any_length_are_refused_with_a_way_out():
    if not hasattr(np.dtypes, "StringDType"):
        pytest.skip("numpy has none yet")
    with pytest.raises(UnstorableValueError, match=r"StringDType.*astype\(numpy\.str_\)"):
        codec.encode(np.array(["a"], np.dtypes.StringDType()))


def test_a_mapped_array_is_refused_and_its_content_is_not(tmp_path):
    mapped = np.memmap(tmp_path / "file", np.float32, "w+", shape=(3,))
    with pytest.raises(UnstorableValueError, match=r"numpy\.memmap.*numpy\.asarray\(value\)"):
        codec.encode(mapped)
    assert identity(through(np.asarray(mapped))) == identity(np.zeros(3, np.float32))


@pytest.mark.parametrize(
    ("key", "way_out"),
    [
        (np.int64(1), r"int\(key\)"),
        (np.uint8(1), r"int\(key\)"),
        (np.str_("a"), r"str\(key\)"),
        ((np.bytes_(b"a"),), r"bytes\(key\)"),
    ],
)
def test_a_scalar_is_no_key_of_a_store(store_path, key, way_out):
    import kvstore

    with kvstore.open(store_path) as store:
        with pytest.raises(InvalidKeyError, match=way_out):
            store[key] = 1
        with pytest.raises(KeyError):
            store[key]


def test_an_array_is_stored_as_documented():
    payload, extended = codec.encode(np.array([1, 2], "<u2"))
    header = b'{"dtype":"<u2","shape":[2]}'
    assert payload == b"\xc9" + (63 - 6 + 4).to_bytes(4, "big") + b"\x20" + b"\0\x1b" + header + bytes(28) + b"\1\0\2\0"
    assert extended
    payload, _ = codec.encode([np.asfortranarray(np.zeros((2, 2), "|i1"))])
    header = b'{"dtype":"|i1","shape":[2,2],"order":"F"}'
    assert payload == b"\x91\xc7" + bytes((64 + 4, 0x20)) + b"\0\x29" + header + bytes(64 - 2 - 41) + bytes(4)
    payload, _ = codec.encode(np.float32(1))
    assert payload == b"\xc7\x0b\x21" + b"\0\x05" + b'"<f4"' + b"\0\0\x80\x3f"


@pytest.mark.parametrize("size", [1, 100, 2_000, 5_000, 300_000])
def test_items_stand_at_a_multiple_of_64_in_the_record(size):
    from kvstore import record

    array = np.frombuffer(b"\xab" * size, "u1")
    raw = record.pack(b"key", *codec.encode(array), None)
    assert raw.index(b"\xab" * size) % 64 == 0
    raw = record.pack(b"key", *codec.encode(array), 1)
    assert raw.index(b"\xab" * size) % 64 == 8


@pytest.mark.parametrize("expires", [None, 1])
@pytest.mark.parametrize("dtype", ["u1", "f4", "f8", "g"])
def test_an_array_is_read_out_of_its_record_without_a_copy(dtype, expires):
    from kvstore import record

    array = np.arange(10_000, dtype=dtype)
    raw = record.pack(b"key", *codec.encode(array), expires)
    read = record.load(b"key", raw)[0]
    assert identity(read) == identity(array)
    assert (read.base is raw) == (expires is None or array.dtype.alignment <= 8)


def test_a_large_array_takes_no_memory_but_its_own():
    import tracemalloc

    array = np.zeros(4_000_000, "u1")
    payload, extended = codec.encode(array)
    tracemalloc.start()
    try:
        codec.decode(payload, extended)
        assert tracemalloc.get_traced_memory()[1] < 100_000
        tracemalloc.reset_peak()
        codec.encode(array)
        assert tracemalloc.get_traced_memory()[1] < 4_100_000 + array.nbytes // 10
    finally:
        tracemalloc.stop()


def test_an_array_of_4_gib_is_refused_before_it_is_copied():
    large = np.broadcast_to(np.zeros(1, "u1"), (2**32,))
    for value in (large, [large]):
        with pytest.raises(UnstorableValueError, match="4 GiB; store it in parts"):
            codec.encode(value)


def test_an_array_has_the_same_bytes_in_every_process():
    sample = (
        "import numpy as np; from kvstore import codec; "
        "print(codec.encode([np.arange(9.0).reshape(3, 3).T, np.zeros(2, [('a', 'i1'), ('b', 'f8')])])[0].hex())"
    )
    assert len({run(sample, PYTHONHASHSEED=seed) for seed in ("0", "1", "2")}) == 1


def test_an_own_type_may_be_stored_as_an_array():
    class Picture:
        def __init__(self, pixels):
            self.pixels = pixels

    codec.register(Picture, "a picture of test_arrays", lambda picture: picture.pixels, Picture)
    read = codec.decode(*codec.encode([Picture(np.eye(3))]))
    assert (read[0].pixels == np.eye(3)).all()


def test_numpys_own_types_are_not_to_be_registered_and_derived_ones_are():
    for kind in (np.ndarray, np.float32, np.str_):
        with pytest.raises(ValueError, match="stored as it is"):
            codec.register(kind, "numpy's of test_arrays", print, print)
    codec.register(np.recarray, "numpy.recarray of test_arrays", np.asarray, lambda array: array.view(np.recarray))
    read = codec.decode(*codec.encode(np.zeros(2).view(np.recarray)))
    assert type(read) is np.recarray
    assert (read == np.zeros(2)).all()


def test_what_numpy_saves_is_what_it_has_stored():
    array = np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3))
    stream = io.BytesIO()
    np.save(stream, through(array))
    stream.seek(0)
    assert identity(np.load(stream)) == identity(array)
