"""kvstore load: the records of a dump put into a store."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO

import click

from kvstore import dump
from kvstore_cli import arguments, terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import kvstore


@click.command()
@arguments.STORE
@click.argument("source", default="-", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--merge", is_flag=True, help="Load into a store that has records, and replace those it has.")
@arguments.MAX_LINE
def load(store: Path, source: Path, merge: bool, max_line: int) -> None:
    """Store the records of a dump.

    All of them, or none if anything is wrong. SOURCE is a file, compressed if its name ends in .gz or .xz, or
    - for standard input. A store that isn't there is made.
    """
    with (
        _stream(source) as (stream, share),
        _target(store) as opened,
        terminal.Meter("loaded", share) as meter,
    ):
        dump.load(opened, stream, merge=merge, progress=meter, max_line=max_line)


@contextmanager
def _stream(source: Path) -> Iterator[tuple[BinaryIO, Callable[[int], float | None]]]:
    """What to read, and how much of it has been read."""
    if str(source) == "-":
        yield terminal.input(), lambda _: None
        return
    with source.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        yield dump.unpacked(file, source), lambda _: file.tell() / size if size else None


@contextmanager
def _target(path: Path) -> Iterator[kvstore.Store]:
    """The store to load into. A new one appears at its path, whole, when the block ends; not if it raises."""
    if os.path.lexists(path) or not path.parent.is_dir():
        with arguments.for_writing(path, create=True) as opened:
            yield opened
        return
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as directory:
        new = Path(directory, path.name)
        with arguments.for_writing(new, create=True) as opened:
            yield opened
        _place(new, path)


def _place(new: Path, path: Path) -> None:
    """Give a finished file its path, durably. FileExistsError if something has come up there meanwhile."""
    try:
        path.hardlink_to(new)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links: all that is left is to look first.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from None
        new.rename(path)
    number = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
