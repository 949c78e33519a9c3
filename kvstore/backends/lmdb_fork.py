"""Parting a forked child from its parent's LMDB environment.

The environment's lock file is mapped, shared, into the child as it is into the parent, and in it stand the parent's reader
slots. Ending an inherited transaction in the child would clear its slot, and the parent's reader would see pages change
under it. Hence the child first puts a private copy in the place of the shared map: what is cleared then is its own affair.

The inherited environment can't be closed, since closing waits for what the parent's other threads were doing at the time of
the fork. So it is kept for ever, and the binding, which opens no file twice in one process, is shown the child's file as
another one.
"""

from __future__ import annotations

import mmap
import os

import lmdb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def make_lock_private(lock: str) -> bool:
    """Put a private copy in the place of this process's map of the lock file; whether that was possible.

    Needs ``/proc``, so Linux.
    """
    spans = _mapped(lock)
    return bool(spans) and all(_remap_privately(lock, *span) for span in spans)


def keep_for_ever(inherited: Any) -> None:
    """Never free it, not even when the interpreter ends: freeing it would close it."""
    import ctypes  # seldom needed, and heavy

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def open_beside_inherited(*what: Any, **how: Any) -> lmdb.Environment:
    """As ``lmdb.open``, of an environment that this process has inherited open."""
    import lmdb._envid as names

    keys = names.env_keys
    names.env_keys = lambda *_: ()
    try:
        return lmdb.open(*what, **how)
    finally:
        names.env_keys = keys


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
