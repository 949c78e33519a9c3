"""The writing half of a store's mapping: every operation as something that is done inside a transaction.

A subclass says how a transaction comes about (``_commit``): a store hands the operation to the group commit, a
transaction does it in itself. All that an operation does takes place in its ``apply``, and it returns what ``_commit``
returns, so that ``_commit`` may give something else in place of the result, such as a future.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from itertools import repeat
from operator import itemgetter

from kvstore import codec, expiry, keys, record
from kvstore.backends import Reading, Space, Writing
from kvstore.keys import Key
from kvstore.missing import MISSING
from kvstore.reading import ReadableSpace
from kvstore.structures import ChangesStructures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, TypeAlias, TypeVar

    R = TypeVar("R")

Apply: TypeAlias = "Callable[[Writing], R]"
"""What to do in a transaction."""

Items: TypeAlias = "Mapping[Any, Any] | Iterable[tuple[Key, Any]]"
"""A mapping of keys; not ``Mapping[Key, Any]``, which a ``dict[str, float]`` is none of."""

_PURGED_BY_ONE_EXPIRE = 1000
_REMEMBERED_AT_MOST: Final = 1000
"""A batch of more keys than this is taken for a load: it leaves the memory tier to what is hot."""


class Prepared:
    """A record ready to be put, made outside every lock."""

    __slots__ = ("encoded", "expires", "note", "raw")

    def __init__(self, encoded: bytes, raw: bytes, expires: int | None, note: Any) -> None:
        self.encoded = encoded
        self.raw = raw
        self.expires = expires
        self.note = note


class WritableSpace(ChangesStructures, ReadableSpace, MutableMapping[Key, "Any"]):
    """One space as a mutable mapping with atomic operations."""

    def _commit(self, apply: Apply[R]) -> R:
        """Do it in a transaction; it is durable when this returns."""
        raise NotImplementedError

    _note: Callable[..., Any]
    """What the memory tier may keep of a value once it is written; None for nothing. See ``MemoryTier.note``."""

    # -- single keys ---------------------------------------------------------------------------------------------

    def __setitem__(self, key: Key, value: Any) -> None:
        self.set(key, value)

    def set(self, key: Key, value: Any, *, ttl: float | None = None) -> None:
        """Store the value, over whatever is there. ``ttl``: seconds until the record ends; None for never.

        Raises ``InvalidKeyError``, ``UnstorableValueError`` (before anything is written), ``StoreFullError``.
        """
        prepared = self._prepare(key, value, ttl)
        return self._commit(lambda txn: self._put(txn, prepared))

    def add(self, key: Key, value: Any, *, ttl: float | None = None) -> bool:
        """Store the value where the key has none; whether it did. Raises as ``set``."""
        prepared = self._prepare(key, value, ttl)

        def apply(txn: Writing) -> bool:
            if self._live(txn, prepared.encoded) is not None:
                return False
            self._put(txn, prepared)
            return True

        return self._commit(apply)

    def __delitem__(self, key: Key) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def delete(self, key: Key) -> bool:
        """Remove the key; whether it was there."""
        encoded = keys.encode_lookup(key)
        return encoded is not None and self._commit(lambda txn: self._remove(txn, (encoded,)) == 1)

    def pop(self, key: Key, default: Any = MISSING) -> Any:
        """Remove the key and return its value; without one, ``default``, or ``KeyError`` where none is given."""
        encoded = keys.encode_lookup(key)

        def apply(txn: Writing) -> Any:
            value = self._read(txn, encoded)
            if value is MISSING or encoded is None:
                return _found(default, key)
            self._delete(txn, encoded)
            return value

        return _found(default, key) if encoded is None else self._commit(apply)

    def popitem(self) -> tuple[Key, Any]:
        """Remove and return the first item in key order. Raises ``KeyError`` where there is none."""

        def apply(txn: Writing) -> tuple[Key, Any]:
            for encoded, raw in txn.scan(self._space, *keys.ALL):
                value = self._value(encoded, raw, MISSING)
                if value is not MISSING:
                    self._delete(txn, encoded)
                    return self._key(encoded), value
            raise KeyError("the store is empty")

        return self._commit(apply)

    def setdefault(self, key: Key, default: Any = None, *, ttl: float | None = None) -> Any:
        """The value of the key; where it has none, ``default``, stored. Raises as ``set``."""
        prepared = self._prepare(key, default, ttl)

        def apply(txn: Writing) -> Any:
            value = self._read(txn, prepared.encoded)
            if value is MISSING:
                self._put(txn, prepared)
                return self._value(prepared.encoded, prepared.raw, default)
            return value

        return self._commit(apply)

    def touch(self, key: Key, ttl: float | None) -> bool:
        """Let the record end ``ttl`` seconds from now, or never with None; whether there is one."""
        expires = expiry.deadline(self._clock, ttl)
        encoded = keys.encode_lookup(key)

        def apply(txn: Writing) -> bool:
            raw = None if encoded is None else self._live(txn, encoded)
            if raw is None or encoded is None:
                return False
            payload, extended, _old = self._open(encoded, raw)
            renewed = record.pack(self._binding + encoded, bytes(payload), extended, expires)
            self._put(txn, Prepared(encoded, renewed, expires, None))
            return True

        return encoded is not None and self._commit(apply)

    def get_or_set(self, key: Key, factory: Callable[[], Any], *, ttl: float | None = None) -> Any:
        """The value of the key; where it has none, ``factory()``, stored. Raises as ``set``."""
        value = self.get(key, MISSING)
        if value is MISSING:
            value = factory()
            self.set(key, value, ttl=ttl)
        return value

    # -- atomic changes ------------------------------------------------------------------------------------------

    def incr(self, key: Key, delta: float = 1, *, default: float = 0) -> Any:
        """Add ``delta`` to the number at the key, atomically across threads and processes; the new number.

        A key without a value counts as ``default``. The record's time to live stays. Raises ``TypeError`` where the
        value, or ``delta``, is no int or float.
        """
        encoded = keys.encode(key)
        for number in (delta, default):
            _require_number(number)

        def apply(txn: Writing) -> Any:
            raw = self._live(txn, encoded)
            value = default if raw is None else self._value(encoded, raw, default)
            _require_number(value)
            total = value + delta
            self._put(txn, self._prepare(key, total, None, self._expiry(encoded, raw)))
            return total

        return self._commit(apply)

    def compare_and_set(self, key: Key, expected: Any, value: Any) -> bool:
        """Store ``value`` where the key now has ``expected``; whether it did. Atomic across threads and processes.

        Equal means equal and of the same type. The record's time to live stays. For a key without a value there is
        ``add``. Raises as ``set``.
        """
        encoded = keys.encode(key)
        prepared = self._prepare(key, value, None)

        def apply(txn: Writing) -> bool:
            raw = self._live(txn, encoded)
            if raw is None:
                return False
            current = self._value(encoded, raw, MISSING)
            if type(current) is not type(expected) or not _is_equal(current, expected):
                return False
            expires = self._expiry(encoded, raw)
            kept = prepared if expires is None else self._prepare(key, value, None, expires)
            self._put(txn, kept)
            return True

        return self._commit(apply)

    def modify(self, key: Key, function: Callable[[Any], Any], *, default: Any = MISSING) -> Any:
        """Replace the value by ``function(value)``, atomically across threads and processes; the new value.

        A key without a value counts as ``default``; without one given, ``KeyError``. The function runs in the caller's
        thread and outside every lock; where another write comes between, it is called again with the newer value. The
        record's time to live stays. Raises as ``set``, and whatever the function raises.
        """
        while True:
            before, value = self._current(key, default)
            changed = self._replace(key, before, function(value))
            if changed is not MISSING:
                return changed

    def _current(self, key: Key, default: Any) -> tuple[bytes | None, Any]:
        """The record, or None, and its value, which is ``default`` where there is none."""
        encoded = keys.encode(key)
        with self._view() as view:
            before = self._live(view, encoded)
        value = MISSING if before is None else self._value(encoded, before, MISSING)
        return before, _found(default, key) if value is MISSING else value

    def _replace(self, key: Key, before: bytes | None, value: Any) -> Any:
        """Store the value where the record is still ``before``: what a reader gets of it, or ``MISSING``."""
        prepared = self._prepare(key, value, None, None if before is None else record.expiry_of(before))

        def apply(txn: Writing) -> Any:
            if self._live(txn, prepared.encoded) != before:
                return MISSING
            self._put(txn, prepared)
            return self._value(prepared.encoded, prepared.raw, value)

        return self._commit(apply)

    # -- many keys -----------------------------------------------------------------------------------------------

    def set_many(self, items: Items, *, ttl: float | None = None) -> None:
        """Store all the items in one transaction: all of them, or none. Raises as ``set``.

        Of a batch of at most 1,000 the memory tier keeps the values; a larger one is taken for a load, and leaves the
        tier to what is hot.
        """
        pairs = list(items.items() if isinstance(items, Mapping) else items)
        expires = expiry.deadline(self._clock, ttl)
        if len(pairs) <= _REMEMBERED_AT_MOST:
            prepared = [self._prepare(key, value, None, expires) for key, value in pairs]
            records = [(each.encoded, each.raw, each.note) for each in prepared]
        else:
            records = self._load(pairs, expires)
        return self._commit(lambda txn: put_all(self._space, txn, records, expires)) if records else None

    def update(self, other: Any = (), /, **named: Any) -> None:
        """As ``dict.update``, in one transaction."""
        pairs = [(key, other[key]) for key in other.keys()] if hasattr(other, "keys") else list(other)  # noqa: SIM118
        self.set_many([*pairs, *named.items()])

    def delete_many(self, keys_: Iterable[Key]) -> int:
        """Remove the keys in one transaction; how many were there."""
        wanted = [encoded for encoded in map(keys.encode_lookup, keys_) if encoded is not None]
        return self._commit(lambda txn: self._remove(txn, wanted)) if wanted else 0

    def clear(self) -> None:
        """Remove every key, in one transaction."""

        def apply(txn: Writing) -> None:
            expiry.leave_all(txn, self._space)
            txn.clear(self._space)

        return self._commit(apply)

    def expire(self) -> int:
        """Purge the records of the store, in all namespaces, whose time is over; how many there were."""
        total = 0
        while True:
            purged, left = self._commit_alone(self._purge_some)
            total += purged
            if not left:
                return total

    def _commit_alone(self, apply: Apply[R]) -> R:
        """As ``_commit``, without what a commit takes along."""
        return self._commit(apply)

    def _purge_some(self, txn: Writing) -> tuple[int, bool]:
        now = int(self._clock() * 1000)
        purged = expiry.purge(txn, now, _PURGED_BY_ONE_EXPIRE)
        return purged, next(expiry.due(txn, now), None) is not None

    # -- records -------------------------------------------------------------------------------------------------

    def _prepare(
        self,
        key: Key,
        value: Any,
        ttl: float | None,
        expires: int | None = None,
        *,
        remember: bool = True,
        encoded: bytes | None = None,
    ) -> Prepared:
        if encoded is None:
            encoded = keys.encode(key)
        if ttl is not None:
            expires = expiry.deadline(self._clock, ttl)
        if type(value) in SHALLOW:
            # What is encoded and what memory keeps must be the same, even while another thread changes the original.
            value = value.copy()
        payload, extended = codec.encode(value)
        raw = record.pack(self._binding + encoded, payload, extended, expires)
        note = self._note(self._space, key, encoded, value, payload, extended, expires) if remember else None
        return Prepared(encoded, raw, expires, note)

    def _load(self, pairs: list[tuple[Key, Any]], expires: int | None) -> list[tuple[bytes, bytes, None]]:
        """The records of a load, ready to be put: as ``_prepare``, with nothing for memory, and so nothing to copy."""
        encoded = [keys.encode(key) for key, _ in pairs]
        if expires is None:
            raw = record.dump_all(self._binding, zip(encoded, map(itemgetter(1), pairs), strict=True))
            return [*zip(encoded, raw, repeat(None))]
        records = []
        for key, (_, value) in zip(encoded, pairs, strict=True):
            payload, extended = codec.encode(value)
            records.append((key, record.pack(self._binding + key, payload, extended, expires), None))
        return records

    def _put(self, txn: Writing, prepared: Prepared) -> None:
        expiry.leave(txn, self._space, prepared.encoded)
        txn.put(self._space, prepared.encoded, prepared.raw, prepared.note)
        if prepared.expires is not None:
            expiry.enter(txn, self._space, prepared.encoded, prepared.expires)

    def _remove(self, txn: Writing, wanted: Sequence[bytes]) -> int:
        # What has ended is removed too, but was not there.
        live = sum(self._live(txn, encoded) is not None for encoded in dict.fromkeys(wanted))
        for encoded in wanted:
            self._delete(txn, encoded)
        return live

    def _delete(self, txn: Writing, encoded: bytes) -> None:
        expiry.leave(txn, self._space, encoded)
        txn.delete(self._space, encoded)

    def _live(self, txn: Reading, encoded: bytes) -> bytes | None:
        """The record, where there is one whose time isn't over."""
        raw = txn.get(self._space, encoded)
        return raw if raw is not None and self._is_live(raw) else None

    def _read(self, txn: Reading, encoded: bytes | None) -> Any:
        raw = None if encoded is None else txn.get(self._space, encoded)
        return MISSING if raw is None or encoded is None else self._value(encoded, raw, MISSING)

    def _expiry(self, encoded: bytes, raw: bytes | None) -> int | None:
        return None if raw is None else self._open(encoded, raw)[2]


def put_all(space: Space, txn: Writing, records: list[tuple[bytes, bytes, Any]], expires: int | None = None) -> None:
    """Put all the records, each as its encoded key, itself and a note for memory; they end when ``expires`` says."""
    if txn.count(expiry.INDEX):
        for encoded, _, _ in records:
            expiry.leave(txn, space, encoded)
    txn.put_all(space, records)
    if expires is not None:
        for encoded, _, _ in records:
            expiry.enter(txn, space, encoded, expires)


SHALLOW: Final = frozenset({list, dict, set, bytearray})


def _found(default: Any, key: Key) -> Any:
    if default is MISSING:
        raise KeyError(key)
    return default


def _require_number(value: object) -> None:
    if type(value) not in (int, float):
        raise TypeError(f"incr works on int and float, not {type(value).__name__}")


def _is_equal(one: object, other: object) -> bool:
    """By ``==``, as far as that says yes or no; otherwise by what is stored: numpy compares item by item."""
    try:
        answer = one == other
    except ValueError:  # of a container with arrays in it
        answer = False
    return answer is True or codec.encode(one) == codec.encode(other)
