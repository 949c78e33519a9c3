"""What each commit changed: how a memory tier drops exactly that, whoever committed.

The commit ids say *whether* something changed, this says *what*. A writer publishes the keys of a commit before it
commits; a memory tier that finds itself behind asks for everything in between. Where the answer isn't known for every
one of the ids, the answer is None, and the tier drops everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from kvstore.backends import Space

Change = tuple[Space, bytes]
"""A space and an encoded key; the empty key stands for the whole space."""


class Changes(Protocol):
    """A log of the changed keys of recent commits."""

    def publish(self, commit: int, changed: Iterable[Change]) -> None:
        """Say what the commit is about to change. Called by the holder of the write lock, before it commits."""

    def confirm(self, commit: int) -> None:
        """Say that the commit took place."""

    def retract(self, commit: int) -> None:
        """Say that the commit failed, or that nobody knows."""

    def between(self, seen: int, current: int) -> list[Change] | None:
        """What the commits after ``seen``, up to ``current``, have changed; None where that isn't known."""


class ProcessChanges:
    """The changes made by this process alone: a commit that another process made is not known."""

    _KEPT = 256

    def __init__(self) -> None:
        self._log: dict[int, list[Change]] = {}

    def publish(self, commit: int, changed: Iterable[Change]) -> None:
        self._log.pop(commit, None)
        while len(self._log) >= self._KEPT:
            del self._log[next(iter(self._log))]
        self._log[commit] = list(changed)

    def confirm(self, commit: int) -> None:
        pass

    def retract(self, commit: int) -> None:
        self._log.pop(commit, None)

    def between(self, seen: int, current: int) -> list[Change] | None:
        commits = [self._log.get(commit) for commit in range(seen + 1, current + 1)]
        if None in commits:
            return None
        return [change for commit in commits for change in commit or ()]
