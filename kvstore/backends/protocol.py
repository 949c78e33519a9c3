"""What an engine must do to keep a store's bytes: the contract between ``backends`` and everything above.

Keys and records are bytes here; what they mean is decided above. A *space* is a separate ordered key space of
one store, named by a str; ``""`` is the default one and always there.

Every committed write transaction has an id, and ids only grow. Reads say at which id they were made, so that the
memory tier can tell what it may keep.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager

from kvstore.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, Literal, Protocol, Self, TypeAlias, TypeVar

    R = TypeVar("R")
else:
    Protocol = object

Space = str
OWN_SPACE: Final = "kvstore:"
"""Spaces whose names begin so are the library's own; no namespace may be named so."""

Durability: TypeAlias = "Literal['full', 'relaxed', 'none']"


class Options(Frozen):
    """How to open a store; the meaning of each is in ``kvstore.open``."""

    durability: Durability = "full"
    readonly: bool = False
    create: bool = True
    max_size: int | None = None


class FileUsage(Frozen):
    """The file's figures at one commit, in bytes unless said otherwise."""

    records: int
    file_bytes: int
    used_bytes: int
    reclaimable_bytes: int
    oldest_reader_lag: int


class Flaw(Frozen):
    """Keys that are lost, since what led to them is damaged."""

    space: Space
    low: bytes | None
    """The key that they begin with; None where that isn't known."""
    high: bytes | None
    """The key that comes after them; None where that isn't known."""
    message: str


class Reading(Protocol):
    """One consistent view of the store, as of the commit ``id``."""

    @property
    def id(self) -> int: ...

    def get(self, space: Space, key: bytes) -> bytes | None:
        """The record, or None."""

    def scan(
        self, space: Space, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """``(key, record)`` for start <= key < stop, in the order of the keys' bytes."""

    def scan_beyond(
        self, space: Space, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As ``scan``, and on to the end of the space: who reads it stops at the first key that is out of the range, which
        costs less than stopping him.
        """

    def scan_keys(self, space: Space, start: bytes, stop: bytes | None, *, reverse: bool = False) -> Iterator[bytes]:
        """As ``scan``, without touching the records."""

    def first_key(self, space: Space, start: bytes, stop: bytes | None, *, reverse: bool = False) -> bytes | None:
        """The key that ``scan_keys`` would begin with, or None: what the ends of a range are found by, at less than it
        costs to begin a scan.
        """

    def count(self, space: Space) -> int:
        """How many keys the space has, without scanning it."""

    def spaces(self) -> list[Space]:
        """The named spaces that have a key, in order, the default one not among them."""

    def translating(self) -> AbstractContextManager[Self]:
        """Itself, for a block in which the engine's errors become the library's own. The block of ``Backend.read`` does
        that already; who lets a view outlive it needs this one.
        """


class Remains(Reading, Protocol):
    """What can be read of a store whose structure is damaged, without the engine and in key order alone. A record that is
    there and can't be read is empty bytes.
    """

    flaws: list[Flaw]
    """What couldn't be, of everything that was asked for so far."""

    def reaches(self, space: Space, key: bytes) -> bool:
        """Whether the engine finds the key."""


class Writing(Reading, Protocol):
    """The one write transaction. Its reads see its own writes; ``id`` is the id that its commit will have."""

    changed: dict[tuple[Space, bytes], Any]
    """What was written, each key with the note that its last change left, or None. The empty key stands for the whole
    space: after ``clear``, and where the keys became too many to name."""

    def put(self, space: Space, key: bytes, record: bytes, note: Any = None) -> None:
        """Write, over whatever is there."""

    def put_freeing(self, space: Space, key: bytes, record: bytes) -> None:
        """As ``put``, for what belongs to a deletion that frees at least as much: like a delete, it is not held against
        ``max_size``.
        """

    def put_all(self, space: Space, records: Sequence[tuple[bytes, bytes, Any]]) -> None:
        """Write ``(key, record, note)``; of two with the same key the later one stays."""

    def delete(self, space: Space, key: bytes) -> bool:
        """Remove; whether something was there."""

    def clear(self, space: Space) -> None:
        """Remove every key of the space, in the time that its pages take, not its keys."""

    def commit(self) -> None:
        """Make it durable, as far as the store's durability goes. Nothing may be called afterwards."""

    def touch(self) -> None:
        """Have something to commit though nothing is changed."""

    def check_size(self) -> None:
        """Raise ``StoreFullError`` where what was written so far takes the store over its ``max_size``."""

    def nested(self) -> AbstractContextManager[Writing]:
        """A transaction inside this one: an exception undoes what it did, and nothing else."""


class Backend(Protocol):
    """An opened engine. Safe to use from every thread of the process that opened it."""

    identity: str
    readonly: bool
    bounded: bool
    """Whether it has a ``max_size``, so that ``check_size`` has something to check."""

    flushes: bool
    """Whether a commit waits for the medium, so that it takes as long for many writes as for one."""

    @property
    def commits(self) -> tuple[Sequence[int], Sequence[int]]:
        """Cells that tell of commits without a call into the engine: ``commits[0][0]`` and ``commits[1][0]`` are the two
        newest commit ids, and the next commit, by whatever process, overwrites the older of them.
        """

    companion: str
    """The path where processes that share the store keep a file of their own beside it."""

    hot_list: str
    """The path where the keys that memory held are remembered; the store knows nothing of it."""

    def get(self, space: Space, key: bytes) -> tuple[bytes | None, int]:
        """One record and the commit id it was read at, in a read transaction that ends with the call."""

    def get_record(self, space: Space, key: bytes) -> bytes | None:
        """As ``get``, for where the id isn't needed."""

    def read(self, *spaces: Space) -> AbstractContextManager[Reading]:
        """A read transaction for several reads of these spaces, or of all."""

    def write(self, work: Callable[[Writing], R]) -> R:
        """Do ``work`` in the write transaction, for the calling thread alone: waits for the one before it, of whatever
        process, and rolls back at the end unless it was committed.
        """

    def put(self, key: bytes, record: bytes, announce: Callable[[int, bytes], object]) -> int:
        """Write one record to the default space, commit, and give the commit's id. ``announce`` is called with the id and the
        key before the commit. The caller keeps this process's other writers away, and ``max_size`` isn't looked at.
        """

    def transaction(self) -> AbstractContextManager[Writing]:
        """As ``write``, with the work in a ``with`` block."""

    def tell_who_writes(self, others_write: Callable[[], bool]) -> None:
        """Say how to find out whether another process is writing at this moment, so that what takes a write would wait."""

    def usage(self) -> FileUsage:
        """The file's figures now."""

    def inode(self) -> tuple[int, int]:
        """Device and inode of the file that is open."""

    def replaced(self) -> bool:
        """Whether its location holds something else by now than what was opened."""

    def leave_to_parent(self, *, for_good: bool) -> None:
        """Called in a forked child, before anything else: what is open is the parent's. The next use opens the store
        anew; ``for_good``, where the parent was inside a transaction, it raises ``TransactionError``.
        """

    def backup(self, target: str) -> None:
        """Copy the store as of one commit to a new file, compact and flushed, while others go on reading and writing."""

    def compact(self) -> None:
        """Replace the file by one that is as small as what it holds allows. The caller keeps other processes, and writers, away;
        reads of this process wait for the exchange.
        """

    def problems(self, own: Collection[Space]) -> list[str]:
        """What is wrong with the file's structure, judged page by page without the engine; writers wait. ``own`` are the
        library's own spaces that may be there.
        """

    def remains(self) -> AbstractContextManager[Remains]:
        """What is left where something is wrong with the structure; writers wait."""

    def close(self) -> None:
        """Let go of the file. Waits for the write that is under way; open reads end with ``StoreClosedError``."""
