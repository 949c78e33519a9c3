"""One row of the table: what is measured, against what, and the limit it must keep."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class NotMeasurableError(Exception):
    """This machine can't tell; the message says why."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a row's run gave; ``ours`` and ``theirs`` are medians per operation, in ``unit``: "s", "B", "/s", ""."""

    ratios: tuple[float, ...]
    ours: float
    theirs: float
    unit: str

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: a disturbed round moves it by one place, not by its size."""
        return statistics.median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        """The middle half of the ratios: first and third quartile."""
        if len(self.ratios) < 2:
            return (self.ratio, self.ratio)
        first, _, third = statistics.quantiles(self.ratios, n=4)
        return (first, third)


@dataclass(frozen=True, slots=True)
class Limit:
    """The range that a ratio must lie in; None is no bound."""

    at_least: float | None = None
    at_most: float | None = None

    def holds(self, ratio: float) -> bool:
        """Whether ``ratio`` keeps the limit."""
        return (self.at_least is None or ratio >= self.at_least) and (self.at_most is None or ratio <= self.at_most)

    def __str__(self) -> str:
        if self.at_least is None:
            return f"at most {self.at_most:g}"
        if self.at_most is None:
            return f"at least {self.at_least:g}"
        return f"{self.at_least:g} to {self.at_most:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """A row to be measured. ``measure`` is given an empty directory of its own."""

    operation: str
    against: str
    limit: Limit
    measure: Callable[[Path], Measurement]


def row(
    operation: str, against: str, *, at_least: float | None = None, at_most: float | None = None
) -> Callable[[Callable[[Path], Measurement]], Row]:
    """Decorator that makes a row of the function that measures it."""
    return lambda measure: Row(operation, against, Limit(at_least, at_most), measure)
