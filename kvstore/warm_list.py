"""The list of hot keys: a file beside the store that names what its memory tier held, and nothing of what it held.

It only ever says what is worth reading first, so it can be missing, old, damaged or another store's without any answer
being wrong. It is not part of the store's file, where saving it would be a commit: two flushes, a wait for whoever is
writing, no room for it where the store is full. Layout, big-endian::

    0     8 bytes   magic and format
    ...   blocks    u32 length of the body, u64 XXH3-64 of the body, which the block's number seeds; the body:
                    for each key, hottest first, u32 cost, u16 length of the space, u16 length of the key, space, key

``cost`` is what the entry cost in memory, in bytes. A reader takes what stands before the first block that is not whole,
so it needs no more memory than a block.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Generator, Iterable, Iterator

from xxhash import xxh3_64_intdigest

from kvstore.backends import Space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

HotKey = tuple[Space, bytes, int]
"""A space, an encoded key, and what the entry cost in memory, in bytes."""

_MODE: Final = 0o600
_MAGIC: Final = b"kvhot\0\0\1"
_BLOCK: Final = struct.Struct(">IQ")
_KEY: Final = struct.Struct(">IHH")
_FULL_BYTES: Final = 1 << 15
_MOST_BYTES: Final = 1 << 16
"""No body is longer: what makes one full is a single key, far shorter than the rest."""
_MOST_COST: Final = (1 << 32) - 1


def write(path: str, keys: Iterable[HotKey]) -> None:
    """Put a list of these keys, hottest first, in the place of the one before it, at one go.

    It is not flushed: after a power cut the list may be gone, which costs a cold start and no more. Raises ``OSError``
    where the system refuses.
    """
    draft = f"{path}.new-{os.urandom(8).hex()}"
    try:
        with open(draft, "xb", opener=_open_private) as file:
            file.write(_MAGIC)
            for number, body in enumerate(_bodies(keys)):
                file.write(_BLOCK.pack(len(body), xxh3_64_intdigest(body, number)))
                file.write(body)
        os.replace(draft, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)


def read(path: str) -> Generator[HotKey]:
    """The keys of the list, hottest first, as far as it is whole; none where there is no list."""
    # ValueError and struct.error: the checksum agrees, and whoever wrote it meant harm.
    with contextlib.suppress(OSError, ValueError, struct.error), open(path, "rb", opener=_open_plain) as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return
        number = 0
        while len(head := file.read(_BLOCK.size)) == _BLOCK.size:
            length, checksum = _BLOCK.unpack(head)
            body = file.read(min(length, _MOST_BYTES))
            if len(body) != length or xxh3_64_intdigest(body, number) != checksum:
                return
            yield from _keys_of(body)
            number += 1


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)


def _open_plain(path: str, flags: int) -> int:
    # Not blocking, so that a pipe in the list's place holds nobody up.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _bodies(keys: Iterable[HotKey]) -> Iterator[bytes]:
    body = bytearray()
    for space, key, cost in keys:
        name = space.encode()
        body += _KEY.pack(min(cost, _MOST_COST), len(name), len(key))
        body += name
        body += key
        if len(body) >= _FULL_BYTES:
            yield bytes(body)
            body.clear()
    if body:
        yield bytes(body)


def _keys_of(body: bytes) -> Iterator[HotKey]:
    position = 0
    while position < len(body):
        cost, name, key = _KEY.unpack_from(body, position)
        middle = position + _KEY.size + name
        position = middle + key
        yield body[middle - name : middle].decode(), body[middle:position], cost
