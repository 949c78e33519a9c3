"""The store's file as a file: which names it has, whether LMDB may touch it, and how it comes to be.

A power cut while LMDB writes the first pages of a new file can leave one that never opens again. So a file is made
under another name, flushed, and only then given its own name, in one step that can't overwrite.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from kvstore.backends.lmdb_errors import io_error
from kvstore.backends.metapages import read_geometry
from kvstore.errors import StoreCorruptError, StoreFormatError, StoreIOError

MODE = 0o600


def identify(location: str) -> str:
    """The real path. LMDB keeps its lock beside the name it was given, so two names of one file would be two locks.

    Raises ``StoreFormatError`` for a symbolic link to nowhere: a store is never created through one.
    """
    if os.path.islink(location) and not os.path.exists(location):
        raise StoreFormatError(f"{location} is a symbolic link to nowhere; remove it, or open its target by its own name")
    return os.path.realpath(location)


def beside(path: Path, suffix: str) -> Path:
    """The path of a companion file, such as ``features.kv-lock``."""
    return path.with_name(path.name + suffix)


def admit(path: Path, is_sound: Callable[[Path], bool]) -> None:
    """Refuse what LMDB must not open: anything but a regular LMDB file that is as long as its meta pages say.

    A file may be shorter where its last pages were allocated and freed within one transaction, and so never written;
    ``is_sound`` walks the pages of such a file and decides.
    """
    try:
        kind = os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            raise StoreFormatError(
                f"{path} is a directory; give the path of a file in it, such as {path / 'store.kv'}"
            )
        if not stat.S_ISREG(kind):
            raise StoreFormatError(f"{path} is not a regular file; choose another path")
        for companion in (beside(path, "-lock"), beside(path, "-ring")):
            if companion.is_symlink():
                raise StoreFormatError(
                    f"{companion} is a symbolic link; remove it, a store's companions must be files"
                )
        geometry = read_geometry(path)
        size = os.stat(path).st_size
    except OSError as error:
        if isinstance(error, StoreIOError):
            raise
        raise io_error(error, path) from error
    if size < geometry.needed_bytes and not is_sound(path):
        raise StoreCorruptError(
            f"{path} is cut off: it has {size} bytes and its meta page speaks of {geometry.needed_bytes}; "
            "restore it from a backup or a dump"
        )


def create(path: Path, fill: Callable[[Path], None]) -> None:
    """Make a new file: ``fill`` writes it under a temporary name, and it appears whole or not at all.

    Where another process makes the same file at the same time, the first one wins and this returns quietly.
    """
    draft = beside(path, f".new-{secrets.token_hex(8)}")
    try:
        try:
            os.close(
                os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
            )
            fill(draft)
            sync_file(draft)
            with contextlib.suppress(FileExistsError):
                os.link(draft, path, follow_symlinks=False)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
        sync_folder(path.parent)
    except OSError as error:
        if isinstance(error, StoreIOError):
            raise
        raise io_error(error, path) from error


def sync_file(path: Path) -> None:
    """Flush a file's data and metadata to the medium."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Flush a directory, so that a name given in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
