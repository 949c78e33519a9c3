"""Which keys are sampled: a key's rank is how rare the sampling may become before it is left out.

It follows from the key's hash alone, so it is the same at every access, in every tier and in every process.
"""

from __future__ import annotations

import xxhash

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


def rank(space: Space, token: str | int | bytes) -> int:
    """The rank of a key: of all keys, the share ``rate(r)`` has a rank of ``r`` or more."""
    seed = xxhash.xxh3_64_intdigest(space.encode()) if space else 0
    if isinstance(token, str):
        digest = xxhash.xxh3_64_intdigest(token.encode(), seed)
    elif isinstance(token, int):
        digest = xxhash.xxh3_64_intdigest(b"%d" % token, seed ^ 1)
    else:
        digest = xxhash.xxh3_64_intdigest(token, seed ^ 2)
    # Squared, each factor of two is two bits, and so ranks are half as far apart.
    return min((128 - (digest * digest).bit_length()) * RANK, MOST_RANK)


def rate(floor: int) -> float:
    """The share of all keys that have this rank or a higher one: less by the root of two with each rank."""
    return float(2.0 ** (-floor / RANK / 2))
