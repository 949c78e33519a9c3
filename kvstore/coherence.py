"""What each commit changed: how a memory tier drops exactly that, whichever process committed.

The commit ids in the file say *whether* something changed, this log says *what*. A writer publishes the keys of a commit
before it commits, and confirms it afterwards; a memory tier that finds itself behind asks for everything in between.
Where the log can't tell, for whatever reason, the answer is None, and the tier drops everything.

The log is a ring in a file beside the store, which every process that has the store open reads and writes in place; it is not
mapped, since a file that somebody truncates would take the process with it, and no hit comes here. Nobody waits for
anybody: writers are serialized by the store's write lock, and a reader believes an entry only if its checksum, seeded with
the commit id, agrees. Layout, in the machine's own byte order::

    0      64 bytes     magic and format, device and inode of the store's file, where the next entry goes, tenure
    64     1024 slots   the entry of commit N stands in slot N mod 1024: commit, state, offset, length, checksum (XXH3-64)
    ...    1 MiB        entries: for each change u16 length of the space, u16 length of the key, space, key

A *tenure* is one holding of the write lock: whoever gets the lock adds one to the number. ``state`` is 0 when the
commit is confirmed (and the checksum inverted), until then its writer's tenure. An unconfirmed entry counts only while
that tenure lasts: a writer that died between publishing and committing has left its keys under an id that a program
without this log may give to another commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from struct import Struct

from xxhash import xxh3_64_intdigest

from kvstore.backends import OWN_SPACE, Space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Protocol
else:
    Protocol = object

Change = tuple[Space, bytes]
"""A space and an encoded key; the empty key stands for the whole space."""

_MAGIC: Final = int.from_bytes(b"kvring\0\1", "big")
_HEAD: Final = Struct("=QQQQQ24x")
_SLOT: Final = Struct("=QQQQQ")
_CHANGE: Final = Struct("=HH")
_TENURE: Final = Struct("=Q")
_TENURE_OFFSET: Final = 32
_SLOTS: Final = 1024
_DATA_BYTES: Final = 1 << 20
_DATA_START: Final = _HEAD.size + _SLOTS * _SLOT.size
RING_BYTES: Final = _DATA_START + _DATA_BYTES
_MOST_BYTES: Final = _DATA_BYTES // 4
_MOST_CHANGES: Final = _MOST_BYTES // 32
_EVERYTHING: Final = (1 << 64) - 1
_CONFIRMED: Final = 0
_CONFIRMED_MARK: Final = (1 << 64) - 1


class Changes(Protocol):
    """A log of the changed keys of recent commits."""

    def publish(self, commit: int, changed: Collection[Change]) -> None:
        """Say what the commit is about to change. Called by the holder of the write lock, before it commits."""

    def confirm(self, commit: int) -> None:
        """Say that the commit took place."""

    def retract(self, commit: int) -> None:
        """Say that the commit failed, or that nobody knows."""

    def between(self, seen: int, current: int) -> list[Change] | None:
        """What the commits after ``seen``, up to ``current``, have changed; None where that isn't known."""


class NoChanges:
    """The log where there can be none, as beside a store on a read-only medium: nothing is known."""

    def publish(self, commit: int, changed: Collection[Change]) -> None:
        """Nobody to tell."""

    def confirm(self, commit: int) -> None:
        """Nobody to tell."""

    def retract(self, commit: int) -> None:
        """Nobody to tell."""

    def between(self, seen: int, current: int) -> list[Change] | None:
        """Not known."""
        return None


class RingFile(Protocol):
    """Bytes that processes share. Where there are fewer than asked for, ``read`` gives those; ``write`` lengthens."""

    def read(self, position: int, size: int) -> bytes:
        """The bytes from ``position`` on."""

    def write(self, position: int, data: bytes) -> None:
        """Put the bytes in place."""


class Ring:
    """The log, in a file that processes share.

    ``store`` are the device and the inode of the store's file; what a ring says of another file is not believed.
    ``lasts`` says whether a tenure is going on at this moment.
    """

    def __init__(self, file: RingFile, store: tuple[int, int], lasts: Callable[[int], bool]) -> None:
        self._file = file
        self._store = store
        self._lasts = lasts
        self.tenure = 0
        self._position = 0
        self._confirmation: bytes | None = None

    def reset(self) -> None:
        """Forget everything. For the only process that has the store open."""
        self._file.write(0, _HEAD.pack(_MAGIC, *self._store, 0, 1) + bytes(_DATA_START - _HEAD.size))

    def is_ours(self) -> bool:
        """Whether this is a ring of this format, for this very file."""
        return self._head() is not None

    def begin_tenure(self) -> None:
        """Take note that the caller has the write lock."""
        head = self._head()
        if head is None:
            self.tenure = 0
        else:
            # Nobody else writes the head until the tenure ends.
            self._position = head[0]
            self.tenure = head[1] + 1
            self._file.write(_TENURE_OFFSET, _TENURE.pack(self.tenure))

    def publish(self, commit: int, changed: Collection[Change]) -> None:
        if not self.tenure:
            return
        position = self._position
        entry = _packed(changed) if len(changed) <= _MOST_CHANGES else None
        length = _EVERYTHING if entry is None else len(entry)
        if entry is None or length > _MOST_BYTES:
            entry, length = b"", _EVERYTHING
        elif position + length > _DATA_BYTES:
            position = 0
        self._file.write(_DATA_START + position, entry)
        checksum = xxh3_64_intdigest(entry, commit)
        self._file.write(_slot(commit), _SLOT.pack(commit, self.tenure, position, length, checksum))
        self._confirmation = _SLOT.pack(commit, _CONFIRMED, position, length, checksum ^ _CONFIRMED_MARK)
        self._position = position + len(entry)
        self._file.write(0, _HEAD.pack(_MAGIC, *self._store, self._position, self.tenure))

    def confirm(self, commit: int) -> None:
        # The whole slot, not its state alone: what was published may not have arrived, and a dead writer's entry of the
        # same id may stand there still.
        if self._confirmation is not None:
            self._file.write(_slot(commit), self._confirmation)
            self._confirmation = None

    def retract(self, commit: int) -> None:
        if self._confirmation is not None:
            self._file.write(_slot(commit), bytes(_SLOT.size))
            self._confirmation = None

    def between(self, seen: int, current: int) -> list[Change] | None:
        if current - seen > _SLOTS or self._head() is None:
            return None
        changes: list[Change] = []
        for commit in range(seen + 1, current + 1):
            entry = self._entry(commit)
            if entry is None:
                return None
            changes += _unpacked(entry)
        return changes

    def _head(self) -> tuple[int, int] | None:
        """Where the next entry goes, and the tenure; None where this is no ring of ours."""
        head = self._file.read(0, _HEAD.size)
        if len(head) < _HEAD.size:
            return None
        magic, device, inode, position, tenure = _HEAD.unpack(head)
        if magic != _MAGIC or (device, inode) != self._store or position > _DATA_BYTES:
            return None
        return position, tenure

    def _entry(self, commit: int) -> bytes | None:
        slot = self._file.read(_slot(commit), _SLOT.size)
        if len(slot) < _SLOT.size:
            return None
        found, state, position, length, checksum = _SLOT.unpack(slot)
        if found != commit or length > _MOST_BYTES or position + length > _DATA_BYTES:
            return None
        if state != _CONFIRMED and not self._lasts(state):
            return None
        if state == _CONFIRMED:
            # Turned over, so that a slot of which only a part was written anew agrees with neither.
            checksum ^= _CONFIRMED_MARK
        entry = self._file.read(_DATA_START + position, length)
        return entry if len(entry) == length and xxh3_64_intdigest(entry, commit) == checksum else None


def _slot(commit: int) -> int:
    return _HEAD.size + commit % _SLOTS * _SLOT.size


def _packed(changed: Iterable[Change]) -> bytes:
    parts: list[bytes] = []
    for space, key in changed:
        if not space.startswith(OWN_SPACE):
            name = space.encode()
            parts += (_CHANGE.pack(len(name), len(key)), name, key)
    return b"".join(parts)


def _unpacked(entry: bytes) -> Iterator[Change]:
    position = 0
    while position < len(entry):
        name, key = _CHANGE.unpack_from(entry, position)
        middle = position + _CHANGE.size + name
        yield entry[position + _CHANGE.size : middle].decode(), entry[middle : middle + key]
        position = middle + key
