"""Checking a whole store: the file's structure, each record's checksum and value, lists and sets, the expiry index."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvstore import codec, expiry, keys, record
from kvstore.backends import Backend, Reading, Space
from kvstore.errors import UnknownTypeError
from kvstore.verify_report import Problem, VerifyReport
from kvstore.verify_structures import structure_problems

__all__ = ["Problem", "VerifyReport", "verify"]


def verify(backend: Backend, progress: Callable[[int], object]) -> VerifyReport:
    """Check everything. Of a file whose structure is damaged no record is read: the engine trusts the structure, and would
    take the process down with it.
    """
    structure = tuple(Problem("structure", "", None, message) for message in backend.problems())
    if structure:
        return VerifyReport(0, structure)
    problems: list[Problem] = []
    records = 0

    def passed() -> None:
        nonlocal records
        records += 1
        progress(records)

    with backend.read() as view:
        for space in ("", *view.spaces()):
            for encoded, raw in view.scan(space, *keys.ALL):
                problems += _record_problems(view, space, encoded, raw)
                passed()
        problems += structure_problems(view, passed)
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
    if expires is not None and not expiry.is_entered(view, space, encoded, expires):
        yield Problem(
            "expiry", space, key, "the record ends, but the index doesn't know when; touch it or write it anew"
        )
