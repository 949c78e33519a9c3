"""When records end: an index in the order of time, so that space comes back without scanning the store.

A record's own header says when it ends; reads go by that alone. The index, a space of its own, has an entry for every
expiring record that was written::

    key    8 bytes big-endian milliseconds since the epoch, 16 bytes XXH3-128 of space, 0x00, encoded key
    value  space, 0x00, encoded key

Whatever replaces or deletes a record takes its entry out. Clearing a space, which takes only the time of its pages, does so
where that means a few steps, and otherwise leaves them behind: such an entry names a record that isn't there, or has another
time, and is dropped when its time comes.

What is given up at once and too much to be deleted at once, the elements of a list or set, has an entry too: at time 0, of
the prefix of their keys (see `kvstore.elements`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

from xxhash import xxh3_128_digest

from kvstore import elements, record
from kvstore.backends import OWN_SPACE, Reading, Space, Writing
from kvstore.errors import StoreFullError
from kvstore.keys import ALL, MAX_KEY_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_TAKEN_ALONG: Final = 16
_FREED_AT_ONCE: Final = 1000
_AT_ONCE: Final = 0
_FEW: Final = 1000
"""Records, or index entries, that clearing a space may look at one by one."""

INDEX: Final = OWN_SPACE + "expiry"

Clock = Callable[[], float]
"""Seconds since the epoch, as ``time.time``."""


def deadline(clock: Clock, ttl: float | None) -> int | None:
    """The millisecond since the epoch at which a record written now with this ttl (seconds) ends; None for never.

    Raises ``TypeError`` for a ttl that is no number, ``ValueError`` for one that is not above 0 or too far away.
    """
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        raise TypeError(f"ttl must be a number of seconds or None, not {type(ttl).__name__}")
    if not 0 < ttl < math.inf:
        raise ValueError(f"ttl must be above 0 and finite, not {ttl!r}; leave it out for a record without an end")
    ends = math.ceil((clock() + ttl) * 1000)
    if not 0 <= ends < 1 << 63:
        raise ValueError(f"ttl={ttl!r} seconds is beyond what a record can say")
    return ends


def index_key(space: Space, encoded: bytes, expires: int) -> bytes:
    """Where the index has a record that ends at ``expires``."""
    return expires.to_bytes(8, "big") + xxh3_128_digest(_entry(space, encoded))


def _entry(space: Space, encoded: bytes) -> bytes:
    return b"\0".join((space.encode(), encoded))


def enter(txn: Writing, space: Space, encoded: bytes, expires: int) -> None:
    """Put a record that ends at ``expires`` into the index."""
    txn.put(INDEX, index_key(space, encoded, expires), _entry(space, encoded))


def leave(txn: Writing, space: Space, encoded: bytes) -> None:
    """Take the record that is about to be replaced or deleted out of the index, where it is in."""
    # Asked first, as it costs a store without expiring records least.
    if txn.count(INDEX):
        raw = txn.get(space, encoded)
        expires = None if raw is None else record.expiry_of(raw)
        if expires is not None:
            txn.delete(INDEX, index_key(space, encoded, expires))


def leave_all(txn: Writing, space: Space) -> None:
    """Take the records of a space that is about to be cleared out of the index, where they or all the entries are few."""
    entries = txn.count(INDEX)
    if not entries:
        return
    stale = []
    if entries <= _FEW:
        for entry, what in txn.scan(INDEX, b"", None):
            name, encoded = _named(entry, what)
            if encoded and name == space:
                stale.append(entry)
    elif txn.count(space) <= _FEW:
        for encoded, raw in txn.scan(space, *ALL):
            expires = record.expiry_of(raw)
            if expires is not None:
                stale.append(index_key(space, encoded, expires))
    # A store may be so full that there is no room for changing the index, and is cleared all the same.
    with contextlib.suppress(StoreFullError), txn.nested() as child:
        for entry in stale:
            child.delete(INDEX, entry)


def is_entered(view: Reading, space: Space, encoded: bytes, expires: int) -> bool:
    """Whether the index has a record that ends at ``expires``."""
    return view.get(INDEX, index_key(space, encoded, expires)) == _entry(space, encoded)


def due(txn: Reading, now: int) -> Iterator[tuple[bytes, Space, bytes]]:
    """The index entries whose time has come, earliest first: ``(index key, space, encoded key)``. One that is damaged has no
    key: nothing must be done to what it seems to name.
    """
    for index_key, what in txn.scan(INDEX, b"", (now + 1).to_bytes(8, "big")):
        yield index_key, *_named(index_key, what)


def _named(index_key: bytes, what: bytes) -> tuple[Space, bytes]:
    name, _, encoded = what.partition(b"\0")
    if index_key[8:] == xxh3_128_digest(what) and len(encoded) <= MAX_KEY_BYTES:
        with contextlib.suppress(UnicodeDecodeError):
            return name.decode(), encoded
    return "", b""


def ended(txn: Reading, index_key: bytes, space: Space, encoded: bytes) -> bool:
    """Whether the index entry tells the truth: the record is there and ends when the entry says."""
    raw = txn.get(space, encoded) if encoded else None
    return raw is not None and record.expiry_of(raw) == int.from_bytes(index_key[:8], "big")


def give_up(txn: Writing, prefix: bytes, limit: int = _FREED_AT_ONCE) -> int:
    """Delete the structures' keys that begin so, which nobody finds any more: up to ``limit`` at once, how many is the
    result, and the rest by and by.
    """
    freed = elements.free(txn, prefix, limit)
    if freed >= limit:
        space = elements.SPACE
        txn.put_freeing(INDEX, index_key(space, prefix, _AT_ONCE), _entry(space, prefix))
    return freed


def given_up(view: Reading) -> Iterator[bytes]:
    """The prefixes of what was given up and is not all deleted yet."""
    for _, space, prefix in due(view, _AT_ONCE):
        if space == elements.SPACE and elements.is_prefix(prefix):
            yield prefix


def purge_few(txn: Writing, clock: Clock) -> bool:
    """What a commit takes along: a bounded few of the records whose time has come, and no fewer than it has changed, so
    that what is given up can't pile up faster than it is freed. Whether there will ever be any.
    """
    if not txn.count(INDEX):
        return False
    now = int(clock() * 1000)
    if next(due(txn, now), None) is not None:
        limit = max(_TAKEN_ALONG, len(txn.changed))
        with txn.nested() as child:
            purge(child, now, limit)
    return True


def purge(txn: Writing, now: int, limit: int) -> int:
    """Delete up to ``limit`` records whose time has come, and elements that were given up; how many of them were records, a
    list or set counting as one.
    """
    purged = 0
    # A cursor must not walk what is being deleted: take the batch first.
    batch = [entry for entry, _ in zip(due(txn, now), range(limit), strict=False)]
    for index_key, space, encoded in batch:
        if limit <= 0:
            break
        limit -= 1
        if space == elements.SPACE and elements.is_prefix(encoded):
            txn.delete(INDEX, index_key)
            limit -= give_up(txn, encoded, limit)
        else:
            if ended(txn, index_key, space, encoded):
                limit -= _give_up_elements(txn, encoded, limit) if space == elements.SPACE else 0
                purged += txn.delete(space, encoded)
            txn.delete(INDEX, index_key)
    return purged


def _give_up_elements(txn: Writing, head: bytes, limit: int) -> int:
    raw = txn.get(elements.SPACE, head)
    return sum(give_up(txn, prefix, limit) for prefix in ([] if raw is None else elements.elements_under(head, raw)))
