"""Checking a whole store: the file's structure, each record's checksum and value, lists and sets, the expiry index."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvstore import codec, elements, expiry, keys, record
from kvstore.backends import OWN_SPACE, Backend, Flaw, Reading, Space
from kvstore.errors import UnknownTypeError
from kvstore.verify_report import Problem, VerifyReport
from kvstore.verify_structures import structure_problems

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["Problem", "VerifyReport", "verify"]


# Wider than the range of keys: a damaged one may be anywhere.
_ALL: Final[tuple[bytes, bytes | None]] = b"", None
_OWN: Final = (expiry.INDEX, elements.SPACE)
_NO_NAME: Final = b"", keys.ALL[1]


def verify(backend: Backend, progress: Callable[[int], object]) -> VerifyReport:
    """Check everything. Of a file whose structure is damaged the records are read without the engine, as far as they can be: it
    trusts the structure, and would take the process down with it.
    """
    problems = [Problem("structure", "", None, message) for message in backend.problems(_OWN)]
    if not problems:
        with backend.read() as view:
            return _verified(view, progress, problems, _NO_NAME, lambda space, key: True)
    with backend.remains() as remains:
        report = _verified(remains, progress, problems, _ALL, remains.reaches)
        lost = [problem for flaw in remains.flaws for problem in _losses(flaw)]
        return report.replaced(problems=(*report.problems, *lost))


def _verified(
    view: Reading,
    progress: Callable[[int], object],
    problems: list[Problem],
    default: tuple[bytes, bytes | None],
    reaches: Callable[[Space, bytes], bool],
) -> VerifyReport:
    records = 0

    def passed() -> None:
        nonlocal records
        records += 1
        progress(records)

    for space in ("", *view.spaces()):
        for encoded, raw in view.scan(space, *(_ALL if space else default)):
            problems += _record_problems(view, space, encoded, raw)
            if not reaches(space, encoded):
                problems.append(Problem("key", space, _key(encoded), "it is there, but a read doesn't find it"))
            passed()
    problems += structure_problems(view, passed)
    return VerifyReport(records, tuple(problems))


def _losses(flaw: Flaw) -> Iterator[Problem]:
    """What lost keys mean. Those of the library's own are named by what depends on them, where that is known."""
    if flaw.space.startswith(OWN_SPACE):
        what = flaw.space.removeprefix(OWN_SPACE)
        yield Problem("structure", "", None, f"a part of the store's own {what} is lost: {flaw.message}")
        return
    low, high = (None if bound is None or bound >= keys.ALL[1] else _key(bound) for bound in (flaw.low, flaw.high))
    if flaw.low is None or flaw.low < keys.ALL[1]:
        yield Problem(
            "lost",
            flaw.space,
            low,
            f"what was stored from here on is lost, or is not what it was: {flaw.message}",
            high,
        )
    if not flaw.space and (flaw.high is None or flaw.high >= keys.ALL[1]):
        yield Problem("structure", "", None, f"whole namespaces may be lost, and lists and sets: {flaw.message}")


def _key(encoded: bytes) -> object:
    try:
        return keys.decode(encoded)
    except ValueError:
        return encoded


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
