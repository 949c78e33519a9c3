"""What checking a store gives."""

from __future__ import annotations

from kvstore.frozen import Frozen


class Problem(Frozen):
    """One thing that is wrong. ``key`` is None where it is not that of a record, list or set; the raw bytes
    where they are no key.
    """

    kind: str
    """``"structure"``, ``"lost"``, ``"key"``, ``"record"`` or ``"expiry"``."""
    namespace: str
    key: object
    message: str
    until: object = None
    """Where records are lost with their keys: the key that comes after them, as ``key`` is the one that they begin with. None
    where that isn't known."""


class VerifyReport(Frozen):
    """What ``Store.verify`` has found: how many records it has read, elements of lists and sets among them, and every problem."""

    records: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems
