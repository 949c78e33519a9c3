"""The LMDB file store: one file, its ``-lock`` beside it. The only module that imports ``lmdb``.

The default space is LMDB's main database, so that the common read pays for no second tree; a namespace is the named
database ``ns:<name>``; the library's own spaces are named databases whose names begin with ``kvstore:``. Encoded keys
begin with a byte below 0x10 and names with a letter, so keys and names never meet.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import lmdb

from kvstore.backends import lmdb_file
from kvstore.backends.lmdb_errors import translate
from kvstore.backends.lmdb_txn import (
    META,
    Handles,
    ReadTxn,
    SizeLimit,
    WriteGate,
    WriteTxn,
    check_format,
    database_name,
    format_of,
    write_format,
)
from kvstore.backends.metapages import CommitCells
from kvstore.backends.protocol import FileUsage, Options, Space
from kvstore.errors import ReadOnlyError, StoreBusyError, StoreClosedError, StoreIOError

R = TypeVar("R")

MAX_SPACES: Final = 250
_MAX_READERS: Final = 1022
_SPARE_TRANSACTIONS: Final = 64
_SYNC: Final[dict[str, dict[str, bool]]] = {
    "full": {"sync": True, "metasync": True},
    "relaxed": {"sync": True, "metasync": False},
    "none": {"sync": False, "metasync": False},
}
_QUIESCE_SECONDS: Final = 10.0
_QUIESCE_POLL_SECONDS: Final = 0.001
# Address space, not memory or disk: the map is reserved far beyond any need, so that growth never remaps it.
_MAP_SIZE: Final = 64 << 30 if sys.maxsize > 1 << 32 else 1 << 30


class LmdbBackend:
    """One LMDB environment; see ``protocol.Backend``.

    Opening is safe against what is at the path: a missing file is created whole or not at all, and anything that LMDB
    can't be trusted with is refused before LMDB sees it.
    """

    def __init__(self, identity: str, options: Options, *, map_size: int | None = None) -> None:
        self.identity = identity
        self.readonly = options.readonly
        self._options = options
        self._path = Path(identity)
        self._least_map = map_size or _MAP_SIZE
        self._limit = SizeLimit(self._path, options.max_size)
        self._handles: Handles = {}
        self._gate = WriteGate(self._path)
        self._pausing = threading.RLock()
        if not os.path.lexists(self._path):
            if options.readonly or not options.create:
                raise StoreIOError(
                    2, "there is no store here; open it with create=True to make one", identity
                )
            lmdb_file.create(self._path, self._write_new_file)
        lmdb_file.admit(self._path, _is_sound)
        self._open()

    @staticmethod
    def identify(location: str) -> str:
        return lmdb_file.identify(location)

    # -- reading -------------------------------------------------------------------------------------------------

    def get(self, space: Space, key: bytes) -> tuple[bytes | None, int]:
        # The miss path. A transaction ended by hand costs two thirds of one ended by ``with``, and the main database needs
        # no handle. Where an exception comes between, the transaction ends with its last reference.
        try:
            if space:
                handle = self._handles.get(space) or self._open_space(space)
                txn = self._begin()
                found = None if handle is None else txn.get(key, None, handle)
            else:
                txn = self._begin()
                found = txn.get(key)
            commit = txn.id()
            txn.abort()
        except lmdb.MapResizedError:
            self._follow_map()
            return self.get(space, key)
        except lmdb.Error as error:
            raise translate(error, self._path) from error
        return found, commit

    @contextlib.contextmanager
    def read(self, *spaces: Space) -> Iterator[ReadTxn]:
        try:
            view = self._begin_view(spaces)
            try:
                yield view
            finally:
                view.abort()
        except lmdb.Error as error:
            raise translate(error, self._path) from error

    def _begin_view(self, spaces: Sequence[Space]) -> ReadTxn:
        missing = [space for space in spaces if space not in self._handles]
        while True:
            for space in missing:
                self._open_space(space)
            handles = dict(self._handles)
            view = ReadTxn(self._begin_following(), handles)
            # A space that another process has made since the handles were opened would look empty: begin again.
            missing = [space for space in spaces or view.databases() if not view.knows(space)]
            if not missing:
                return view
            view.abort()

    def _begin_following(self, *, write: bool = False) -> Any:
        while True:
            try:
                return self._begin(write=write)
            except lmdb.MapResizedError:
                self._follow_map()

    def _open_space(self, space: Space) -> Any:
        """The handle of a space that this process has not met yet; None where the file has no such space."""
        self._gate.check()
        with self._gate.lock, self._begin() as txn:
            if txn.get(database_name(space)) is None:
                return None
            handle = self._env.open_db(database_name(space), txn=txn, create=False)
        self._handles[space] = handle
        return handle

    # -- writing -------------------------------------------------------------------------------------------------

    def write(self, work: Callable[[WriteTxn], R]) -> R:
        # A function that is called, not a context manager: a signal at the first instruction of a Python ``__exit__``
        # would leave the lock held and the transaction open.
        self._gate.check()
        try:
            with self._gate.lock:
                txn = None
                try:
                    self._gate.holder = threading.get_ident()
                    txn = self._begin_write()
                    return work(WriteTxn(self._env, txn, self._handles, self._limit))
                finally:
                    if txn is not None:
                        txn.abort()
                    self._gate.holder = None
        except lmdb.Error as error:
            raise translate(error, self._path) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[WriteTxn]:
        self._gate.check()
        try:
            with self._gate.lock:
                txn = None
                try:
                    self._gate.holder = threading.get_ident()
                    txn = self._begin_write()
                    yield WriteTxn(self._env, txn, self._handles, self._limit)
                finally:
                    if txn is not None:
                        txn.abort()
                    self._gate.holder = None
        except lmdb.Error as error:
            raise translate(error, self._path) from error

    def _begin_write(self) -> Any:
        if self.readonly:
            raise ReadOnlyError(f"{self._path} was opened with readonly=True; open it for writing to change it")
        return self._begin_following(write=True)

    # -- the file ------------------------------------------------------------------------------------------------

    def usage(self) -> FileUsage:
        with self.read() as view:
            used = view.live_pages() * self._page_size
            info = self._env.info()
            file_bytes = os.stat(self._path).st_size
            return FileUsage(
                records=view.count("") + sum(map(view.count, view.spaces())),
                file_bytes=file_bytes,
                used_bytes=used,
                reclaimable_bytes=max(0, (info["last_pgno"] + 1) * self._page_size - used),
                oldest_reader_lag=self._oldest_reader_lag(info["last_txnid"]),
            )

    def _oldest_reader_lag(self, newest: int) -> int:
        """How many commits the oldest read transaction of any process is behind."""
        rows = (line.split() for line in self._env.readers().splitlines()[1:])
        return max((newest - int(row[2]) for row in rows if len(row) == 3 and row[2].isdigit()), default=0)

    def replaced(self) -> bool:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return True
        return (found.st_dev, found.st_ino) != self._inode

    def close(self) -> None:
        self._gate.check()
        with self._gate.lock:
            if self._begin == self._refuse_closed:
                return
            self._begin = self._refuse_closed
            if not self.readonly and self._options.durability != "full":
                self._env.sync(True)
            self._env.close()

    def _refuse_closed(self, **_: object) -> Any:
        raise StoreClosedError(f"{self._path}: the store has been closed; open it again")

    def _open(self) -> None:
        options = self._options
        found = os.stat(self._path)
        size = found.st_size
        self._inode = (found.st_dev, found.st_ino)
        limit = self._least_map if options.max_size is None else options.max_size
        try:
            self._env = lmdb.open(
                str(self._path),
                map_size=max(limit, 2 * size if options.max_size is None else size),
                subdir=False,
                readonly=options.readonly,
                create=False,
                mode=lmdb_file.MODE,
                max_readers=_MAX_READERS,
                max_dbs=MAX_SPACES + 2,
                max_spare_txns=_SPARE_TRANSACTIONS,
                **_SYNC[options.durability],
            )
        except lmdb.Error as error:
            raise translate(error, self._path) from error
        try:
            self._adopt()
        except BaseException:
            self._env.close()
            raise

    def _adopt(self) -> None:
        """Check that the file is ours, and open the handles that are always there."""
        try:
            self._begin = self._env.begin
            self._page_size: int = self._env.stat()["psize"]
            self._env.reader_check()
            self._handles.clear()
            self._handles[""] = self._env.open_db(None)
            with self._env.begin() as txn:
                known = txn.get(database_name(META)) is not None
            if known:
                self._handles[META] = self._env.open_db(database_name(META), create=False)
            with self._env.begin() as txn:
                check_format(format_of(txn, self._handles[META]) if known else None, self._path)
            self._cells = CommitCells(self._path, self._page_size)
            before = self._cells.newest()
            with self._env.begin() as txn:
                as_documented = before <= txn.id() <= self._cells.newest()
            self.commits = self._cells.cells if as_documented else (_AskedCells(self._env),) * 2
        except lmdb.Error as error:
            raise translate(error, self._path) from error

    def _write_new_file(self, draft: Path) -> None:
        with (
            contextlib.closing(
                lmdb.open(
                    str(draft), subdir=False, lock=False, map_size=1 << 20, max_dbs=1, mode=lmdb_file.MODE
                )
            ) as env,
            env.begin(write=True) as txn,
        ):
            write_format(txn, env.open_db(database_name(META), txn=txn))

    # -- keeping readers away ------------------------------------------------------------------------------------

    def _follow_map(self) -> None:
        """Take over the larger map that another process has made."""
        with self._quiet():
            self._env.set_mapsize(0)

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Run the block while no read of this process is under way, and none begins.

        Reads don't announce themselves, which would cost each of them more than the lookup: their transactions stand in
        LMDB's reader table, and a new one begins by ``self._begin`` alone, which is replaced for the while. Between
        loading that attribute and calling it the interpreter doesn't switch threads.
        """
        with self._pausing:
            begin = self._begin
            self._begin = self._begin_later
            try:
                deadline = time.monotonic() + _QUIESCE_SECONDS
                while self._is_being_read():
                    if time.monotonic() > deadline:
                        raise StoreBusyError(f"{self._path}: an iteration or a snapshot is open; end it and try again")
                    time.sleep(_QUIESCE_POLL_SECONDS)
                yield
            finally:
                self._begin = begin

    def _begin_later(self, **how: Any) -> Any:
        """Begin when the pause is over."""
        with self._pausing:
            return self._begin(**how)

    def _is_being_read(self) -> bool:
        rows = (line.split() for line in self._env.readers().splitlines()[1:])
        return any(row[0] == str(os.getpid()) and row[-1].isdigit() for row in rows)


class _AskedCells(Sequence[int]):
    """The commit cell for a file whose meta pages aren't where they are expected: asks LMDB, at ten times the cost."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def __getitem__(self, index: Any) -> Any:
        with self._env.begin() as txn:
            return txn.id()

    def __len__(self) -> int:
        return 1


def _is_sound(path: Path) -> bool:
    """Whether every page that the file's trees reach is there and whole, judged without LMDB."""
    from lmdb import verify

    return not verify.verify(str(path))
