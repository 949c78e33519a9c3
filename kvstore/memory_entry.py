"""One entry of the memory tier: a value that knows how to hand itself out, and what it costs in RAM.

What a reader gets is his own. An immutable value is shared; a flat container of immutables is copied, which
is several times cheaper than decoding; anything else is kept as its encoded bytes and decoded on every hit.
"""

from __future__ import annotations

from itertools import repeat
from sys import getsizeof

from kvstore import codec, keys
from kvstore.backends import Space
from kvstore.memory_rank import UNRANKED, rank
from kvstore.plain import IMMUTABLE, PLAIN, VIEWS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any, Final

Token = str | int | bytes
"""A key as the memory tier looks it up: a str or an int itself, any other key encoded. Types that Python
holds equal, such as ``1`` and ``True``, never meet in it."""
Address = Token | tuple[Space, Token]
"""An entry's key in the policy: the token in the default space, the space and the token in the others."""

_STR_TAG, _INT_TAGS = 0x02, frozenset({0x04, 0x05})
_EXOTIC_BYTES: Final = 64
_SMALL_INT = range(-5, 257)
_FLOAT_BYTES: Final = getsizeof(1.0)
_PAIR_BYTES: Final = getsizeof(("", ""))
_WIDE_BYTES: Final = 110  # more in the tables: Python keeps no hash beside a str in a dict of nothing else
_COST_BYTES: Final = getsizeof(1 << 30)
_MOST_RANKED: Final = (1 << 32) - 1  # what a record of the sample has room for
_MAX_SHAPES: Final = 64
_MAX_SHAPE_KEYS: Final = 16


def token_of(encoded: bytes) -> Token:
    """The token of an encoded key."""
    tag = encoded[0]
    if tag == _STR_TAG:
        return encoded[1:].decode()
    return keys.decode(encoded) if tag in _INT_TAGS else encoded  # type: ignore[return-value]


class Entry:
    """A value in the memory tier. A reader gets ``hand(value)``; where ``hand`` is None, ``value`` itself."""

    __slots__ = ("address", "cost", "expires", "hand", "rank", "space", "token", "value")

    address: Address
    cost: int
    expires: int | None
    hand: Callable[[Any], Any] | None
    rank: int
    space: Space
    token: Token
    value: Any


class EntryMaker:
    """Makes the entries of one memory tier, and prices them."""

    def __init__(self, bookkeeping: int) -> None:
        self._bookkeeping = bookkeeping + _COST_BYTES
        # The keys of small dicts are few and recur, as a table's columns do: kept once and shared by all.
        self._shapes: dict[tuple[str, ...], tuple[str, ...]] = {}

    def make(
        self,
        space: Space,
        token: Token,
        value: object,
        payload: bytes | memoryview,
        extended: bool,
        expires: int | None,
    ) -> Entry:
        """An entry for a value and its payload. The value, where it can change, must be nobody else's."""
        entry = Entry()
        entry.space = space
        entry.token = token
        entry.expires = expires
        entry.rank = rank(space, token)
        cost = self._bookkeeping + getsizeof(token)
        if space:
            entry.address = (space, token)
            cost += _PAIR_BYTES + _WIDE_BYTES
        else:
            entry.address = token
            if type(token) is not str:
                cost += _WIDE_BYTES
        kind = type(value)
        if kind is str or kind is bytes:
            # Most of what there is.
            entry.value = value
            entry.hand = None if expires is None else _same
            cost += getsizeof(value)
        elif kind in IMMUTABLE:
            entry.value = value
            entry.hand = None if expires is None else _same
            cost += _size(value)
        elif kind in _COPIERS and (kinds := set(map(type, members := _members(value)))) <= IMMUTABLE:
            entry.hand = _COPIERS[kind]
            if kind is dict:
                value, keys_cost = self._with_shared_keys(value)  # type: ignore[arg-type]
                cost += keys_cost
            entry.value = value
            cost += getsizeof(value) + _size_together(members, kinds)
        else:
            entry.value = kept = bytes(payload)
            entry.hand = _decode_extended if extended else _decode_plain
            cost += getsizeof(kept)
        entry.cost = cost
        if cost > _MOST_RANKED:
            entry.rank = UNRANKED
        return entry

    def _with_shared_keys(self, value: dict[Any, Any]) -> tuple[dict[Any, Any], int]:
        shape = tuple(value)
        # By type, for what is equal to a str need not be one.
        if len(shape) > _MAX_SHAPE_KEYS or not _STRS.issuperset(map(type, shape)):
            return value, _size_together(shape, set(map(type, shape)))
        shared = self._shapes.get(shape)
        if shared is not None:
            return dict(zip(shared, value.values())), 0  # noqa: B905  # of one length, as they are equal
        if len(self._shapes) >= _MAX_SHAPES:
            self._shapes.clear()
        self._shapes[shape] = shape
        return value, sum(map(getsizeof, shape))


def has_views(value: object) -> bool:
    """Whether memory would keep, of the value or of a member, what is immutable only as it is decoded."""
    kind = type(value)
    return kind in VIEWS or (kind in _COPIERS and not VIEWS.isdisjoint(map(type, _members(value))))


def _same(value: Any) -> Any:
    return value


def _decode_plain(payload: bytes) -> object:
    return codec.decode(payload, False)


def _decode_extended(payload: bytes) -> object:
    return codec.decode(payload, True)


_COPIERS: Final[dict[type, Callable[[Any], Any]]] = {
    list: list.copy,
    dict: dict.copy,
    set: set.copy,
    bytearray: bytearray.copy,
    tuple: _same,
    frozenset: _same,
}


def _members(value: Any) -> Collection[Any]:
    """What must be immutable for the container to be handed out as a copy; the keys of a dict always are."""
    if type(value) is dict:
        return value.values()
    return () if type(value) is bytearray else value


def _size(value: object) -> int:
    """What a scalar costs; nothing where Python keeps the one object that there is."""
    if id(value) in _KEPT:
        return 0
    kind = type(value)
    size = getsizeof(value)
    if kind in VIEWS:
        base: Any = value.base  # type: ignore[attr-defined]
        while base is not None:
            size += getsizeof(base)
            base = getattr(base, "base", None)
    return size if kind in PLAIN or kind.__module__ == "numpy" else size + _EXOTIC_BYTES


def _size_together(members: Collection[Any], kinds: set[type]) -> int:
    """What values of these types cost."""
    if kinds == _FLOATS:
        return _FLOAT_BYTES * len(members)
    if not kinds <= PLAIN:
        return sum(map(_size, members))
    if kinds <= _TEXTS:
        return sum(map(getsizeof, members))
    if kinds == _INTS and len(members) > _MAX_SHAPE_KEYS:
        return 0 if min(members) in _SMALL_INT and max(members) in _SMALL_INT else sum(map(getsizeof, members))
    return sum(map(getsizeof, members)) - sum(map(_KEPT.get, map(id, members), repeat(0)))


_FLOATS: Final = {float}
_INTS: Final = {int}
_STRS: Final = {str}
_TEXTS: Final = {str, bytes}
_KEPT: Final = {id(only): getsizeof(only) for only in (None, False, True, *_SMALL_INT)}
"""What the objects are said to take that Python keeps one each of, for ever: an entry pays nothing for them."""
