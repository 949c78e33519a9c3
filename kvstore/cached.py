"""A space behind the memory tier: the hot path of every read, and the way of every write.

A hit opens no transaction, decodes nothing and takes no lock. Its few lines stand twice, in ``get`` and in ``[]``: a call
between them would cost a fifth of a hit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

from kvstore import keys, record
from kvstore.backends import Reading, Space
from kvstore.commit import Write
from kvstore.engine import ClosedEngine, Engine
from kvstore.errors import ReadOnlyError
from kvstore.expiry import Clock
from kvstore.keys import Key
from kvstore.memory import BUFFER_LIMIT, MemoryTier
from kvstore.memory_entry import Entry, Token
from kvstore.reading import MISSING
from kvstore.writing import Apply, WritableSpace

R = TypeVar("R")

ReadRecord = Callable[[Space, bytes], tuple[bytes | None, int]]
"""Where a record is read, and the commit that it was read at."""


class CachedSpace(WritableSpace):
    """One space of an open store, read through the memory tier and written through to the file."""

    def __init__(self, space: Space, engine: Engine, tier: MemoryTier, clock: Clock, *, readonly: bool) -> None:
        super().__init__(space, clock)
        self._engine = engine
        self._readonly = readonly
        self._read_record = engine.backend.get
        self._tier = tier
        self._front = tier.front(space)
        self._hits = tier.hits
        self._capacity = tier.capacity
        if not tier.capacity:
            self._fetch = partial(self._fetch_by, engine.backend.get)  # type: ignore[method-assign]
        self._misses, self._absent = tier.tallies(space)

    def __getitem__(self, key: Key) -> Any:
        """The value of the key. Raises ``KeyError`` where there is none, otherwise as ``get``."""
        kind = type(key)
        token = key if kind is str or kind is int else keys.encode_lookup(key)
        cell, unchanged = self._tier.mark
        if cell[0] == unchanged:
            entry = self._front.get(token)  # type: ignore[arg-type]
            if entry is not None:
                hand = entry.hand
                if hand is None or entry.expires is None:
                    hits = self._hits
                    hits.append(entry)
                    if len(hits) >= BUFFER_LIMIT:
                        self._tier.replay()
                    return entry.value if hand is None else hand(entry.value)
        value = self._fetch(key, token, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    def get(self, key: Key, default: Any = None) -> Any:
        """The value of the key, or ``default``. Counts as a lookup.

        Raises ``TypeError`` for an unhashable key, ``CorruptRecordError`` where the record doesn't match its checksum.
        """
        kind = type(key)
        token = key if kind is str or kind is int else keys.encode_lookup(key)
        cell, unchanged = self._tier.mark
        if cell[0] == unchanged:
            entry = self._front.get(token)  # type: ignore[arg-type]
            if entry is not None:
                hand = entry.hand
                if hand is None or entry.expires is None:
                    hits = self._hits
                    hits.append(entry)
                    if len(hits) >= BUFFER_LIMIT:
                        self._tier.replay()
                    return entry.value if hand is None else hand(entry.value)
        return self._fetch(key, token, default)

    def __contains__(self, key: object) -> bool:
        kind = type(key)
        token = key if kind is str or kind is int else keys.encode_lookup(key)
        cell, unchanged = self._tier.mark
        if cell[0] == unchanged:
            entry = self._front.get(token)  # type: ignore[arg-type]
            if entry is not None and entry.expires is None:
                return True
        return super().__contains__(key)

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Any]:
        """The keys that are there, with their values, in the order asked for; all as of one commit.

        Each key counts as a lookup.
        """
        wanted = _distinct(keys)
        found = self._all_from_memory(wanted)
        if found is not None:
            return found
        with self._view() as view:
            return {key: value for key, token in wanted if (value := self._read_at(view, key, token)) is not MISSING}

    # -- the slow half of a read ---------------------------------------------------------------------------------

    def _fetch(self, key: object, token: Token | None, default: Any) -> Any:
        """The value by way of the file, unless memory has it once it has caught up."""
        tier = self._tier
        if token is not None and self._capacity:
            cell, unchanged = tier.mark
            if cell[0] != unchanged:
                tier.catch_up()
            entry = self._recall(token)
            if entry is not None:
                self._hits.append(entry)
                return _handed_out(entry)
        return self._fetch_by(self._read_record, key, token, default)

    def _fetch_by(self, read: ReadRecord, key: object, token: Token | None, default: Any) -> Any:
        """The value by way of the file, which memory may keep."""
        next(self._misses)
        encoded = keys.encode_lookup(key)
        if encoded is not None:
            raw, commit = read(self._space, encoded)
            if raw is not None:
                try:
                    value, payload, extended, expires = record.load(self._binding + encoded, raw)
                except ValueError as error:
                    raise self._corrupt(encoded, error) from error
                if expires is None or expires > self._clock() * 1000:
                    if not self._capacity:
                        return value
                    return self._tier.offer(self._space, token, value, payload, extended, expires, commit)  # type: ignore[arg-type]
        next(self._absent)
        return default

    def _recall(self, token: Token) -> Entry | None:
        """The entry in memory, where it is as the file stands now and its time isn't over."""
        cell, unchanged = self._tier.mark
        if cell[0] != unchanged:
            return None
        entry = self._front.get(token)
        if entry is None or entry.expires is None or entry.expires > self._clock() * 1000:
            return entry
        self._tier.expired(entry)
        return None

    def _all_from_memory(self, wanted: list[tuple[Key, Token | None]]) -> dict[Key, Any] | None:
        """The values, where memory has every one of them as of one commit."""
        cell, unchanged = self._tier.mark
        entries = []
        for _, token in wanted:
            entry = None if token is None else self._recall(token)
            if entry is None:
                return None
            entries.append(entry)
        if cell[0] != unchanged:
            return None
        self._hits.extend(entries)
        if len(self._hits) >= BUFFER_LIMIT:
            self._tier.replay()
        return {key: _handed_out(entry) for (key, _), entry in zip(wanted, entries, strict=True)}

    def _read_at(self, view: Reading, key: Key, token: Token | None) -> Any:
        """The value as of ``view``, from memory where memory stands at the same commit."""
        entry = None if token is None else self._tier.recall_at(view.id, self._space, token)
        if entry is not None and (entry.expires is None or entry.expires > self._clock() * 1000):
            self._hits.append(entry)
            return _handed_out(entry)
        return self._fetch_by(lambda space, encoded: (view.get(space, encoded), view.id), key, token, MISSING)

    # -- where reads and writes go -------------------------------------------------------------------------------

    def _view(self) -> AbstractContextManager[Reading]:
        return self._engine.backend.read(self._space)

    def _commit(self, apply: Apply[R]) -> R:
        if self._readonly:
            raise ReadOnlyError(f"{self._engine.identity} was opened with readonly=True; open it for writing to change it")
        result: R = self._engine.committer.submit(Write(apply, self._tier))
        return result

    def _entry(
        self, key: Key, encoded: bytes, value: object, payload: bytes, extended: bool, expires: int | None
    ) -> Any:
        token = key if type(key) in (str, int) else encoded
        return self._tier.entry(self._space, token, value, payload, extended, expires)  # type: ignore[arg-type]

    def _shut(self) -> None:
        """Let every later call raise ``StoreClosedError``, though another handle may keep the engine open."""
        closed = ClosedEngine(self._engine.identity)
        self._engine = closed  # type: ignore[assignment]
        self._read_record = closed.refuse
        self._fetch = partial(self._fetch_by, closed.refuse)  # type: ignore[method-assign]


def _handed_out(entry: Entry) -> Any:
    return entry.value if entry.hand is None else entry.hand(entry.value)


def _distinct(wanted: Iterable[Key]) -> list[tuple[Key, Token | None]]:
    """Each key once, with its token. Not by Python's equality, by which ``True`` would stand in for ``1``."""
    found: dict[object, tuple[Key, Token | None]] = {}
    for key in wanted:
        token = key if type(key) in (str, int) else keys.encode_lookup(key)
        # What can't be a key is absent, each on its own.
        found.setdefault(object() if token is None else token, (key, token))  # type: ignore[arg-type]
    return list(found.values())
