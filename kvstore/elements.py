"""How lists and sets lie in the file: the keys and records of one space, ``kvstore:structures``.

    key                  record's payload
    01 name              the number of a namespace that has structures; of no name: the highest number given so far
    02 number key        a head, what is under a key: ["list", id] or ["set", id, count]
    03 id position       the value of a list's item
    03 id member         nil, for a member of a set

Numbers and ids are 8 bytes, big-endian, out of one sequence, each given once. The default space has the number 0.
Keys and members are encoded as by `kvstore.keys`, positions as signed 64-bit numbers plus 2**63, big-endian: the order of
the bytes is that of the elements. The positions of a list have no gaps, so its length is where it ends less where it begins,
and nothing but the item is written by an append. A structure has at least one element: with the last one goes the head.

Each value is a record as of `kvstore.record`, bound to this space and its key; that of a head ends when the structure does.
What is given up, a whole structure or the heads of a namespace, is named by the nine bytes that its keys begin with, and
freed some keys at a time.
"""

from __future__ import annotations

from itertools import islice

from kvstore import codec, record
from kvstore.backends import OWN_SPACE, Reading, Writing
from kvstore.errors import CorruptRecordError, InvalidKeyValueError
from kvstore.keys import MAX_KEY_BYTES, Key, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final, Literal, TypeAlias

    Kind: TypeAlias = Literal["list", "set"]

SPACE: Final = OWN_SPACE + "structures"
LIST: Final = "list"
SET: Final = "set"

_NAME, _HEAD, _ELEMENT = b"\x01", b"\x02", b"\x03"
_BINDING: Final = SPACE.encode()
_DEFAULT: Final = bytes(8)
_PREFIX_BYTES: Final = 9
_ZERO: Final = 1 << 63

MAX_BYTES: Final = MAX_KEY_BYTES - _PREFIX_BYTES
"""The longest encoding of a structure's key, and of a set's member."""


class Head:
    """What is under a structure's key."""

    __slots__ = ("count", "expires", "id", "key", "kind")

    def __init__(self, key: bytes, kind: Kind, id: bytes, count: int = 0, expires: int | None = None) -> None:
        self.key = key
        self.kind: Kind = kind
        self.id = id
        self.count = count  # of a set alone
        self.expires = expires

    @property
    def prefix(self) -> bytes:
        """What the keys of its elements begin with."""
        return _ELEMENT + self.id

    @property
    def span(self) -> tuple[bytes, bytes]:
        """The range of the keys of its elements."""
        return span_of(self.prefix)

    def at(self, position: int) -> bytes:
        """The key of a list's item."""
        return self.prefix + (position + _ZERO).to_bytes(8, "big")

    def written(self) -> bytes:
        """Its record."""
        number = int.from_bytes(self.id, "big")
        payload, extended = codec.encode([self.kind, number] if self.kind == LIST else [self.kind, number, self.count])
        return packed(self.key, payload, extended, self.expires)


def checked(what: str, key: Key) -> bytes:
    """The encoding of a structure's key or a set's member. Raises ``InvalidKeyError`` as `keys.encode`."""
    encoded = encode(key)
    if len(encoded) > MAX_BYTES:
        raise InvalidKeyValueError(
            f"the {what} is {len(encoded)} bytes encoded; at most {MAX_BYTES} are possible. Hash it, or shorten it"
        )
    return encoded


def span_of(prefix: bytes) -> tuple[bytes, bytes]:
    """The range of the keys that begin with nine such bytes."""
    # What follows is eight bytes, or begins with the tag of a key.
    return prefix, prefix + b"\xff" * 9


def position_of(key: bytes) -> int:
    """The position of a list's item. Raises ``ValueError`` where the key is none of one."""
    if len(key) != _PREFIX_BYTES + 8:
        raise ValueError("an item of a list has no position")
    return int.from_bytes(key[_PREFIX_BYTES:], "big") - _ZERO


def member_of(key: bytes) -> bytes:
    """The encoded member of a set, or of a head the encoded key of the structure."""
    return key[_PREFIX_BYTES:]


# -- records ---------------------------------------------------------------------------------------------------------


def packed(key: bytes, payload: bytes, extended: bool, expires: int | None = None) -> bytes:
    """The record of a payload under a key of this space."""
    return record.pack(_BINDING + key, payload, extended, expires)


def unpacked(key: bytes, raw: bytes) -> tuple[bytes | memoryview, bool, int | None]:
    """As `record.unpack`."""
    return record.unpack(_BINDING + key, raw)


def value_of(key: bytes, raw: bytes) -> Any:
    """The value of a record. Raises ``ValueError`` where it is damaged."""
    payload, extended, _ = unpacked(key, raw)
    return codec.decode(payload, extended)


def opened(key: bytes, raw: bytes) -> Head:
    """The head that a record is. Raises ``ValueError`` where it is none, or damaged."""
    payload, extended, expires = unpacked(key, raw)
    fields = codec.decode(payload, extended)
    if type(fields) is list and len(fields) > 1 and type(number := fields[1]) is int and 0 < number < 1 << 64:
        if fields[0] == LIST and len(fields) == 2:
            return Head(key, LIST, number.to_bytes(8, "big"), 0, expires)
        if fields[0] == SET and len(fields) == 3 and type(fields[2]) is int:
            return Head(key, SET, number.to_bytes(8, "big"), fields[2], expires)
    raise ValueError("what is under a structure's key is neither a list nor a set")


# -- namespaces ------------------------------------------------------------------------------------------------------


def number_of(view: Reading, namespace: str) -> bytes | None:
    """The number of a namespace; None where no structure was made in it. Raises ``CorruptRecordError``."""
    if not namespace:
        return _DEFAULT
    key = _NAME + namespace.encode()
    raw = view.get(SPACE, key)
    return None if raw is None else number_in(key, raw).to_bytes(8, "big")


def number_for(txn: Writing, namespace: str) -> bytes:
    """The number of a namespace, which gets one where it has none."""
    number = number_of(txn, namespace)
    if number is None:
        number = next_number(txn)
        key = _NAME + namespace.encode()
        txn.put(SPACE, key, packed(key, *codec.encode(int.from_bytes(number, "big"))))
    return number


def next_number(txn: Writing) -> bytes:
    """A number that was never given before."""
    raw = txn.get(SPACE, _NAME)
    number = 1 if raw is None else number_in(_NAME, raw) + 1
    txn.put(SPACE, _NAME, packed(_NAME, *codec.encode(number)))
    return number.to_bytes(8, "big")


def number_in(key: bytes, raw: bytes) -> int:
    """What an entry of the directory says. Raises ``CorruptRecordError``."""
    name = key[1:].decode(errors="replace")
    try:
        value = value_of(key, raw)
    except ValueError as error:
        raise _damaged(name, str(error)) from error
    if type(value) is not int or not 0 < value < 1 << 63:
        raise _damaged(name, "what should be a number is none")
    return value


def _damaged(name: str, reason: str) -> CorruptRecordError:
    return CorruptRecordError(
        f"the directory of lists and sets is damaged at {name!r} ({reason}); restore the store from a backup",
        namespace=name,
    )


def directory(view: Reading) -> Iterator[tuple[str, bytes, bytes]]:
    """Each namespace that was given a number: name, key and record."""
    for key, raw in view.scan(SPACE, _NAME + b"\0", _HEAD):
        # Of a damaged one the record tells.
        yield key[1:].decode(errors="replace"), key, raw


def namespaces(view: Reading) -> list[str]:
    """The names of the namespaces that have a record or a structure, in order, the default one not among them."""
    found = set(view.spaces())
    for name, key, raw in directory(view):
        span = span_of(_HEAD + number_in(key, raw).to_bytes(8, "big"))
        if view.first_key(SPACE, *span) is not None:
            found.add(name)
    return sorted(found)


def forget_namespace(txn: Writing, namespace: str) -> bytes | None:
    """Take a namespace's number away; the prefix of its heads, where it had any."""
    number = number_of(txn, namespace)
    if number is None:
        return None
    prefix = _HEAD + number
    had = txn.first_key(SPACE, *span_of(prefix)) is not None
    txn.delete(SPACE, _NAME + namespace.encode())
    return prefix if had else None


# -- heads -----------------------------------------------------------------------------------------------------------


def head_key(number: bytes, encoded: bytes) -> bytes:
    """Where the head of the structure under a key is."""
    return _HEAD + number + encoded


def head_at(view: Reading, namespace: str, encoded: bytes) -> Head | None:
    """The head of the structure under a key, though its time may be over. Raises ``ValueError`` where it is damaged."""
    number = number_of(view, namespace)
    if number is None:
        return None
    key = head_key(number, encoded)
    raw = view.get(SPACE, key)
    return None if raw is None else opened(key, raw)


def heads(view: Reading, namespace: str, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and record of the heads in a namespace whose encoded keys are in the range, in order."""
    number = number_of(view, namespace)
    if number is not None:
        yield from view.scan(SPACE, head_key(number, low), head_key(number, high))


def has_any(view: Reading) -> bool:
    """Whether there is a structure in any namespace."""
    return view.first_key(SPACE, _HEAD, _ELEMENT) is not None


def all_heads(view: Reading) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Every head: its namespace's number, key and record."""
    for key, raw in view.scan(SPACE, _HEAD, _ELEMENT):
        yield key[1:_PREFIX_BYTES], key, raw


def count_elements(view: Reading, prefix: bytes | None = None) -> int:
    """How many elements there are, or how many whose keys begin so, one after another."""
    low, high = (_ELEMENT, None) if prefix is None else span_of(prefix)
    return sum(1 for _ in view.scan_keys(SPACE, max(low, _ELEMENT), high))


# -- what is given up ------------------------------------------------------------------------------------------------


def is_prefix(what: bytes) -> bool:
    """Whether it stands for all the keys that begin with it: a head's key is longer."""
    return len(what) == _PREFIX_BYTES


def free(txn: Writing, prefix: bytes, limit: int) -> int:
    """Delete up to so many of the keys that begin so, and of the elements of what heads are among them; how many. Where it
    is less than ``limit``, nothing is left.
    """
    freed = 0
    # A cursor must not walk what is being deleted: take the batch first.
    for key, raw in list(islice(txn.scan(SPACE, *span_of(prefix)), limit)):
        for inner in elements_under(key, raw) if key[:1] == _HEAD else ():
            freed += free(txn, inner, limit - freed)
        if freed >= limit:
            return freed
        txn.delete(SPACE, key)
        freed += 1
    return freed


def elements_under(key: bytes, raw: bytes) -> list[bytes]:
    """The prefix of a head's elements; none where the head is damaged, and doesn't say which they are."""
    try:
        return [opened(key, raw).prefix]
    except ValueError:
        return []
