"""The one LMDB environment of a store in this process: how it is opened, shared by threads, parted from after a fork,
kept quiet while its file or map is exchanged, and closed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import lmdb

from kvstore.backends import lmdb_file
from kvstore.backends.lmdb_errors import translate
from kvstore.backends.lmdb_read import META, Handles, ReadTxn, check_format, database_name, format_of, write_format
from kvstore.backends.lmdb_write import MAX_SPACES, WriteGate
from kvstore.backends.metapages import CommitCells
from kvstore.backends.protocol import OWN_SPACE, Options, Space
from kvstore.errors import StoreBusyError, StoreClosedError, TransactionError, io_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

_MAX_READERS: Final = 1022
_SPARE_TRANSACTIONS: Final = 64
_SYNC: Final[dict[str, dict[str, bool]]] = {
    "full": {"sync": True, "metasync": True},
    "relaxed": {"sync": True, "metasync": False},
    "none": {"sync": False, "metasync": False},
}
_QUIESCE_SECONDS: Final = 10.0
_QUIESCE_POLL_SECONDS: Final = 0.001
_LOCKS_SECONDS: Final = 2.0
_LOCKS_POLL_SECONDS: Final = 0.001
# Address space, not memory or disk: the map is reserved far beyond any need, so that growth never remaps it.
_MAP_SIZE: Final = 64 << 30 if sys.maxsize > 1 << 32 else 1 << 30


_NO_COMMITS: Final = ((0,), (0,))

_open: Callable[..., Any] = lmdb.open


def write_new_file(path: str) -> None:
    """Make the empty store of which ``lmdb_file.create`` makes a file with a name."""
    new = lmdb.open(os.fsencode(path), subdir=False, lock=False, map_size=1 << 20, max_dbs=1, mode=lmdb_file.MODE)
    with contextlib.closing(new) as env, env.begin(write=True) as txn:
        write_format(txn, env.open_db(database_name(META), txn=txn))


class Environment:
    """An open environment. ``begin`` begins a transaction; it is an attribute that is exchanged, so it is loaded anew for
    each: while the environment is quiet it waits, after a fork it opens, and when all is over it refuses.

    ``handles`` are the database handles that transactions beginning now may use. The dict is never changed but replaced, by who
    holds ``gate``: what a transaction has begun with stays as it was.
    """

    def __init__(self, path: str, options: Options, map_size: int | None) -> None:
        self.path = path
        self._options = options
        self._least_map = map_size or _MAP_SIZE
        self._pausing = threading.RLock()
        self.gate = WriteGate(path)
        self.handles: Handles = {}
        self.others_write: Callable[[], bool] = lambda: False
        self.begin: Callable[..., Any]
        self.commits: tuple[Sequence[int], Sequence[int]] = _NO_COMMITS
        self._cells: CommitCells | None = None
        self._open()

    def _open(self) -> None:
        options = self._options
        try:
            found = os.stat(self.path)
        except OSError as error:
            raise io_error(error, self.path) from error
        size = found.st_size
        self.inode = (found.st_dev, found.st_ino)
        limit = self._least_map if options.max_size is None else options.max_size
        try:
            self.raw = self._open_once_locks_are_made(
                # A file that is larger than its limit by now needs room to be emptied in.
                map_size=max(limit, 2 * size if options.max_size is None else size + limit // 16),
                subdir=False,
                readonly=options.readonly,
                create=False,
                mode=lmdb_file.MODE,
                max_readers=_MAX_READERS,
                max_dbs=MAX_SPACES + 4,
                max_spare_txns=_SPARE_TRANSACTIONS,
                **_SYNC[options.durability],
            )
        except lmdb.Error as error:
            raise translate(error, self.path) from error
        try:
            self._adopt()
        except BaseException:
            self._forget_cells((_AskedCells(self),) * 2)
            self.raw.close()
            raise

    def _open_once_locks_are_made(self, **how: Any) -> Any:
        """Open it. The first process to do so makes the lock file anew, while the others wait for it.

        Where it is killed in the middle of that, LMDB lets them go on with what there is: a file that isn't a lock file yet,
        or one that says that nothing was committed ever, so they would read, and write, from an empty store on. The next
        one to find itself alone makes the file; so whoever notices lets go of it and comes again.
        """
        deadline = time.monotonic() + _LOCKS_SECONDS
        while True:
            made = lmdb_file.has_lock(self.path)
            try:
                # As bytes: not every path is Unicode.
                raw = _open(os.fsencode(self.path), **how)
            except (lmdb.InvalidError, lmdb.InvalidParameterError):
                if made or time.monotonic() > deadline:
                    raise
            else:
                # A file gets its name after its first commit.
                with raw.begin() as txn:
                    if txn.id():
                        return raw
                raw.close()
                if time.monotonic() > deadline:
                    raise StoreBusyError(
                        f"{self.path}: a process was killed while it made the lock file, and another one goes on with that; "
                        "close the store there first"
                    )
            time.sleep(_LOCKS_POLL_SECONDS)

    def _forget_cells(self, instead: tuple[Sequence[int], Sequence[int]]) -> None:
        """Hold on to no part of the file: what is mapped is open, and takes the room of a file that is deleted."""
        self.commits = instead
        self._cells = None

    def _adopt(self) -> None:
        """Check that the file is ours, and open the handles that are always there."""
        try:
            self.page_size: int = self.raw.stat()["psize"]
            self.raw.reader_check()
            self.handles = {"": self.raw.open_db(None)}
            with self.raw.begin() as txn:
                # With a handle that ends with the transaction: a lasting one would wait for other processes' writers.
                meta = None
                if txn.get(database_name(META)) is not None:
                    meta = self.raw.open_db(database_name(META), txn=txn, create=False)
                check_format(None if meta is None else format_of(txn, meta), self.path)
            cells = self._cells = CommitCells(self.path, self.page_size)
            before = cells.newest()
            with self.raw.begin() as txn:
                as_documented = before <= txn.id() <= cells.newest()
            self.commits = cells.cells if as_documented else (_AskedCells(self.raw),) * 2
            # Last: whoever is interrupted before leaves it to the next one to open.
            self.begin = self.raw.begin
        except lmdb.Error as error:
            raise translate(error, self.path) from error
        except OSError as error:
            raise io_error(error, self.path) from error

    def close(self) -> None:
        self.gate.check()
        with self.gate.lock:
            if self.begin == self._refuse_closed:
                return
            self._forget_cells(_NO_COMMITS)
            opened = self.begin not in (self._begin_in_child, self._begin_anew, self._refuse_torn)
            self.begin = self._refuse_closed
            if not opened:
                return
            try:
                if not self._options.readonly and self._options.durability != "full":
                    self.raw.sync(True)
            finally:
                self.raw.close()

    def _refuse_closed(self, **_: object) -> Any:
        raise StoreClosedError(f"{self.path}: the store has been closed; open it again")

    # -- beginning ---------------------------------------------------------------------------------------------------

    def begin_following(self, *, write: bool = False) -> Any:
        while True:
            try:
                return self.begin(write=write)
            except (lmdb.MapResizedError, lmdb.ReadersFullError) as error:
                self.make_way(error)

    def open_space(self, space: Space, *, wait: bool = False) -> bool:
        """Get a lasting handle of a space that this process has not met yet; whether there is one now.

        It takes a write transaction, for one that ends as a read is only put aside by the binding, and its handles with it. So it
        isn't tried where the file has no such space, nor, unless it must ``wait``, while another process is writing.
        """
        self.gate.check()
        with self.gate.lock:
            with self.begin() as txn:
                if txn.get(database_name(space)) is None:
                    return False
            if not wait and self.others_write():
                return False
            name = database_name(space)
            if self._options.readonly:
                handle = self.raw.open_db(name, create=False)
            else:
                # Not left to ``open_db``, which would wait for another process's writer with the interpreter locked.
                with self.raw.begin(write=True) as writing:
                    handle = self.raw.open_db(name, txn=writing, create=False)
            self.handles = {**self.handles, space: handle}
        return True

    # -- after a fork ------------------------------------------------------------------------------------------------

    def leave_to_parent(self, *, for_good: bool) -> None:
        from kvstore.backends.lmdb_fork import keep_for_ever, make_lock_private, open_beside_inherited

        global _open  # noqa: PLW0603  # what is inherited stays so for every later opening
        _open = open_beside_inherited
        keep_for_ever(self.raw)
        parted = make_lock_private(lmdb_file.beside(self.path, "-lock")) and not for_good
        self._pausing = threading.RLock()
        self.gate = WriteGate(self.path)
        self.handles = {}
        self.begin = self._begin_in_child if parted else self._refuse_torn

    def _refuse_torn(self, **_: object) -> Any:
        raise TransactionError(
            f"{self.path}: the child of a fork inside a transaction can't use the store; fork outside of transactions, "
            "or open the store after forking"
        )

    def _begin_in_child(self, **how: Any) -> Any:
        with self._pausing:
            if self.begin == self._begin_in_child:
                self._open()
            return self.begin(**how)

    def _begin_anew(self, **how: Any) -> Any:
        with self._pausing:
            if self.begin == self._begin_anew:
                self.raw.close()
                self._open()
            return self.begin(**how)

    # -- keeping readers away ----------------------------------------------------------------------------------------

    def make_way(self, error: lmdb.Error) -> None:
        """Mend what keeps a transaction from beginning, or raise what it means.

        Takes over the larger map that another process has made, and takes back the reader slots of processes that died.
        """
        if isinstance(error, lmdb.MapResizedError):
            with self.quiet():
                self.raw.set_mapsize(0)
        elif not self.raw.reader_check():
            raise translate(error, self.path) from error

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Run the block while no read of this process is under way, and none begins.

        Reads don't announce themselves, which would cost each of them more than the lookup: their transactions stand in
        LMDB's reader table, and a new one begins by ``self.begin`` alone, which is replaced for the while. Between
        loading that attribute and calling it the interpreter doesn't switch threads.
        """
        with self._pausing:
            begin, self.begin = self.begin, self._begin_later
            try:
                deadline = time.monotonic() + _QUIESCE_SECONDS
                while self._is_being_read():
                    if time.monotonic() > deadline:
                        raise StoreBusyError(f"{self.path}: an iteration or a snapshot is open; end it and try again")
                    time.sleep(_QUIESCE_POLL_SECONDS)
                yield
            finally:
                # Where the block has opened another environment, its way to begin is in place already.
                if self.begin == self._begin_later:
                    self.begin = begin

    def _begin_later(self, **how: Any) -> Any:
        """Begin when the pause is over."""
        with self._pausing:
            return self.begin(**how)

    def exchange(self, draft: str) -> None:
        """Put another file in the place of the one that is open, and go on with that. The caller keeps writers and other
        processes away.
        """
        with self.quiet():
            self._refuse_others()
            # Should an interrupt come, whoever begins next opens what is at the path then.
            self.begin = self._begin_anew
            # Nobody may go by the meta pages of a file that isn't the store's any more.
            self._forget_cells((_AskedCells(self),) * 2)
            self.raw.close()
            try:
                # Where LMDB can't have its lock file for itself, it goes on numbering commits from what the old file's last
                # one left there. The new file's are further on: one that takes the number of a commit that took place is lost.
                lmdb_file.remove(lmdb_file.beside(self.path, "-lock"))
                os.rename(draft, self.path)
                lmdb_file.sync_folder(os.path.dirname(self.path))
            finally:
                self._open()
            self._forget_empty_names()

    def _forget_empty_names(self) -> None:
        """Remove the names of dropped namespaces. A handle must not be in use then, so it is done while all is quiet."""
        with self.raw.begin(write=True) as txn:
            view = ReadTxn(txn, self.handles, self.path)
            for space in view.databases():
                if not space.startswith(OWN_SPACE) and not view.count(space):
                    txn.drop(self.raw.open_db(database_name(space), txn=txn), delete=True)

    def _refuse_others(self) -> None:
        """Raise where the reader table knows of another process: one whose companion file was deleted under it."""
        self.raw.reader_check()
        if any(row[0] != str(os.getpid()) for row in self.readers()):
            raise StoreBusyError(f"{self.path}: another process has the store open; close it there first")

    def readers(self) -> list[list[str]]:
        """Process, thread and transaction id (``-`` for none) of every slot of LMDB's reader table."""
        rows = (line.split() for line in self.raw.readers().splitlines()[1:])
        return [row for row in rows if len(row) == 3]

    def _is_being_read(self) -> bool:
        return any(row[0] == str(os.getpid()) and row[2].isdigit() for row in self.readers())


class _AskedCells(Sequence[int]):
    """The commit cell for a file whose meta pages aren't where they are expected, or not known: asks LMDB, at ten times the
    cost.
    """

    def __init__(self, env: Any) -> None:
        self._env = env

    def __getitem__(self, index: Any) -> Any:
        with self._env.begin() as txn:
            return txn.id()

    def __len__(self) -> int:
        return 1
