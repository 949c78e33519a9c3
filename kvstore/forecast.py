"""Hit rates that the memory tier would have at other sizes and with other policies, from the traffic that it has had.

>>> print(store.forecast(policies=["lru", "lfu"]))            # doctest: +SKIP
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from kvstore.errors import KvstoreError
from kvstore.forecast_simulation import Miniatures
from kvstore.frozen import Frozen
from kvstore.memory_sample import Traffic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, TypeAlias

    PolicyName: TypeAlias = "str | type[Any]"

A_POINT: Final = 0.01
_SIZES: Final = 8
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


class Prediction(Frozen):
    """A row of a forecast: what the hit rate would have been with this policy at this size."""

    policy: PolicyName
    """As it is given to ``kvstore.open``: a name, or a class."""
    size: int
    """``cache_size``, in bytes."""
    hit_rate: float | None
    """Hits among all lookups, from 0 to 1; None where nothing was looked up."""
    error: float | None
    """The standard error of ``hit_rate`` that comes from looking at a sample of the keys; 0 where all were. Within twice it lie
    nine forecasts of ten, fewer where a few hundred keys are sampled."""


class Forecast(Frozen):
    """Predicted hit rates: iterable as ``Prediction`` rows by policy and size, printed as a table."""

    rows: tuple[Prediction, ...]
    policy: PolicyName
    """The policy that the store has."""
    cache_size: int
    """The size that its memory tier has."""
    measured: float | None
    """The hit rate that the store itself had in the time that the forecast is for, counted exactly. With the prediction for
    ``policy`` at ``cache_size`` it shows how good the forecast is."""
    lookups: int
    """The lookups in that time: the most recent ones, mostly all since the store was opened."""
    sampled: float
    """The share of the keys that was looked at, from 0 to 1."""

    def hit_rate(self, policy: PolicyName, size: int) -> float | None:
        """The predicted hit rate, from 0 to 1; None where nothing was looked up. Raises ``ValueError`` for what was not
        asked for.
        """
        return self.row(policy, size).hit_rate

    def row(self, policy: PolicyName, size: int) -> Prediction:
        """The prediction for a policy and a size. Raises as ``hit_rate``."""
        for row in self.rows:
            if row.policy == policy and row.size == size:
                return row
        policies, sizes = dict.fromkeys(row.policy for row in self.rows), dict.fromkeys(row.size for row in self.rows)
        raise ValueError(
            f"no forecast of {_name(policy)!r} at {size} bytes, only of {', '.join(map(_name, policies))} at "
            f"{', '.join(map(str, sizes))}; give forecast() the sizes and policies that are wanted"
        )

    def recommend(self, target: float = 1.0) -> Prediction:
        """The smallest size whose hit rate reaches ``target``, from 0 to 1. Where none does, the smallest within a point
        (0.01) of the best rate: more memory than that buys next to nothing. Of several policies, the best one at that size.

        Raises ``ValueError`` for a target that is no rate, ``KvstoreError`` where nothing was looked up.
        """
        if not 0 <= target <= 1:
            raise ValueError(f"target is a hit rate, from 0 to 1, not {target!r}")
        rated = [(row.hit_rate, row) for row in self.rows if row.hit_rate is not None]
        if not rated:
            raise KvstoreError(
                "nothing was looked up yet, so nothing can be recommended; let the store serve for a while"
            )
        best = max(rate for rate, _ in rated)
        enough = target if target <= best else best - A_POINT
        # Compared by size and rate alone, the first one asked for winning a tie.
        return min(
            ((rate, row) for rate, row in rated if rate >= enough), key=lambda found: (found[1].size, -found[0])
        )[1]

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        policies = list(dict.fromkeys(row.policy for row in self.rows))
        lines = [["cache_size", *map(_name, policies)]]
        for size in dict.fromkeys(row.size for row in self.rows):
            mark = " *" if size == self.cache_size else ""
            lines.append([_size(size) + mark, *(_rate(self.row(policy, size)) for policy in policies)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
        ]
        return "\n".join([*table, "", self._summary()])

    def _summary(self) -> str:
        if self.measured is None:
            return "nothing was looked up yet"
        sampled = "every key" if self.sampled == 1 else f"one key in {1 / self.sampled:.3g}"
        return (
            f"* measured: {self.measured:.1%} with {_name(self.policy)} at {_size(self.cache_size)}, "
            f"over {self.lookups:,} lookups; {sampled} sampled"
        )


def forecast(
    traffic: Traffic, cache_size: int, policy: PolicyName, sizes: Iterable[int] | None, policies: Iterable[PolicyName]
) -> Forecast:
    """Run the traffic of a tier through each policy at each size; ``cache_size`` and ``policy`` are the tier's own.

    Raises ``ValueError`` and ``TypeError`` for sizes and policies that make no sense.
    """
    if isinstance(policies, (str, type)):
        raise TypeError(f"policies is a sequence of policies, such as ({policies!r},), not one of them")
    wanted = list(dict.fromkeys(policies))
    if not wanted:
        raise ValueError("policies is empty; name one at least, such as 'lru'")
    miniatures = Miniatures(traffic, policy)
    checked = _default_sizes(miniatures.footprint, cache_size) if sizes is None else sorted(set(map(_checked, sizes)))
    if not checked:
        raise ValueError("sizes is empty; give one at least, or None for a range around what the traffic needs")
    rows = []
    for each in wanted:
        for size in checked:
            rows.append(Prediction(each, size, *miniatures.hit_rate(each, size)))
    return Forecast(tuple(rows), policy, cache_size, miniatures.measured, miniatures.lookups, traffic.rate)


def _default_sizes(footprint: float, cache_size: int) -> list[int]:
    """The tier's own size, and that size doubled or halved to where everything fits, and from there down."""
    top = math.ceil(math.log2(footprint / cache_size)) if footprint else 0
    doublings = {0, *range(top, top - _SIZES, -1)}
    return sorted({max(1, int(cache_size * 2.0**doubling)) for doubling in doublings})


def _checked(size: int) -> int:
    if type(size) is not int:
        raise TypeError(f"a size is a number of bytes, an int, not {type(size).__name__}")
    if size < 1:
        raise ValueError(f"a size must be at least 1 byte, not {size}")
    return size


def _name(policy: PolicyName) -> str:
    return policy if isinstance(policy, str) else policy.__name__


def _size(size: int) -> str:
    """A size in the unit that it is easiest to read in."""
    power = min((size.bit_length() - 1) // 10, len(_UNITS) - 1)
    return f"{size / 1024**power:.4g} {_UNITS[power]}"


def _rate(row: Prediction) -> str:
    if row.hit_rate is None or row.error is None:
        return "-"
    return f"{row.hit_rate:.1%}" + (f" ± {100 * row.error:.1f}" if row.error else "")
