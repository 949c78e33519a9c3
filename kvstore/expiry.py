"""When records end: an index in the order of time, so that space comes back without scanning the store.

A record's own header says when it ends; reads go by that alone. The index, a space of its own, has an entry for every
expiring record that was written::

    key    8 bytes big-endian milliseconds since the epoch, 16 bytes XXH3-128 of space, 0x00, encoded key
    value  space, 0x00, encoded key

Overwriting or deleting a record leaves its index entry behind, which spares every write without a ttl a look at the
record before it. Such an entry names a time that the record no longer has, and is dropped when that time comes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from xxhash import xxh3_128_digest

from kvstore import record
from kvstore.backends import OWN_SPACE, Reading, Space, Writing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_TAKEN_ALONG: Final = 16

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
    return expires.to_bytes(8, "big") + xxh3_128_digest(b"\0".join((space.encode(), encoded)))


def enter(txn: Writing, space: Space, encoded: bytes, expires: int) -> None:
    """Put a record that ends at ``expires`` into the index."""
    txn.put(INDEX, index_key(space, encoded, expires), b"\0".join((space.encode(), encoded)))


def due(txn: Reading, now: int) -> Iterator[tuple[bytes, Space, bytes]]:
    """The index entries whose time has come, earliest first: ``(index key, space, encoded key)``."""
    for index_key, what in txn.scan(INDEX, b"", (now + 1).to_bytes(8, "big")):
        name, _, encoded = what.partition(b"\0")
        yield index_key, name.decode(), encoded


def ended(txn: Reading, index_key: bytes, space: Space, encoded: bytes) -> bool:
    """Whether the index entry tells the truth: the record is there and ends when the entry says."""
    raw = txn.get(space, encoded)
    return raw is not None and record.expiry_of(raw) == int.from_bytes(index_key[:8], "big")


def purge_few(txn: Writing, clock: Clock) -> bool:
    """What a commit takes along: a bounded few of the records whose time has come. Whether any record ever expires."""
    if not txn.count(INDEX):
        return False
    now = int(clock() * 1000)
    if next(due(txn, now), None) is not None:
        with txn.nested() as child:
            purge(child, now, _TAKEN_ALONG)
    return True


def purge(txn: Writing, now: int, limit: int) -> int:
    """Delete up to ``limit`` records whose time has come; how many were deleted."""
    purged = 0
    # A cursor must not walk what is being deleted: take the batch first.
    batch = [entry for entry, _ in zip(due(txn, now), range(limit), strict=False)]
    for index_key, space, encoded in batch:
        if ended(txn, index_key, space, encoded):
            purged += txn.delete(space, encoded)
        txn.delete(INDEX, index_key)
    return purged
