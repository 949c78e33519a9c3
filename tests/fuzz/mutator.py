"""Inputs made from samples: mostly right, and wrong somewhere. The same seed makes the same ones."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final

LONGEST: Final = 4_096
_TELLING: Final = [bytes([number]) for number in (0, 1, 0x10, 0x7F, 0x80, 0xC1, 0xC7, 0xC9, 0xDD, 0xDF, 0xFF)] + [
    bytes(4),
    b"\xff" * 4,
    b"\x7f" + b"\xff" * 7,
    b"\xff" * 8,
    (1 << 20).to_bytes(8, "little"),
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"null", b"true", b"-0", b"1e400", b"NaN", b"\n"),
    *(b'"$bytes"', b'"$tuple"', b'"$set"', b"\\ud800"),
]


def inputs(samples: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Inputs without an end."""
    rng = random.Random(seed)
    while True:
        data = bytearray(rng.choice(samples))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
            _change(data, samples, rng)
        yield bytes(data[:LONGEST])


def _change(data: bytearray, samples: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice((1, 1, 2, 4, 8, 40)))
    match rng.randrange(9):
        case 0 if data:
            at = min(at, len(data) - 1)
            data[at] ^= 1 << rng.randrange(8)
        case 1 if data:
            data[min(at, len(data) - 1)] = rng.randrange(256)
        case 2:
            data[at:at] = rng.choice(_TELLING)
        case 3:
            data[at:end] = rng.choice(_TELLING)
        case 4:
            del data[at:end]
        case 5:
            data[at:at] = data[at:end] * rng.randrange(1, 9)
        case 6:
            other = rng.choice(samples)
            begin = rng.randrange(len(other) + 1)
            data[at:] = other[begin:]
        case 7:
            other = rng.choice(samples)
            begin = rng.randrange(len(other) + 1)
            data[at:at] = other[begin : begin + rng.randrange(1, 60)]
        case _:
            data[at:end] = rng.randbytes(end - at)
