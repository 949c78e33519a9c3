"""numpy's arrays and scalars as bytes, and stand-ins for them where numpy isn't installed.

An array is extension 32, and a scalar extension 33:

    offset  bytes    what
    0       2        length of the header, big-endian
    2       ...      the header, JSON in ASCII: of an array {"dtype":"<f4","shape":[2,3]}, with "order":"F" where the
                     items stand in Fortran order; of a scalar its dtype alone (see `kvstore.array_types`)
    ...     0 to 63  zeros, only in an array
    ...     rest     the items without gaps, with zeros for the bytes in an item that belong to no value

The zeros let the items begin at a multiple of 64: counted from the first byte of the record where the array is the
whole value, and the record has no expiry; counted from offset 0 above where it is part of a value.

Nothing here trusts its input, nor takes more memory than that does.
"""

from __future__ import annotations

from kvstore.array_types import Leaf, Subarray, dumps, has_text, item_type, loads, product, shape_of
from kvstore.frozen import Frozen
from kvstore.plain import EXT_32, EXT_32_HEAD
from kvstore.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from kvstore.array_types import ItemType

ARRAY: Final = 32
SCALAR: Final = 33
"""The extension codes."""

ALIGNMENT: Final = 64

_AHEAD = 1 + EXT_32_HEAD  # a record has its header byte before the payload
_MAX_HEADER = 0xFFFF
_MAX_ITEMS = (1 << 32) - (1 << 17)  # what is left by the longest header
_ORDERS = {"C": "", "F": ',"order":"F"'}


class Header(Frozen):
    """What the header of an array says; ``dtype`` is JSON."""

    dtype: str
    shape: tuple[int, ...]
    order: str
    nbytes: int
    has_text: bool


class StoredArray(Frozen):
    """An array in its stored form, for who has no numpy: a stand-in, stored as the array itself would be.

    dtype   JSON, as in the header
    order   "C" or "F"
    data    the items' bytes, in that order
    """

    dtype: str
    shape: tuple[int, ...]
    order: str
    data: bytes

    __hash__ = None  # type: ignore[assignment]  # as an array has none


class StoredScalar(Frozen):
    """A numpy scalar in its stored form, as `StoredArray`. Without a hash: no key is a numpy scalar."""

    dtype: str
    data: bytes

    __hash__ = None  # type: ignore[assignment]


# -- what stands before the items ----------------------------------------------------------------------------------


def array_header(dtype: str, shape: tuple[int, ...], order: str) -> bytes:
    """The header of an array; ``dtype`` is JSON."""
    lengths = ",".join(map(str, shape))
    return f'{{"dtype":{dtype},"shape":[{lengths}]{_ORDERS[order]}}}'.encode("ascii")


def check_size(nbytes: int) -> None:
    """To be asked before the items are copied. Raises `Refused`."""
    if nbytes > _MAX_ITEMS:
        raise Refused(f"is an array of {nbytes} bytes, and a value has less than 4 GiB; store it in parts")


def has_two_orders(shape: tuple[int, ...], nbytes: int) -> bool:
    """Whether C and Fortran order differ."""
    return nbytes > 0 and sum(length != 1 for length in shape) > 1


def scalar_start(header: bytes) -> bytes:
    """What stands before the item of a scalar. Raises `Refused`."""
    if len(header) > _MAX_HEADER:
        raise Refused(
            f"has a dtype whose description takes {len(header)} bytes, and at most {_MAX_HEADER} are stored; "
            "give it fewer fields with shorter names, or store the fields one by one"
        )
    return len(header).to_bytes(2, "big") + header


def array_start(header: bytes, ahead: int = 0) -> bytes:
    """What stands before the items of an array, with ``ahead`` bytes before that. Raises `Refused`."""
    start = scalar_start(header)
    return start + bytes(-(ahead + len(start)) % ALIGNMENT)


def whole_start(header: bytes, nbytes: int) -> bytes:
    """What stands before the items in the payload of an array that is the whole value. Raises `Refused`.

    Its msgpack head is always that of the longest extension, so that the items' place doesn't hang on their number.
    """
    start = array_start(header, _AHEAD)
    return b"%c%b%c%b" % (EXT_32, (len(start) + nbytes).to_bytes(4, "big"), ARRAY, start)


# -- taking apart --------------------------------------------------------------------------------------------------


def split(content: bytes | memoryview, start: int = 0) -> tuple[Header, int]:
    """The header of the array whose stored form begins at ``start``, and where its items do. Raises ValueError."""
    end = start + 2 + int.from_bytes(content[start : start + 2], "big")
    header = parse_header(bytes(content[start + 2 : end]))
    begin = len(content) - header.nbytes
    if not 0 <= begin - end < ALIGNMENT or bytes(content[end:begin]).strip(b"\0"):
        raise ValueError("an array's items don't fill their place")
    return header, begin


def split_scalar(content: bytes) -> tuple[str, ItemType, bytes]:
    """The dtype of a scalar, in JSON and as what it says, and its item. Raises ValueError."""
    end = 2 + int.from_bytes(content[:2], "big")
    text = content[2:end].decode("ascii")
    kind = item_type(text)
    data = content[end:]
    if len(data) != kind.itemsize:
        raise ValueError("a scalar's item doesn't fill its place")
    if isinstance(kind, Leaf) and kind.kind == "b" and data > b"\1":
        raise ValueError("a bool is neither false nor true")
    check_text(kind, data)
    return text, kind, data


def check_text(kind: ItemType, data: bytes) -> None:
    """Refuse what is no character: Python itself breaks on it, at some later time. Raises ValueError."""
    if not has_text(kind) or not data:
        return
    if isinstance(kind, Leaf):
        data.decode("utf-32-be" if kind.order == ">" else "utf-32-le", "surrogatepass")
    elif isinstance(kind, Subarray):
        check_text(kind.base, data)
    else:
        for part, offset in zip(kind.formats, kind.offsets, strict=True):
            if has_text(part):
                starts = range(offset, len(data), kind.itemsize)
                check_text(part, b"".join([data[at : at + part.itemsize] for at in starts]))


def parse_header(text: bytes) -> Header:
    """What the header of an array says. Raises ValueError for what no writer makes."""
    fields = loads(text.decode("ascii"))
    if type(fields) is not dict:
        raise ValueError("an array's header is malformed")
    dtype, shape = dumps(fields.get("dtype")), shape_of(fields.get("shape"))
    order = "F" if "order" in fields else "C"
    kind = item_type(dtype)
    nbytes = product(shape) * kind.itemsize
    if array_header(dtype, shape, order) != text or (order == "F" and not has_two_orders(shape, nbytes)):
        raise ValueError("an array's header is not in the form that it is written in")
    return Header(dtype, shape, order, nbytes, has_text(kind))


# -- stand-ins -----------------------------------------------------------------------------------------------------


def leave_array(content: bytes | memoryview, start: int = 0) -> StoredArray:
    """The stand-in of the array whose stored form begins at ``start``. Raises ValueError."""
    header, begin = split(content, start)
    data = bytes(content[begin:])
    check_text(item_type(header.dtype), data)
    return StoredArray(header.dtype, header.shape, header.order, data)


def leave_scalar(content: bytes) -> StoredScalar:
    """The stand-in of a scalar. Raises ValueError."""
    text, _, data = split_scalar(content)
    return StoredScalar(text, data)


def write_stored_array(value: StoredArray) -> bytes:
    """The stored form of a stand-in that is part of a value. Raises `Refused`."""
    return array_start(_header_of(value)) + value.data


def write_whole_stored_array(value: StoredArray) -> bytes:
    """The payload of a stand-in that is the whole value. Raises `Refused`."""
    return whole_start(_header_of(value), len(value.data)) + value.data


def write_stored_scalar(value: StoredScalar) -> bytes:
    """The stored form of a stand-in. Raises `Refused`."""
    try:
        content = scalar_start(value.dtype.encode("ascii")) + value.data
        split_scalar(content)
    except (AttributeError, TypeError, ValueError) as error:
        raise Refused(f"is a StoredScalar that stands for none: {error}") from None
    return content


def _header_of(value: StoredArray) -> bytes:
    try:
        text = array_header(value.dtype, value.shape, value.order)
        if len(value.data) != parse_header(text).nbytes:
            raise ValueError("its data don't fill its shape")  # noqa: TRY301  # one more thing that may be wrong
        check_text(item_type(value.dtype), value.data)
        check_size(len(value.data))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Refused(f"is a StoredArray that stands for none: {error}") from None
    return text
