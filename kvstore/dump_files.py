"""Files that dumps are in: compressed as their names say, and replaced only by a whole one."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import stat
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from _typeshed import WriteableBuffer

    StrPath: TypeAlias = str | os.PathLike[str]

_CHUNK: Final = 64 * 1024
_XZ_MEMORY: Final = 128 * 2**20
"""What unpacking .xz may take, in bytes; `xz -9` needs half of it. A hostile file may ask for gigabytes."""


BROKEN_STREAM: Final = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
"""What a compressed stream raises that is cut off or damaged."""


@contextmanager
def reading(path: StrPath) -> Iterator[BinaryIO]:
    """The bytes that a file holds: unpacked if its name ends in .gz or .xz."""
    with Path(path).open("rb") as file:
        yield unpacked(file, path)


@contextmanager
def writing(path: StrPath) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file when the block ends, packed if its name ends in .gz or .xz.

    Until then, and if the block raises, whatever is at the path stays as it is. The file can be read by its
    owner alone, as a store can; one that was there already keeps its mode. A device or a pipe is written to
    directly.
    """
    try:
        there = Path(path).stat()
    except FileNotFoundError:
        there = None
    if there is not None and not stat.S_ISREG(there.st_mode):
        with Path(path).open("wb") as file, packed(file, path) as stream:
            yield stream
        return
    place = Path(os.path.realpath(path))
    try:
        number, name = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
    except OSError as error:
        # Of the path that was asked for, not of a name that was made up here.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    try:
        with os.fdopen(number, "wb") as file:
            if there is not None:
                os.fchmod(number, stat.S_IMODE(there.st_mode))
            with packed(file, path) as stream:
                yield stream
            file.flush()
            os.fsync(number)
        Path(name).replace(place)
    except BaseException:
        # It may have its new name already, of a system that said otherwise.
        Path(name).unlink(missing_ok=True)
        raise
    _sync_directory(place.parent)


def unpacked(file: BinaryIO, name: StrPath) -> BinaryIO:
    """The bytes inside an open file, by what its name ends in: .gz, .xz, or anything else for as it is."""
    suffix = Path(name).suffix
    if suffix == ".gz":
        return cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="rb"))
    if suffix == ".xz":
        return io.BufferedReader(_Unxz(file), _CHUNK)
    return file


@contextmanager
def packed(file: BinaryIO, name: StrPath) -> Iterator[BinaryIO]:
    """A stream that writes to an open file what `unpacked` reads from it. Equal bytes make equal files."""
    suffix = Path(name).suffix
    if suffix == ".gz":
        # Neither a time nor a name: two dumps of one state are the same file.
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as stream:
            yield cast("BinaryIO", stream)
    elif suffix == ".xz":
        with lzma.LZMAFile(file, "wb") as stream:
            yield cast("BinaryIO", stream)
    else:
        yield file


class _Unxz(io.RawIOBase):
    """Unpacks .xz within bounded memory; lzma.LZMAFile allocates whatever dictionary the file asks for."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """As RawIOBase has it. EOFError for a stream that is cut off, LZMAError for a damaged one."""
        view = memoryview(buffer).cast("B")
        while not self._stream.eof:
            data = b""
            if self._stream.needs_input:
                data = self._file.read(_CHUNK)
                if not data:
                    raise EOFError("it is cut off")
            data = self._stream.decompress(data, len(view))
            if data:
                view[: len(data)] = data
                return len(data)
        if self._stream.unused_data or self._file.read(1):
            raise lzma.LZMAError("something follows its end")
        return 0


def _sync_directory(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
