"""Parting a forked child from its parent's LMDB environment.

The environment's lock file is mapped, shared, into the child as it is into the parent, and in it stand the parent's reader
slots. Ending an inherited transaction in the child, or closing the inherited environment, would clear those slots, and
the parent's readers would see pages change under them. The binding, for its part, opens no file twice in one process, so
the inherited environment has to be closed before the child can open its own.

Hence the child first puts a private copy in the place of the shared map: what is cleared then is the child's affair.
"""

from __future__ import annotations

import mmap
import os


def make_lock_private(lock: str) -> bool:
    """Put a private copy in the place of this process's map of the lock file; whether that was possible.

    Needs ``/proc``, so Linux.
    """
    spans = _mapped(lock)
    return bool(spans) and all(_remap_privately(lock, *span) for span in spans)


def _mapped(path: str) -> list[tuple[int, int, int]]:
    """Start, length and file offset of every map of the file in this process."""
    spans = []
    try:
        with open("/proc/self/maps", "rb") as maps:
            for line in maps:
                fields = line.rstrip(b"\n").split(maxsplit=5)
                if len(fields) == 6 and fields[5] == os.fsencode(path):
                    start, end = (int(bound, 16) for bound in fields[0].split(b"-"))
                    spans.append((start, end - start, int(fields[2], 16)))
    except OSError:
        return []
    return spans


def _remap_privately(path: str, start: int, length: int, offset: int) -> bool:
    import ctypes  # seldom needed, and heavy

    fixed = 0x10
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    )
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        where = libc.mmap(start, length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | fixed, descriptor, offset)
    finally:
        os.close(descriptor)
    return bool(where == start)
