"""numpy's arrays and scalars, to and from the bytes of `kvstore.array_form`. The only import of numpy.

What is read is a view of the bytes that it was read from, which nobody can change: no copy, and no way to make it
writeable. Python aligns the content of a bytes object to 16, which is enough for every dtype; where an item still stands
at an address that its dtype doesn't take, the bytes are copied once.
"""

from __future__ import annotations

import sys

import numpy as np

from kvstore import array_form, array_types
from kvstore.array_types import ML_DTYPES, Leaf, Struct, Subarray
from kvstore.errors import UnknownTypeError
from kvstore.refusal import Refused, full_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, TypeAlias

    from kvstore.array_types import ItemType

    Array: TypeAlias = np.ndarray[Any, Any]

ARRAY_TYPE: Final = np.ndarray
VIEWS: Final = (np.ndarray, np.void)
"""The types whose values view bytes: those that are read here nobody can change, others somebody may."""

_SCALARS = frozenset(np.dtype(char).type for char in "?bhilqBHILQefdgFDGSUVMm")
_FOREIGN = ">" if sys.byteorder == "little" else "<"
_LONG_KINDS = {63: "x87", 112: "binary128"}
_long_kind = _LONG_KINDS.get(int(np.finfo(np.longdouble).nmant))
_X87_PARTS = {
    (order, size): np.dtype({"names": ["pad"], "formats": [f"V{size - 10}"], "offsets": [at], "itemsize": size})
    for size in (12, 16)
    for order, at in (("<", 10), (">", 0))
}
_MAX_CODE_POINT = 0x10FFFF
_TO_BE_LOOKED_AT = frozenset("UVgG")  # text, structures, long doubles


def is_storable(kind: type) -> bool:
    """Whether values of exactly this type are stored: ndarray, numpy's scalars, and those of ml_dtypes."""
    return kind is np.ndarray or kind in _SCALARS or (kind.__module__ == "ml_dtypes" and kind.__name__ in ML_DTYPES)


# -- writing -------------------------------------------------------------------------------------------------------


def write(array: Array) -> bytes:
    """The stored form of an array that is part of a value. Raises `Refused`."""
    header, items = _take_apart(array)
    return b"".join((array_form.array_start(header), items))


def write_whole(array: Array) -> bytes:
    """The payload that an array is. Raises `Refused`."""
    header, items = _take_apart(array)
    return b"".join((array_form.whole_start(header, len(items)), items))


def write_scalar(value: Any) -> bytes:
    """The stored form of a scalar. Raises `Refused`."""
    kind = type(value)
    # As arrays these two would lose the zeros at their end.
    if kind is np.str_:
        data = str.encode(value, "utf-32-le", "surrogatepass")
        return array_form.scalar_start(b'"<U%d"' % len(value)) + data
    if kind is np.bytes_:
        return array_form.scalar_start(b'"|S%d"' % len(value)) + bytes(value)
    array = np.asarray(value)
    text = _text_of(array.dtype)
    return array_form.scalar_start(text.encode("ascii")) + bytes(_items(array, text, "C"))


def _take_apart(array: Array) -> tuple[bytes, bytes | memoryview]:
    """The header, and the items' bytes: the array's own wherever they stand in order."""
    array_form.check_size(array.nbytes)
    text = _text_of(array.dtype)
    order = "F" if array.flags.fnc and array_form.has_two_orders(array.shape, array.nbytes) else "C"
    return array_form.array_header(text, array.shape, order), _items(array, text, order)


def _items(array: Array, text: str, order: Any) -> bytes | memoryview:
    if not array.nbytes:
        return b""
    if array.dtype.char in _TO_BE_LOOKED_AT:
        kind = array_types.item_type(text)
        if array_types.has_text(kind):
            _check_text(array, Refused)
        if array_types.is_loose(kind):
            # Equal arrays make equal bytes only if nothing is left to chance.
            neat = np.zeros(array.shape, array.dtype, order)
            _copy_values(array, neat, kind)
            array = neat
    items: Any = array.ravel(order).view(np.uint8)
    return memoryview(items)


def _copy_values(source: Array, target: Array, kind: ItemType) -> None:
    """Copy what has a meaning, field by field, into an array of zeros."""
    if isinstance(kind, Struct):
        for name, each in zip(kind.names, kind.formats, strict=True):
            _copy_values(source[name], target[name], each)
    elif isinstance(kind, Subarray):  # numpy has made its axes the array's last ones
        _copy_values(source, target, kind.base)
    else:
        target[...] = source
        if kind.long == "x87":
            for part in (target.real, target.imag) if kind.kind == "c" else (target,):
                part.view(_X87_PARTS[kind.order, part.dtype.itemsize])["pad"] = b""


def _check_text(array: Array, error: type[Exception]) -> None:
    """Refuse what is no character: Python itself breaks on it, at some later time."""
    if array.dtype.names is not None:
        for name in array.dtype.names:
            _check_text(array[name], error)
    elif array.dtype.kind == "U" and array.nbytes:
        codes = np.ascontiguousarray(array).view(array.dtype.str[0] + "u4")
        if codes.max() > _MAX_CODE_POINT:
            raise error(f"has a character beyond U+{_MAX_CODE_POINT:X}, and Unicode has none")


# -- dtypes --------------------------------------------------------------------------------------------------------

_texts: dict[tuple[str, str], str] = {}
_dtypes: dict[str, np.dtype[Any]] = {}


def _text_of(dtype: np.dtype[Any]) -> str:
    """A dtype in JSON. Raises `Refused` for one that this doesn't give back."""
    if dtype.kind in "biufc" and dtype.isbuiltin == 1 and dtype.metadata is None:
        # By the character, as numpy holds types of the same size equal, and hashes them alike.
        text = _texts.get((dtype.char, dtype.byteorder))
        if text is None:
            text = _texts[dtype.char, dtype.byteorder] = array_types.dumps(_describe(dtype))
        return text
    text = array_types.dumps(_describe(dtype))
    try:
        restored = _dtype_of(text)
    except (ValueError, TypeError):
        restored = None
    if restored is None or restored != dtype or array_types.dumps(_describe(restored)) != text:
        raise Refused(f"has the dtype {dtype!r}, which would not come back as it is")
    return text


def _describe(dtype: np.dtype[Any]) -> object:
    if dtype.hasobject:
        if dtype.kind == "T":
            raise Refused("has the dtype StringDType, whose text is elsewhere in memory; use array.astype(numpy.str_)")
        raise Refused(
            "has Python objects in it (dtype object), which have no bytes of their own; store array.tolist(), or use "
            "array.astype with a dtype of numbers or text"
        )
    if dtype.metadata is not None:
        raise Refused("has a dtype with metadata, which is not stored; use array.astype with the same dtype without it")
    if dtype.names is not None:
        return _describe_struct(dtype)
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_describe(base), list(shape)]
    kind = dtype.type
    if kind.__module__ == "ml_dtypes":
        if kind.__name__ in ML_DTYPES and dtype.isnative:
            return kind.__name__
    elif kind in _SCALARS:
        text = dtype.str
        if dtype.char in "gG":
            if _long_kind:
                return f"{text} {_long_kind}"
        elif dtype.char in "qQ" and np.dtype(text).char != dtype.char:
            return text[0] + dtype.char
        elif np.dtype(text).char == dtype.char:
            return text
    raise Refused(f"has the dtype {dtype!r}, which is not stored; use array.astype with one of numpy's own")


def _describe_struct(dtype: np.dtype[Any]) -> dict[str, object]:
    if dtype.type is not np.void:
        raise Refused(f"has the dtype {full_name(dtype.type)}; use array.view(numpy.dtype((numpy.void, array.dtype)))")
    assert dtype.names is not None and dtype.fields is not None  # noqa: S101, PT018  # as the caller has seen
    fields = [dtype.fields[name] for name in dtype.names]
    if any(len(field) > 2 for field in fields):
        raise Refused("has a dtype with titles, which are not stored; make it without them")
    described: dict[str, object] = {
        "names": list(dtype.names),
        "formats": [_describe(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "itemsize": dtype.itemsize,
    }
    if dtype.isalignedstruct:
        described["aligned"] = True
    return described


def _dtype_of(text: str) -> np.dtype[Any]:
    """The dtype of a checked text, which is the same object for all arrays of one form. Raises ValueError, TypeError."""
    dtype = _dtypes.get(text)
    if dtype is None:
        array_types.item_type(text)
        dtype = np.dtype(_argument(array_types.loads(text)))
        array_types.remember(_dtypes, text, dtype)
    return dtype


def _argument(described: Any) -> Any:
    """What `numpy.dtype` takes, of what a checked text says."""
    if isinstance(described, str):
        return _leaf(described)
    if isinstance(described, list):
        return _argument(described[0]), tuple(described[1])
    fields: Any = {**described, "formats": [_argument(each) for each in described["formats"]]}
    return np.dtype(fields)


def _leaf(text: str) -> Any:
    if text in ML_DTYPES:
        try:
            import ml_dtypes

            return np.dtype(getattr(ml_dtypes, text))
        except (ImportError, AttributeError):
            raise UnknownTypeError(
                f"the value has numbers of the type {text}, which the installed packages don't know; "
                "run pip install --upgrade ml_dtypes"
            ) from None
    name, _, long = text.partition(" ")
    if long and long != _long_kind:
        raise UnknownTypeError(f"the value has long doubles of another kind of machine ({text}); read it on such a one")
    return np.dtype(name)


# -- reading -------------------------------------------------------------------------------------------------------


_HEAD: Final = 256
_forms: dict[bytes, tuple[int, int, tuple[int, ...], np.dtype[Any], Any, bool]] = {}
"""What headers say, for reading: the items' bytes and alignment, the shape, dtype and order, and whether there is text."""


def read(content: bytes | memoryview, start: int = 0) -> Array:
    """The array whose stored form begins at ``start``, read-only.

    Raises ValueError and TypeError for what no writer makes, UnknownTypeError for a dtype that isn't known here.
    """
    head = bytes(content[:_HEAD])  # slicing a view takes longer than copying so little
    end = start + 2 + int.from_bytes(head[start : start + 2], "big")
    if end + array_form.ALIGNMENT > _HEAD:
        head = bytes(content[: end + array_form.ALIGNMENT])
    text = head[start + 2 : end]
    form = _forms.get(text)
    if form is None:
        header = array_form.parse_header(text)
        dtype = _dtype_of(header.dtype)
        form = header.nbytes, dtype.alignment, header.shape, dtype, header.order, header.has_text
        array_types.remember(_forms, text, form)
    order: Any
    nbytes, alignment, shape, dtype, order, has_text = form
    begin = len(content) - nbytes
    if not 0 <= begin - end < array_form.ALIGNMENT or head[end:begin].strip(b"\0"):
        raise ValueError("an array's items don't fill their place")
    if type(content) is bytes:
        if begin % alignment:
            content, begin = content[begin:], 0
    elif type(content.obj) is not bytes:  # type: ignore[union-attr]  # whose owner may change it
        content, begin = bytes(content[begin:]), 0
    array: Array = np.ndarray(shape, dtype, content, begin, None, order)
    if not array.flags.aligned:
        array = np.ndarray(shape, dtype, bytes(content[begin:]), 0, None, order)
    if has_text:
        _check_text(array, ValueError)
    return array


def read_scalar(content: bytes) -> Any:
    """The scalar of a stored form. Raises as `read`."""
    text, kind, data = array_form.split_scalar(content)
    leaf = kind if isinstance(kind, Leaf) else None
    if leaf and leaf.order == (">" if leaf.kind == "U" else _FOREIGN):
        raise ValueError("a scalar is in another byte order than its machine's")
    if leaf and leaf.kind == "U":
        return np.str_(data.decode("utf-32-le", "surrogatepass"))
    if leaf and leaf.kind == "S":
        return np.bytes_(data)
    array: Array = np.ndarray((), _dtype_of(text), data)
    value = array[()]
    if array_types.is_loose(kind) and write_scalar(value) != content:
        raise ValueError("a scalar has something between its fields")
    return value
