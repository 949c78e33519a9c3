"""Parting a forked child from its parent's LMDB environment.

The environment's lock file is mapped, shared, into the child as it is into the parent, and in it stand the parent's reader
slots. Ending an inherited transaction in the child would clear its slot, and the parent's reader would see pages change
under it. Hence the child first puts a private copy in the place of the shared map: what is cleared then is its own affair.

The inherited environment can't be closed, since closing waits for what the parent's other threads were doing at the time of
the fork. So it is kept for ever, and the binding, which opens no file twice in one process, is shown the child's file as
another one.
"""

from __future__ import annotations

import contextlib
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
    # The latter where the parent has compacted the store since the fork.
    names = (os.fsencode(lock), os.fsencode(lock) + b" (deleted)")
    spans = _mapped(names)
    return bool(spans) and all(_remap_privately(names, *span) for span in spans)


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


def _mapped(names: tuple[bytes, ...]) -> list[tuple[int, int, int, int]]:
    """Inode, start, length and file offset of every map of a file of these names in this process."""
    spans = []
    try:
        with open("/proc/self/maps", "rb") as maps:
            for line in maps:
                fields = line.rstrip(b"\n").split(maxsplit=5)
                if len(fields) == 6 and fields[5] in names:
                    start, end = (int(bound, 16) for bound in fields[0].split(b"-"))
                    spans.append((int(fields[4]), start, end - start, int(fields[2], 16)))
    except OSError:
        return []
    return spans


def _remap_privately(names: tuple[bytes, ...], inode: int, start: int, length: int, offset: int) -> bool:
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
    descriptor = _opened_again(names, inode)
    if descriptor < 0:
        return False
    try:
        where = libc.mmap(start, length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | fixed, descriptor, offset)
    finally:
        os.close(descriptor)
    return bool(where == start)


def _opened_again(names: tuple[bytes, ...], inode: int) -> int:
    """A descriptor of the mapped file, by way of one that this process has open, since the file may have no name any more; -1
    without one. The inode tells it from others that had its name; alone it wouldn't do, as stacked file systems say another one
    of a map than of a descriptor.
    """
    found = ""
    for number in os.listdir("/proc/self/fd"):
        link = f"/proc/self/fd/{number}"
        with contextlib.suppress(OSError):
            if os.fsencode(os.readlink(link)) in names and (not found or os.stat(link).st_ino == inode):
                found = link
    return os.open(found, os.O_RDONLY | os.O_CLOEXEC) if found else -1
