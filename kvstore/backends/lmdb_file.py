"""The store's file as a file: which names it has, whether LMDB may touch it, and how it comes to be.

A power cut while LMDB writes the first pages of a new file can leave one that never opens again. So a file is made
under another name, flushed, and only then given its own name, in one step that can't overwrite.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable

from kvstore.backends.metapages import MAGIC, read_geometry
from kvstore.errors import StoreCorruptError, StoreFormatError, io_error, translating_refusals

MODE = 0o600
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS})


def identify(location: str) -> str:
    """The real path. LMDB keeps its lock beside the name it was given, so two names of one file would be two locks.

    Raises ``StoreFormatError`` for a symbolic link to nowhere: a store is never created through one.
    """
    if os.path.islink(location) and not os.path.exists(location):
        raise StoreFormatError(
            f"{location} is a symbolic link to nowhere; remove it, or open its target by its own name"
        )
    try:
        return os.path.realpath(location, strict=True)
    except FileNotFoundError:
        return os.path.realpath(location)
    except OSError as error:
        # Taken for what it is called, it might be opened under a second name.
        raise io_error(error, location) from error


def is_there(path: str) -> bool:
    """Whether the path leads to anything. Raises ``OSError`` where the system doesn't say."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def beside(path: str, suffix: str) -> str:
    """The path of a companion file, such as ``features.kv-lock``."""
    return path + suffix


def has_lock(path: str) -> bool:
    """Whether LMDB's lock file is there, and was made to its end."""
    try:
        with open(beside(path, "-lock"), "rb", buffering=0) as file:
            return file.read(4) == MAGIC.to_bytes(4, sys.byteorder)
    except OSError:
        return False


def admit(path: str, is_sound: Callable[[str], bool]) -> None:
    """Refuse what LMDB must not open: anything but a regular LMDB file that is as long as its meta pages say.

    A file may be shorter where its last pages were allocated and freed within one transaction, and so never written;
    ``is_sound`` walks the pages of such a file and decides.
    """
    with translating_refusals(path):
        kind = os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            raise StoreFormatError(
                f"{path} is a directory; give the path of a file in it, such as {os.path.join(path, 'store.kv')}"
            )
        if not stat.S_ISREG(kind):
            raise StoreFormatError(f"{path} is not a regular file; choose another path")
        for companion in (beside(path, "-lock"), beside(path, "-ring")):
            _admit_companion(companion, path)
        geometry = read_geometry(path)
        size = os.stat(path).st_size
    if size < geometry.needed_bytes and not is_sound(path):
        raise StoreCorruptError(
            f"{path} is cut off: it has {size} bytes and its meta page speaks of {geometry.needed_bytes}; "
            "restore it from a backup or a dump"
        )


def _admit_companion(companion: str, path: str) -> None:
    """Refuse a companion that was planted: what is written to it would end up in another file, or it would be in the hands
    of somebody whom the store's directory alone doesn't keep out.
    """
    try:
        found = os.lstat(companion)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise StoreFormatError(f"{companion} is a symbolic link; remove it, a store's companions must be files")
    if not stat.S_ISREG(found.st_mode):
        raise StoreFormatError(f"{companion} is not a regular file; remove it, a store's companions must be files")
    if found.st_nlink > 1:
        raise StoreFormatError(
            f"{companion} is a hard link to a file with another name; remove it while no process has the store open"
        )
    folder = os.stat(os.path.dirname(companion)).st_mode
    if folder & stat.S_IWOTH and found.st_uid not in (0, os.geteuid(), os.stat(path).st_uid):
        raise StoreFormatError(
            f"{companion} belongs to user {found.st_uid}, in a directory where anybody may put files; remove it, or keep "
            "the store in a directory of your own"
        )


def create(path: str, fill: Callable[[str], None]) -> bool:
    """Make a new file: ``fill`` writes it under a temporary name, and it appears whole or not at all.

    False where another process has made the same file meanwhile: the first one wins.
    """
    made = True
    draft = beside(path, f".new-{os.urandom(8).hex()}")
    with translating_refusals(path):
        try:
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, MODE))
            fill(draft)
            sync_file(draft)
            made = _give_name(draft, path)
        finally:
            try:  # noqa: SIM105  # the call comes first: an interrupt could come in making a suppress()
                os.unlink(draft)
            except FileNotFoundError:
                pass
        sync_folder(os.path.dirname(path))
    return made


def _give_name(draft: str, path: str) -> bool:
    try:
        os.link(draft, path, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # A file system without hard links, such as FAT, has no step that can't overwrite: look, then rename.
        if os.path.lexists(path):
            return False
        os.rename(draft, path)
    return True


def sync_file(path: str) -> None:
    """Flush a file's data and metadata to the medium."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: str) -> None:
    """Flush a directory, so that a name given in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: str) -> None:
    """Remove a file, where it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
