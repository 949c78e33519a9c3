"""The reading half of a store's mapping: what every face of a space answers, whatever it reads from.

A subclass says where its reads go (``_view``); the rest is written once, here, for stores, namespaces, transactions and
snapshots alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextlib import AbstractContextManager
from operator import itemgetter

from kvstore import codec, expiry, keys, record
from kvstore.backends import Reading, Space
from kvstore.errors import CorruptRecordError
from kvstore.keys import STR, Key
from kvstore.missing import MISSING
from kvstore.structures import HasStructures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar, overload

    from kvstore.dump_record import DumpRecord

    T = TypeVar("T")


class ReadableSpace(HasStructures, Mapping[Key, "Any"]):
    """One space as a mapping in key order. Iterating, ``in`` and ``len`` don't touch the memory tier."""

    def __init__(self, space: Space, clock: expiry.Clock) -> None:
        self._space = space
        self._binding = space.encode()
        self._clock = clock

    def _view(self, *also: Space) -> AbstractContextManager[Reading]:
        """The consistent view that one call, or one iteration, reads from: of this space, and ``also`` of others."""
        raise NotImplementedError

    def _counting_view(self) -> AbstractContextManager[Reading]:
        """A view that need not do more than count."""
        return self._view()

    def _source(self) -> object:
        """What its views are views of: two spaces of the same one may share a view."""
        return self

    # -- single keys ---------------------------------------------------------------------------------------------

    def __getitem__(self, key: Key) -> Any:
        value = self.get(key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    if TYPE_CHECKING:

        @overload
        def get(self, key: Key) -> Any: ...
        @overload
        def get(self, key: Key, default: T) -> Any | T: ...

    def get(self, key: Key, default: Any = None) -> Any:
        """The value of the key, or ``default``.

        Raises ``TypeError`` for an unhashable key, ``CorruptRecordError`` where the record doesn't match its checksum.
        """
        encoded = keys.encode_lookup(key)
        if encoded is None:
            return default
        with self._view() as view:
            raw = view.get(self._space, encoded)
        return default if raw is None else self._value(encoded, raw, default)

    def __contains__(self, key: object) -> bool:
        encoded = keys.encode_lookup(key)
        if encoded is None:
            return False
        with self._view() as view:
            raw = view.get(self._space, encoded)
        return raw is not None and self._is_live(raw)

    def ttl(self, key: Key) -> float | None:
        """Seconds until the record ends; None for a record without an end. Raises ``KeyError`` where there is none."""
        encoded = keys.encode_lookup(key)
        if encoded is not None:
            with self._view() as view:
                raw = view.get(self._space, encoded)
            if raw is not None:
                now = self._clock()
                expires = self._open(encoded, raw)[2]
                if expires is None:
                    return None
                if expires > now * 1000:
                    return expires / 1000 - now
        raise KeyError(key)

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Any]:
        """The keys that are there, with their values, in the order asked for; all from one consistent view."""
        wanted = list(keys)
        with self._view() as view:
            return self._read_many(view, wanted)

    def _read_many(self, view: Reading, wanted: Iterable[Key]) -> dict[Key, Any]:
        found = {}
        for key in wanted:
            encoded = keys.encode_lookup(key)
            raw = None if encoded is None else view.get(self._space, encoded)
            if raw is not None and encoded is not None:
                value = self._value(encoded, raw, MISSING)
                if value is not MISSING:
                    found[key] = value
        return found

    # -- in key order --------------------------------------------------------------------------------------------

    def scan(
        self,
        *,
        prefix: str | bytes | tuple[Key, ...] | None = None,
        start: Key | None = None,
        stop: Key | None = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[Key, Any]]:
        """``(key, value)`` in key order, over one consistent view that lasts as long as the iterator.

        ``start`` is included, ``stop`` is not. ``prefix`` is a str or bytes that the keys begin with, or a tuple of
        their first elements. Keys sort by type first: bytes, str, int, tuple; within a type as Python sorts them.
        ``reverse`` begins at the end; ``limit`` ends after that many.

        Raises ``InvalidKeyError`` for a bound that can't be a key, ``ValueError`` for a negative limit.
        """
        return self._scan(_span(prefix, start, stop), reverse, _checked(limit))

    def scan_keys(
        self,
        *,
        prefix: str | bytes | tuple[Key, ...] | None = None,
        start: Key | None = None,
        stop: Key | None = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Key]:
        """The keys alone; everything else as ``scan``."""
        return self._scan_keys(_span(prefix, start, stop), reverse, _checked(limit))

    def _scan(self, span: tuple[bytes, bytes], reverse: bool, limit: int | None) -> Iterator[tuple[Key, Any]]:
        with self._view() as view:
            items = self._items(view.scan_beyond(self._space, *span, reverse=reverse), span)
            yield from items if limit is None else itertools.islice(items, limit)

    def _scan_keys(self, span: tuple[bytes, bytes], reverse: bool, limit: int | None) -> Iterator[Key]:
        with self._view() as view:
            found = view.scan_keys(self._space, *span, reverse=reverse)
            if view.count(expiry.INDEX):
                found = (key for key, raw in view.scan(self._space, *span, reverse=reverse) if self._is_live(raw))
            yield from self._decoded(found if limit is None else itertools.islice(found, limit))

    def _items(self, entries: Iterator[tuple[bytes, bytes]], span: tuple[bytes, bytes]) -> Iterator[tuple[Key, Any]]:
        """What the entries hold, up to the first that is out of the range. Written out, as it is all that a scan does."""
        low, high = span
        binding, clock, load_live = self._binding, self._clock, record.load_live
        for encoded, raw in entries:
            if encoded >= high or encoded < low:
                return
            try:
                value = load_live(binding + encoded, raw, clock, MISSING)
                if value is MISSING:
                    continue
                key = encoded[1:].decode() if encoded[0] == STR else keys.decode(encoded)
            except ValueError as error:
                raise self._corrupt(encoded, error) from error
            yield key, value

    def _decoded(self, found: Iterator[bytes]) -> Iterator[Key]:
        for encoded in found:
            try:
                key = encoded[1:].decode() if encoded[0] == STR else keys.decode(encoded)
            except ValueError:
                key = self._key(encoded)
            yield key

    def _walk(
        self, space: Space, locate: Callable[[Reading], tuple[bytes, bytes] | None], *, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        """The entries of another space in the range that ``locate`` finds in the view, where it finds one."""
        with self._view(space) as view:
            span = locate(view)
            if span is not None:
                yield from view.scan(space, *span, reverse=reverse)

    def __iter__(self) -> Iterator[Key]:
        return self._scan_keys(keys.ALL, False, None)

    def __reversed__(self) -> Iterator[Key]:
        return self._scan_keys(keys.ALL, True, None)

    def __len__(self) -> int:
        with self._counting_view() as view:
            if not view.count(expiry.INDEX):
                return view.count(self._space)
        with self._view(expiry.INDEX) as view:
            now = int(self._clock() * 1000)
            past = (entry for entry in expiry.due(view, now) if entry[1] == self._space)
            return view.count(self._space) - sum(1 for entry in past if expiry.ended(view, *entry))

    def keys(self) -> KeysView[Key]:
        """A live view of the keys."""
        return _Keys(self)

    def values(self) -> ValuesView[Any]:
        """A live view of the values; iterating it reads one consistent view of the file."""
        return _Values(self)

    def items(self) -> ItemsView[Key, Any]:
        """A live view of the items; iterating it reads one consistent view of the file."""
        return _Items(self)

    # -- records -------------------------------------------------------------------------------------------------

    def _key(self, encoded: bytes) -> Key:
        try:
            return keys.decode(encoded)
        except ValueError as error:
            raise CorruptRecordError(
                f"the file has a key that kvstore did not write ({error}): {encoded!r}",
                key=encoded,
                namespace=self._space,
            ) from error

    def _open(self, encoded: bytes, raw: bytes | memoryview) -> tuple[bytes | memoryview, bool, int | None]:
        try:
            return record.unpack(self._binding + encoded, raw)
        except ValueError as error:
            raise self._corrupt(encoded, error) from error

    def _value(self, encoded: bytes, raw: bytes | memoryview, default: Any) -> Any:
        """The value of a record, or ``default`` where its time is over."""
        try:
            return record.load_live(self._binding + encoded, raw, self._clock, default)
        except ValueError as error:
            raise self._corrupt(encoded, error) from error

    def _exported(self, encoded: bytes, raw: bytes) -> DumpRecord:
        from kvstore.dump_record import DumpRecord

        payload, extended, expires = self._open(encoded, raw)
        try:
            value = codec.decode_opaque(payload, extended)
        except ValueError as error:
            raise self._corrupt(encoded, error) from error
        return DumpRecord(self._space, self._key(encoded), value, expires)

    def _is_live(self, raw: bytes | memoryview) -> bool:
        expires = record.expiry_of(raw)
        return expires is None or expires > self._clock() * 1000

    def _corrupt(self, encoded: bytes, reason: ValueError) -> CorruptRecordError:
        key = self._key(encoded)
        where = f" in namespace {self._space!r}" if self._space else ""
        return CorruptRecordError(
            f"the record of key {key!r}{where} is damaged ({reason}); delete the key, or restore it from a backup",
            key=key,
            namespace=self._space,
        )


class _Keys(KeysView[Key]):
    _mapping: ReadableSpace

    def __reversed__(self) -> Iterator[Key]:
        return reversed(self._mapping)


class _Values(ValuesView["Any"]):
    """Values by a scan: the inherited view would look every key up, and count that."""

    _mapping: ReadableSpace

    def __iter__(self) -> Iterator[Any]:
        return map(itemgetter(1), self._mapping.scan())

    def __reversed__(self) -> Iterator[Any]:
        return map(itemgetter(1), self._mapping.scan(reverse=True))

    def __contains__(self, value: object) -> bool:
        return any(found is value or found == value for found in self)


class _Items(ItemsView[Key, "Any"]):
    """Items by a scan: the inherited view would look every key up, and count that."""

    _mapping: ReadableSpace

    def __iter__(self) -> Iterator[tuple[Key, Any]]:
        return self._mapping.scan()

    def __reversed__(self) -> Iterator[tuple[Key, Any]]:
        return self._mapping.scan(reverse=True)

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        # Not through the memory tier, where it would count as a lookup.
        with self._mapping._view() as view:
            found = self._mapping._read_many(view, item[:1])
        return any(value is item[1] or value == item[1] for value in found.values())


def _span(prefix: Any, start: Key | None, stop: Key | None) -> tuple[bytes, bytes]:
    low, high = keys.ALL
    if prefix is not None:
        low, high = keys.prefix_range(prefix)
    if start is not None:
        low = max(low, keys.encode(start))
    if stop is not None:
        high = min(high, keys.encode(stop))
    return low, high


def _checked(limit: int | None) -> int | None:
    if limit is not None and limit < 0:
        raise ValueError(f"limit must be 0 or more, not {limit}")
    return limit
