"""Which keys are sampled: a key's rank is how rare the sampling may become before it is left out.

It follows from the key's hash alone, so it is the same at every access, in every tier and in every process.
"""

from __future__ import annotations

from xxhash import xxh3_64_intdigest

from kvstore.backends import Space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

RANK: Final = 8
"""From one rank to the next. Ranks are multiples of it up to ``MOST_RANK``, so that Python keeps one object of each anyway,
and three bits are left to whoever stores one in a byte."""
MOST_RANK: Final = 31 * RANK
UNRANKED: Final = -1
"""The rank of what is never sampled."""

# What a byte must be below, of 256 values, for each of the ranks that a byte can tell apart: less by the root of two each time.
_BOUNDS: Final = tuple(round(256 * 2 ** (-step / 2)) for step in range(16))
_OF_BYTE: Final = b"".join(
    bytes([RANK * step]) * (bound - below)
    for step, bound, below in zip(range(15, -1, -1), _BOUNDS[::-1], (0, *_BOUNDS[:0:-1]), strict=True)
)


def rank(space: Space, token: str | int | bytes) -> int:
    """The rank of a key: of all keys, the share ``rate(r)`` has a rank of ``r`` or more."""
    seed = xxh3_64_intdigest(space.encode()) if space else 0
    if type(token) is str:
        digest = xxh3_64_intdigest(token.encode(), seed)
    elif type(token) is int:
        digest = xxh3_64_intdigest(b"%d" % token, seed ^ 1)
    else:
        digest = xxh3_64_intdigest(token, seed ^ 2)  # type: ignore[arg-type]
    # By its first byte, and where that is nothing, by the second.
    first = digest >> 56
    return _OF_BYTE[first] if first else len(_BOUNDS) * RANK + _OF_BYTE[digest >> 48]


def rate(floor: int) -> float:
    """The share of all keys that have this rank or a higher one."""
    bytes_gone, step = divmod(floor // RANK, len(_BOUNDS))
    return float(_BOUNDS[step] / 256 ** (bytes_gone + 1))
