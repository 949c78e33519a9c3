"""A space behind the memory tier: the hot path of every read, and the way of every write.

A hit opens no transaction, decodes nothing and takes no lock. Its few lines stand twice, in ``get`` and in
``[]``: a call between them would cost a fifth of a hit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

from kvstore import expiry, keys, record
from kvstore.backends import Reading, Space, Writing
from kvstore.commit_write import Write
from kvstore.engine import ClosedEngine, Engine
from kvstore.errors import ReadOnlyError
from kvstore.expiry import Clock
from kvstore.frozen import Frozen
from kvstore.keys import Key
from kvstore.memory import BUFFER_LIMIT, MemoryTier, own
from kvstore.memory_entry import Entry, Token
from kvstore.missing import MISSING
from kvstore.writing import SHALLOW, Apply, WritableSpace, put_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    R = TypeVar("R")

ReadRecord = Callable[[Space, bytes], tuple[bytes | None, int]]
"""Where a record is read, and the commit that it was read at."""


class Handle(Frozen):
    """What one ``open`` of a store has of its own, and what it shares."""

    engine: Engine
    tier: MemoryTier
    clock: Clock
    timeout: float | None
    readonly: bool


class CachedSpace(WritableSpace):
    """One space of an open store, read through the memory tier and written through to the file."""

    def __init__(self, space: Space, handle: Handle) -> None:
        super().__init__(space, handle.clock)
        tier = handle.tier
        self._handle = handle
        self._engine = handle.engine
        self._read_record = handle.engine.backend.get
        self._tier = tier
        self._front = tier.front(space)
        self._hits = tier.hits
        self._read_alone = handle.engine.backend.get_record
        self._alone = not tier.capacity
        self._misses, self._absent = tier.tallies(space)
        self._note = tier.note
        self._make = tier.maker.make
        # One object, by which the group commit knows what can be put together.
        self._put_plain = partial(put_all, space)
        self._dependents: list[Callable[[], object]] = []
        """Called when the store is closed."""

    def __getitem__(self, key: Key) -> Any:
        """The value of the key. Raises ``KeyError`` where there is none, otherwise as ``get``."""
        cell, unchanged = self._tier.mark
        entry: Entry | None
        if cell[0] == unchanged:
            kind = type(key)
            token: Any = key if kind is str or kind is int else keys.encode_lookup(key)
            try:
                entry = self._front[token]  # not ``get``: a hit pays no call
            except KeyError:
                entry = None
            if entry is not None:
                hand = entry.hand
                if hand is None or entry.expires is None:
                    hits = self._hits
                    hits.append(entry)
                    if len(hits) >= BUFFER_LIMIT:
                        self._tier.replay()
                    return entry.value if hand is None else hand(entry.value)
            else:
                return self._missed(key, token)
        value = self._fetch_alone(key, MISSING) if self._alone else self._fetch(key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    def get(self, key: Key, default: Any = None) -> Any:
        """The value of the key, or ``default``. Counts as a lookup.

        Raises ``TypeError`` for an unhashable key, ``CorruptRecordError`` where the record doesn't match its
        checksum.
        """
        cell, unchanged = self._tier.mark
        entry: Entry | None
        if cell[0] == unchanged:
            kind = type(key)
            token: Any = key if kind is str or kind is int else keys.encode_lookup(key)
            try:
                entry = self._front[token]  # not ``get``: a hit pays no call
            except KeyError:
                entry = None
            if entry is not None:
                hand = entry.hand
                if hand is None or entry.expires is None:
                    hits = self._hits
                    hits.append(entry)
                    if len(hits) >= BUFFER_LIMIT:
                        self._tier.replay()
                    return entry.value if hand is None else hand(entry.value)
            else:
                return self._fetch_by(key, token, default)
        return self._fetch_alone(key, default) if self._alone else self._fetch(key, default)

    def __contains__(self, key: object) -> bool:
        cell, unchanged = self._tier.mark
        if cell[0] == unchanged:
            entry = self._front.get(_token(key))  # type: ignore[arg-type]  # where there is no token, there is no entry
            if entry is not None and entry.expires is None:
                return True
        encoded = keys.encode_lookup(key)
        # Not by a view, which may have to wait for another process's writer where the space is new to this one.
        raw = None if encoded is None else self._record_of(encoded)
        return raw is not None and self._is_live(raw)

    def _record_of(self, encoded: bytes) -> bytes | None:
        return self._engine.backend.get(self._space, encoded)[0]

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Any]:
        """The keys that are there, with their values, in the order asked for; all as of one commit.

        Each key counts as a lookup.
        """
        wanted = _distinct(keys)
        values = self._in_memory([token for _, token in wanted])
        if values is not None:
            return {key: value for (key, _), value in zip(wanted, values, strict=True)}
        values = self._read_together(wanted)
        return {key: value for (key, _), value in zip(wanted, values, strict=True) if value is not MISSING}

    def _get_encoded(self, wanted: Mapping[bytes, Key]) -> dict[bytes, Any]:
        """As ``get_many``, by the keys' encodings, which are their tokens: none of these keys is a str or an int."""
        if len(wanted) == 1:
            # As ``get``, since a view may have to wait for another process's writer where the space is new to this one.
            return {
                token: value for token, key in wanted.items() if (value := self._fetch(key, MISSING)) is not MISSING
            }
        values = self._read_together([(key, token) for token, key in wanted.items()])
        return {token: value for token, value in zip(wanted, values, strict=True) if value is not MISSING}

    # -- the slow half of a read -----------------------------------------------------------------------------

    def _missed(self, key: Key, token: Token | None) -> Any:
        """As ``[]``, of what memory doesn't have. Not written out there: a jump beyond it would take a hit a step more."""
        value = self._fetch_by(key, token, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    def _fetch(self, key: object, default: Any) -> Any:
        """The value by way of the file, unless memory has it once it has caught up."""
        tier = self._tier
        token = _token(key)
        if token is not None:
            cell, unchanged = tier.mark
            if cell[0] != unchanged:
                tier.catch_up()
            # Not compared once more: what memory has is no older than the file was a moment ago, after this read began.
            entry = self._remembered(token)
            if entry is not None:
                self._hit(entry)
                return _handed_out(entry)
        return self._fetch_by(key, token, default)

    def _fetch_by(self, key: object, token: Token | None, default: Any) -> Any:
        """The value by way of the file, which memory may keep."""
        next(self._misses)
        if type(key) is str:
            # As `keys.encode_lookup`, which would be a call more. A key too long for LMDB isn't found in it.
            try:
                encoded: Any = b"\x02" + key.encode()
            except UnicodeEncodeError:
                encoded = None
        else:
            encoded = keys.encode_int_lookup(key) if type(key) is int else token
        if encoded is not None:
            space = self._space
            raw, commit = self._read_record(space, encoded)
            if raw is not None:
                try:
                    value, payload, extended, expires = record.load(self._binding + encoded, raw)
                except ValueError as error:
                    raise self._corrupt(encoded, error) from error
                if expires is None or expires > self._clock() * 1000:
                    entry = self._make(space, token, value, payload, extended, expires)  # type: ignore[arg-type]
                    return self._tier.offer(entry, value, commit)
        next(self._absent)
        return default

    def _fetch_alone(self, key: object, default: Any) -> Any:
        """The value by way of the file, where the memory tier is off: a miss in as few calls as possible."""
        next(self._misses)
        if type(key) is str:
            # As `keys.encode_lookup`, which would be a call more. A key too long for LMDB isn't found in it.
            try:
                encoded: bytes | None = b"\x02" + key.encode()
            except UnicodeEncodeError:
                encoded = None
        else:
            encoded = keys.encode_lookup(key)
        if encoded is not None:
            read = self._read_alone
            raw = read(self._space, encoded)
            if raw is not None:
                try:
                    value, _, _, expires = record.load(self._binding + encoded, raw)
                except ValueError as error:
                    raise self._corrupt(encoded, error) from error
                if expires is None or expires > self._clock() * 1000:
                    return value
        next(self._absent)
        return default

    def _hit(self, entry: Entry) -> None:
        """What a hit does beside handing out."""
        self._hits.append(entry)
        if len(self._hits) >= BUFFER_LIMIT:
            self._tier.replay()

    def _recall(self, token: Token) -> Entry | None:
        """The entry in memory, where it is as the file stands now and its time isn't over."""
        cell, unchanged = self._tier.mark
        return self._remembered(token) if cell[0] == unchanged else None

    def _remembered(self, token: Token) -> Entry | None:
        entry = self._front.get(token)
        if entry is None or entry.expires is None or entry.expires > self._clock() * 1000:
            return entry
        self._tier.expired(entry)
        return None

    def _in_memory(self, tokens: Sequence[Token | None]) -> list[Any] | None:
        """The values in the tokens' order, where memory has every one of them as of one commit: then each is a lookup."""
        cell, unchanged = self._tier.mark
        if cell[0] != unchanged:
            self._tier.catch_up()
            cell, unchanged = self._tier.mark
            if cell[0] != unchanged:
                return None
        front: Any = self._front  # nothing is under None
        try:
            entries = [front[token] for token in tokens]
        except KeyError:
            return None
        values = [entry.value for entry in entries if entry.hand is None]
        if len(values) < len(entries):
            for entry in entries:
                if entry.expires is not None and self._recall(entry.token) is not entry:
                    return None
        if cell[0] != unchanged:
            return None
        self._hits.extend(entries)
        if len(self._hits) >= BUFFER_LIMIT:
            self._tier.replay()
        return values if len(values) == len(entries) else list(map(_handed_out, entries))

    def _read_together(self, wanted: Sequence[tuple[Key, Token | None]]) -> list[Any]:
        """The values as of one commit, ``MISSING`` where there is none: from memory where memory stands at that commit."""
        with self._view() as view:
            commit = view.id
            entries = self._tier.recall_at(commit, self._space, [token for _, token in wanted])
            values = []
            # All of them hits before the first miss, which may evict one.
            for entry in entries:
                if entry is None:
                    values.append(MISSING)
                elif entry.expires is None or entry.expires > self._clock() * 1000:
                    self._hit(entry)
                    values.append(_handed_out(entry))
                else:
                    self._tier.expired(entry)
                    values.append(MISSING)
            for place, (key, token) in enumerate(wanted):
                if values[place] is MISSING:
                    values[place] = self._fetch_at(view, commit, key, token)
            return values

    def _fetch_at(self, view: Reading, commit: int, key: Key, token: Token | None) -> Any:
        """As ``_fetch_by``, by way of the file as of ``view``, which is of that commit; ``MISSING`` where there is none."""
        next(self._misses)
        if type(key) is str:
            encoded: Any = keys.encode_lookup(key)
        else:
            encoded = keys.encode_int_lookup(key) if type(key) is int else token
        space = self._space
        raw = None if encoded is None else view.get(space, encoded)
        if raw is not None:
            try:
                value, payload, extended, expires = record.load(self._binding + encoded, raw)
            except ValueError as error:
                raise self._corrupt(encoded, error) from error
            if expires is None or expires > self._clock() * 1000:
                if self._alone:
                    return value
                entry = self._make(space, token, value, payload, extended, expires)  # type: ignore[arg-type]
                return self._tier.offer(entry, value, commit)
        next(self._absent)
        return MISSING

    # -- the common write ------------------------------------------------------------------------------------

    def set(self, key: Key, value: Any, *, ttl: float | None = None) -> None:
        """Store the value, over whatever is there. ``ttl``: seconds until the record ends; None for never.

        Raises ``InvalidKeyError``, ``UnstorableValueError`` (before anything is written), ``StoreFullError``.
        """
        if ttl is not None:
            super().set(key, value, ttl=ttl)
            return
        # As the base's, in as few calls as possible: after the flush of the last commit each of them comes to a cold processor.
        handle, tier = self._handle, self._tier
        if handle.readonly:
            self._refuse_readonly()
        kind = type(key)
        try:
            # As `keys.encode`, which would be a call more, and is asked for what is wrong.
            encoded = b"\x02" + key.encode() if kind is str else keys.encode(key)  # type: ignore[union-attr]
        except UnicodeEncodeError:
            encoded = keys.encode(key)
        if len(encoded) > keys.MAX_KEY_BYTES:
            keys.encode(key)
        if type(value) in SHALLOW:
            value = value.copy()
        raw, payload, extended = record.dump(self._binding + encoded, value)
        note = None
        if tier.capacity:
            token: Any = key if kind is str or kind is int else encoded
            note = tier, token, own(value, payload) if extended else value, payload, extended, None
        committer = self._engine.committer
        if self._space or not committer.put(encoded, raw, note, tier, handle.timeout):
            committer.commit(self._put_plain, tier, self._purge_few, handle.timeout, (encoded, raw, note))

    # -- where reads and writes go ---------------------------------------------------------------------------

    def _counting_view(self) -> AbstractContextManager[Reading]:
        return self._engine.backend.read("")

    def _view(self, *also: Space) -> AbstractContextManager[Reading]:
        return self._engine.backend.read(self._space, *also)

    def _source(self) -> object:
        return self._engine

    def _commit(self, apply: Apply[R]) -> R:
        handle = self._handle
        if handle.readonly:
            self._refuse_readonly()
        result: R = self._engine.committer.commit(apply, self._tier, self._purge_few, handle.timeout)
        return result

    def _commit_alone(self, apply: Apply[R]) -> R:
        self._refuse_readonly()
        result: R = self._engine.committer.commit(apply, self._tier, timeout=self._handle.timeout)
        return result

    def _wish(self, apply: Apply[Any]) -> Write:
        self._refuse_readonly()
        return Write(apply, self._tier, self._purge_few, self._handle.timeout)

    def _refuse_readonly(self) -> None:
        if self._handle.readonly:
            raise ReadOnlyError(
                f"{self._engine.identity} was opened with readonly=True; open it for writing to change it"
            )

    def _purge_few(self, txn: Writing) -> bool:
        return expiry.purge_few(txn, self._clock)

    def get_or_set(self, key: Key, factory: Callable[[], Any], *, ttl: float | None = None) -> Any:
        """The value of the key; where it has none, ``factory()``, stored. Counts as a lookup.

        The factory runs once, however many threads and processes ask: the others wait for it. Where it
        raises, its caller gets the exception and one of the others takes its turn; where its process dies,
        too. It runs outside every lock and may use the store. Raises as ``set``.
        """
        value = self.get(key, MISSING)
        if value is not MISSING:
            return value
        self._refuse_readonly()

        def make() -> Any:
            made = factory()
            self.set(key, made, ttl=ttl)
            return made

        address = (self._space, keys.encode(key))
        return self._engine.flights.run(address, lambda: WritableSpace.get(self, key, MISSING), make)

    def _shut(self) -> None:
        """Let every later call raise ``StoreClosedError``, though another handle may keep the engine open."""
        closed = ClosedEngine(self._engine.identity)
        self._engine = closed  # type: ignore[assignment]
        self._read_record = closed.refuse  # type: ignore[assignment]
        self._read_alone = closed.refuse  # type: ignore[assignment]
        self._alone = True
        while self._dependents:
            self._dependents.pop()()


def _token(key: object) -> Token | None:
    """What memory looks the key up by; None for what is no key."""
    return key if type(key) in (str, int) else keys.encode_lookup(key)  # type: ignore[return-value]


def _handed_out(entry: Entry) -> Any:
    return entry.value if entry.hand is None else entry.hand(entry.value)


def _distinct(wanted: Iterable[Key]) -> list[tuple[Key, Token | None]]:
    """Each key once, with its token. Not by Python's equality, by which ``True`` would stand in for ``1``."""
    found: dict[object, tuple[Key, Token | None]] = {}
    for key in wanted:
        token = _token(key)
        # What can't be a key is absent, each on its own.
        found.setdefault(object() if token is None else token, (key, token))
    return list(found.values())
