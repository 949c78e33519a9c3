"""Checking a whole store: the file's structure, each record's checksum and value, the expiry index."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvstore import codec, expiry, keys, record
from kvstore.backends import Backend, Reading, Space
from kvstore.errors import UnknownTypeError
from kvstore.frozen import Frozen


class Problem(Frozen):
    """One thing that is wrong. ``key`` is None where it is not a record's; the raw bytes where they are no key."""

    kind: str
    """``"structure"``, ``"key"``, ``"record"`` or ``"expiry"``."""
    namespace: str
    key: object
    message: str


class VerifyReport(Frozen):
    """What ``Store.verify`` has found: how many records it has read, and every problem."""

    records: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(backend: Backend, progress: Callable[[int], object]) -> VerifyReport:
    """Check everything. Of a file whose structure is damaged no record is read: the engine trusts the structure, and would
    take the process down with it.
    """
    structure = tuple(Problem("structure", "", None, message) for message in backend.problems())
    if structure:
        return VerifyReport(0, structure)
    problems: list[Problem] = []
    records = 0
    with backend.read() as view:
        for space in ("", *view.spaces()):
            for encoded, raw in view.scan(space, *keys.ALL):
                records += 1
                problems += _record_problems(view, space, encoded, raw)
                progress(records)
    return VerifyReport(records, tuple(problems))


def _record_problems(view: Reading, space: Space, encoded: bytes, raw: bytes) -> Iterator[Problem]:
    key: object = encoded
    try:
        key = keys.decode(encoded)
    except ValueError as error:
        yield Problem("key", space, key, f"not a key that kvstore wrote: {error}")
    try:
        payload, extended, expires = record.unpack(space.encode() + encoded, raw)
        codec.decode_opaque(payload, extended)
    except (ValueError, UnknownTypeError) as error:
        yield Problem("record", space, key, str(error))
        return
    if expires is not None and view.get(expiry.INDEX, expiry.index_key(space, encoded, expires)) is None:
        yield Problem(
            "expiry", space, key, "the record ends, but the index doesn't know when; touch it or write it anew"
        )
