"""The LMDB file store: one file, its ``-lock`` beside it. The only module that imports ``lmdb``.

The default space is LMDB's main database, so that the common read pays for no second tree; a namespace is the named
database ``ns:<name>``; the library's own spaces are named databases whose names begin with ``kvstore:``. Encoded keys
begin with a byte below 0x10 and names with a letter, so keys and names never meet.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence

import lmdb

from kvstore.backends import lmdb_file
from kvstore.backends.lmdb_env import Environment, write_new_file
from kvstore.backends.lmdb_errors import translate
from kvstore.backends.lmdb_read import FORMAT_KEY, META, View, database_name
from kvstore.backends.lmdb_write import MAX_SPACES, SizeLimit, WriteTxn, roll_back_where_referenced
from kvstore.backends.metapages import continue_txn_ids
from kvstore.backends.protocol import FileUsage, Options, Space
from kvstore.errors import ReadOnlyError, StoreCorruptError, StoreIOError, io_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypeVar

    from kvstore.backends.lmdb_structure import Remains

    R = TypeVar("R")

_READER_CHECK_COMMITS: Final = 64


class LmdbBackend:
    """A store in one LMDB file; see ``protocol.Backend``.

    Opening is safe against what is at the path: a missing file is created whole or not at all, and anything that LMDB
    can't be trusted with is refused before LMDB sees it.
    """

    def __init__(self, identity: str, options: Options, *, map_size: int | None = None) -> None:
        self.identity = identity
        self.readonly = options.readonly
        self.companion = self.companion_of(identity)
        self.bounded = options.max_size is not None
        self.flushes = options.durability != "none"
        self._readers_checked = 0
        self.hot_list = lmdb_file.beside(identity, "-hot")
        self._limit = SizeLimit(identity, options.max_size)
        with self._translating():
            if not lmdb_file.is_there(identity):
                if options.readonly or not options.create:
                    raise StoreIOError(
                        errno.ENOENT, "there is no store here; open it with create=True to make one", identity
                    )
                lmdb_file.create(identity, write_new_file)
            lmdb_file.admit(identity, lambda path: not _structural_problems(path, None))
            from kvstore.backends.lmdb_structure import follow

            follow(identity, database_name(META), FORMAT_KEY)
            self._env = Environment(identity, options, map_size)

    @staticmethod
    def companion_of(identity: str) -> str:
        return lmdb_file.beside(identity, "-ring")

    @staticmethod
    def identify(location: str) -> str:
        return lmdb_file.identify(location)

    @property
    def commits(self) -> tuple[Sequence[int], Sequence[int]]:
        return self._env.commits

    def tell_who_writes(self, others_write: Callable[[], bool]) -> None:
        self._env.others_write = others_write

    # -- reading -------------------------------------------------------------------------------------------------

    def get(self, space: Space, key: bytes) -> tuple[bytes | None, int]:
        # The miss path. A transaction ended by hand costs two thirds of one ended by ``with``, and the main database needs
        # no handle. Where an exception comes between, the transaction ends with its last reference.
        try:
            if space:
                if space not in self._env.handles and not self._env.open_space(space):
                    return self._get_from_unopened(space, key)
                txn = self._env.begin()
                # Taken after the transaction has begun, since compacting replaces environment and handles together.
                handle = self._env.handles.get(space)
                if handle is None:
                    txn.abort()
                    return self.get(space, key)
                found = txn.get(key, None, handle)
            else:
                txn = self._env.begin()
                found = txn.get(key)
            commit = txn.id()
            txn.abort()
        except (lmdb.MapResizedError, lmdb.ReadersFullError) as error:
            self._env.make_way(error)
            return self.get(space, key)
        except lmdb.Error as error:
            raise translate(error, self.identity) from error
        return found, commit

    def get_record(self, space: Space, key: bytes) -> bytes | None:
        # As ``get`` without the id, asking for which costs as much as the lookup.
        if space:
            return self.get(space, key)[0]
        try:
            begin = self._env.begin
            txn = begin()
            found: bytes | None = txn.get(key)
            txn.abort()
        except (lmdb.MapResizedError, lmdb.ReadersFullError) as error:
            self._env.make_way(error)
            return self.get_record(space, key)
        except lmdb.Error as error:
            raise translate(error, self.identity) from error
        return found

    def read(self, *spaces: Space) -> View:
        try:
            return self._begin_view(spaces)
        except lmdb.Error as error:
            raise translate(error, self.identity) from error

    def _begin_view(self, spaces: Sequence[Space]) -> View:
        env = self._env
        while True:
            handles = env.handles
            txn = env.begin_following()
            if env.handles is not handles:
                # A transaction can use the handles that were there when it began, and compacting replaces them all. So does
                # a forked child's first read, which opens the environment.
                txn.abort()
                continue
            view = View(txn, handles, self.identity)
            for space in spaces or view.databases():
                if space not in handles and space != META and not view.knows(space):
                    break
            else:
                return view
            view.abort()
            env.open_space(space, wait=True)

    def _get_from_unopened(self, space: Space, key: bytes) -> tuple[bytes | None, int]:
        """As ``get``, with a handle that lives no longer than the transaction."""
        self._env.gate.check()
        with self._env.gate.lock, self._env.begin() as txn:
            name = database_name(space)
            handle = None if txn.get(name) is None else self._env.raw.open_db(name, txn=txn, create=False)
            return (None if handle is None else txn.get(key, None, handle)), txn.id()

    # -- writing -------------------------------------------------------------------------------------------------

    def write(self, work: Callable[[WriteTxn], R]) -> R:
        # A function that is called, not a context manager: a signal at the first instruction of a Python ``__exit__``
        # would leave the lock held and the transaction open.
        env = self._env
        gate = env.gate
        me = threading.get_ident()
        if gate.holder == me:
            gate.check()
        writing = None
        try:
            with gate.lock:
                try:
                    gate.holder = me
                    writing = self._begin_write()
                    if writing.id - self._readers_checked >= _READER_CHECK_COMMITS:
                        # What processes that have died were reading can't be used again before their slots are free.
                        env.raw.reader_check()
                        self._readers_checked = writing.id
                    return work(writing)
                finally:
                    # First what needs no call: an interrupt comes when a call returns.
                    gate.holder = None
                    if writing is not None:
                        txn, writing._txn = writing._txn, None
                        try:
                            roll_back_where_referenced(txn)
                        finally:
                            txn = None
        except lmdb.Error as error:
            raise self._limit.translated(error) from error

    def put(self, key: bytes, record: bytes, announce: Callable[[int, bytes], object]) -> int:
        # Nothing here opens a handle, so it needs no gate: LMDB's own lock keeps other writers away.
        try:
            txn = self._env.begin(write=True)
            try:
                commit: int = txn.id()
                txn.put(key, record)
                announce(commit, key)
                txn.commit()
            finally:
                # Not aborted; see ``roll_back_where_referenced``.
                txn = None
        except lmdb.MapResizedError as error:
            # It has not begun, so nothing was announced.
            self._env.make_way(error)
            return self.put(key, record, announce)
        except lmdb.Error as error:
            raise self._limit.translated(error) from error
        return commit

    @contextlib.contextmanager
    def transaction(self) -> Iterator[WriteTxn]:
        self._env.gate.check()
        writing = None
        try:
            with self._env.gate.lock:
                try:
                    self._env.gate.holder = threading.get_ident()
                    writing = self._begin_write()
                    yield writing
                finally:
                    # As in ``write``.
                    self._env.gate.holder = None
                    if writing is not None:
                        txn, writing._txn = writing._txn, None
                        try:
                            roll_back_where_referenced(txn)
                        finally:
                            txn = None
        except lmdb.Error as error:
            raise self._limit.translated(error) from error

    def _begin_write(self) -> WriteTxn:
        if self.readonly:
            self._refuse_writing()
        env = self._env
        # Held by nothing but what is returned: see ``roll_back_where_referenced``.
        return WriteTxn(env, env.begin_following(write=True), env.handles, self._limit)

    def _refuse_writing(self) -> None:
        raise ReadOnlyError(f"{self.identity} was opened with readonly=True; open it for writing to change it")

    # -- the file ------------------------------------------------------------------------------------------------

    def usage(self) -> FileUsage:
        # Counted from the main database alone, which needs no handle of any other.
        with self._translating(), self.read("") as view:
            used = view.live_pages() * self._env.page_size
            info = self._env.raw.info()
            try:
                file_bytes = os.stat(self.identity).st_size
            except FileNotFoundError:
                # Deleted under the open store, which goes on for as long as it is open.
                file_bytes = (info["last_pgno"] + 1) * self._env.page_size
            return FileUsage(
                records=view.count("") + sum(map(view.count, view.spaces())),
                file_bytes=file_bytes,
                used_bytes=used,
                reclaimable_bytes=max(0, (info["last_pgno"] + 1) * self._env.page_size - used),
                oldest_reader_lag=self._oldest_reader_lag(info["last_txnid"]),
            )

    def _oldest_reader_lag(self, newest: int) -> int:
        """How many commits the oldest read transaction of any living process is behind."""
        self._env.raw.reader_check()
        return max((newest - int(row[2]) for row in self._env.readers() if row[2].isdigit()), default=0)

    def inode(self) -> tuple[int, int]:
        return self._env.inode

    def replaced(self) -> bool:
        try:
            found = os.stat(self.identity)
        except FileNotFoundError:
            return True
        except OSError as error:
            raise io_error(error, self.identity) from error
        return (found.st_dev, found.st_ino) != self._env.inode

    def backup(self, target: str) -> None:
        def fill(draft: str) -> None:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CLOEXEC)
            try:
                self._env.raw.copyfd(descriptor, compact=True)
                os.fchmod(descriptor, os.stat(self.identity).st_mode & 0o777)
            finally:
                os.close(descriptor)

        if os.path.lexists(target):
            raise StoreIOError(errno.EEXIST, "there is a file already; a backup never overwrites one", target)
        with self._translating():
            # Begun for its check that the store is open, and, in a forked child, for opening it.
            self._env.begin().abort()
            if not lmdb_file.create(target, fill):
                raise StoreIOError(errno.EEXIST, "there is a file already; a backup never overwrites one", target)

    def compact(self) -> None:
        from kvstore.backends.lmdb_rewrite import write_in_order

        self._env.gate.check()
        draft = lmdb_file.beside(self.identity, f".compact-{os.urandom(8).hex()}")
        with self._translating(), self._env.gate.lock:
            try:
                self._env.begin().abort()
                descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, lmdb_file.MODE)
                try:
                    if not write_in_order(self._env.raw, self.identity, draft, MAX_SPACES + 4):
                        os.ftruncate(descriptor, 0)
                        self._env.raw.copyfd(descriptor, compact=True)
                    continue_txn_ids(descriptor, self._env.page_size, self._env.raw.info()["last_txnid"])
                    os.fchmod(descriptor, os.stat(self.identity).st_mode & 0o777)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                self._env.exchange(draft)
            finally:
                try:  # noqa: SIM105  # the call comes first: an interrupt could come in making a suppress()
                    os.unlink(draft)
                except FileNotFoundError:
                    pass

    def problems(self, own: Collection[Space]) -> list[str]:
        with self._still():
            return _structural_problems(self.identity, {META, *own})

    @contextlib.contextmanager
    def remains(self) -> Iterator[Remains]:
        from kvstore.backends.lmdb_structure import remains

        with self._still(), remains(self.identity) as left:
            yield left

    @contextlib.contextmanager
    def _still(self) -> Iterator[None]:
        """Keep writers away, where that may be."""
        with self._translating(), self.transaction() if not self.readonly else contextlib.nullcontext():
            yield

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except lmdb.Error as error:
            raise translate(error, self.identity) from error
        except StoreIOError:
            raise
        except OSError as error:
            raise io_error(error, self.identity) from error

    def leave_to_parent(self, *, for_good: bool) -> None:
        self._env.leave_to_parent(for_good=for_good)

    def close(self) -> None:
        with self._translating():
            self._env.close()


def _structural_problems(path: str, own: Collection[Space] | None) -> list[str]:
    # Seldom needed, and lmdb.verify is a third of the cost of importing lmdb.
    from kvstore.backends.lmdb_structure import misleading
    from kvstore.backends.lmdb_walk import structural_problems

    try:
        return structural_problems(path) or misleading(path, own)
    except StoreCorruptError as error:
        return [str(error)]
