"""What each commit changed: how a memory tier drops exactly that, whichever process committed.

The commit ids in the file say *whether* something changed, this log says *what*. A writer publishes the keys of a commit
before it commits, and confirms it afterwards; a memory tier that finds itself behind asks for everything in between.
Where the log can't tell, for whatever reason, the answer is None, and the tier drops everything.

The log is a ring in a file beside the store, which every process that has the store open reads and writes in place. Nobody
waits for anybody: writers are serialized by the store's write lock, and a reader believes an entry only if its checksum
agrees. Layout, in the machine's own byte order::

    0      64 bytes     magic and format, device and inode of the store's file, where the next long entry goes; and, in byte 32,
                        whether any process has opened the store beside the one that made this ring
    64     1024 slots   of 256 bytes: the entry of commit N stands in slot N mod 1024, as commit, writer, offset, length,
                        checksum, and the entry itself where it has at most 216 bytes
    ...    1 MiB        longer entries

An entry is, for each change, u16 length of the space, u16 length of the key, space, key.

A *writer* is one opening of the store by a process, known by a number that no other has. Its entries count while it goes
on: of a writer that died between publishing and committing the keys stand under an id that a program without this log
may give to another commit. Where a commit fails, its writer ends, and the process goes on as another. A writer
settles what it has published once the commit took place, and what an interrupt has left unsettled when it closes the
store: ``writer`` is 0 then. The checksum is XXH3-64, seeded with the commit, and XORed with the writer, or with all ones
where the writer is 0: of a slot that was written anew in part nothing agrees.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable
from mmap import mmap
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

_MAGIC: Final = int.from_bytes(b"kvring\0\2", "big")
_HEAD: Final = Struct("=QQQQ")
_HEAD_BYTES: Final = 64
COMPANY: Final = _HEAD.size
"""Where the head says that a second process has come."""
_SLOT: Final = Struct("=QQQQQ")
_CHANGE: Final = Struct("=HH")
_SLOTS: Final = 1024
_SLOT_BYTES: Final = 256
_SHORT_BYTES: Final = _SLOT_BYTES - _SLOT.size
_SHORT_KEY_BYTES: Final = _SHORT_BYTES - _CHANGE.size
_DATA_BYTES: Final = 1 << 20
SLOTS_END: Final = _HEAD_BYTES + _SLOTS * _SLOT_BYTES
RING_BYTES: Final = SLOTS_END + _DATA_BYTES
_MOST_BYTES: Final = _DATA_BYTES // 4
_MOST_CHANGES: Final = _MOST_BYTES // 32
_EVERYTHING: Final = (1 << 64) - 1
_SETTLED: Final = 0
_SETTLED_MARK: Final = (1 << 64) - 1
_NOTHING: Final = (0, 0, 0, 0)
WRITERS: Final = 1 << 60
"""Writers are numbered from 1 to this."""


class KnownChanges(Protocol):
    """Whoever can be asked for the changed keys of recent commits."""

    def between(self, seen: int, current: int) -> list[Change] | None:
        """What the commits after ``seen``, up to ``current``, have changed; None where that isn't known."""


class Changes(KnownChanges, Protocol):
    """A log of the changed keys of recent commits."""

    writer: int
    """The number to publish under. Where it is 0, nobody believes it."""

    def publish(self, commit: int, changed: Collection[Change]) -> None:
        """Say what the commit is about to change. Called by the holder of the write lock, before it commits."""

    def publish_one(self, commit: int, key: bytes) -> None:
        """As ``publish``, of a commit that changes one key of the default space."""

    def note(self, commit: int, changed: Collection[Change]) -> None:
        """As ``publish``, to this process alone, and only until the next one: where nobody else has a memory to keep true.

        Its readers find the commit in the file before its writer can tell them of it.
        """

    def note_one(self, commit: int, key: bytes) -> None:
        """As ``note``, of a commit that changes one key of the default space."""

    def settle_one(self, commit: int) -> None:
        """Make what was published of a commit good for ever: it took place."""


class NoChanges:
    """The log where there can be none, as beside a store on a read-only medium: nothing is known."""

    writer = 0

    def publish(self, commit: int, changed: Collection[Change]) -> None:
        """Nobody to tell."""

    def publish_one(self, commit: int, key: bytes) -> None:
        """Nobody to tell."""

    def note(self, commit: int, changed: Collection[Change]) -> None:
        """Nobody to tell."""

    def note_one(self, commit: int, key: bytes) -> None:
        """Nobody to tell."""

    def settle_one(self, commit: int) -> None:
        """Nobody to tell."""

    def between(self, seen: int, current: int) -> list[Change] | None:
        """Not known."""
        return None


class RingFile(Protocol):
    """Bytes that processes share."""

    def read(self, size: int, position: int) -> bytes:
        """The bytes from ``position`` on, as many as there are. May raise ``OSError``."""

    def write(self, data: bytes, position: int) -> object:
        """Put the bytes in place, beyond the end too. May raise ``OSError``."""

    @property
    def memory(self) -> mmap | None:
        """The head and the slots, mapped for writing; None where they must not be."""


class Ring:
    """The log, in a file that processes share.

    ``store`` are the device and the inode of the store's file; what a ring says of another file is not believed.
    ``goes_on`` says whether a writer is at it still.
    """

    def __init__(self, file: RingFile, store: tuple[int, int], goes_on: Callable[[int], bool]) -> None:
        self._file = file
        self._memory = file.memory
        self._store = store
        self._goes_on = goes_on
        self.writer = 0
        self._to_settle = _NOTHING
        """The last commit that ``publish_one`` has mapped an entry of, where its slot is, and the entry's length and checksum."""
        self._noted: tuple[int, int, Collection[Change]] = (0, 0, ())
        """The last commit that was noted, its writer, and what it changes; believed while that writer goes on."""

    def reset(self) -> None:
        """Forget everything. For the only process that has the store open."""
        self._put(_HEAD.pack(_MAGIC, *self._store, 0) + bytes(SLOTS_END - _HEAD.size), 0)

    def join(self) -> None:
        """Tell the process that made this ring that it is not alone any more."""
        self._put(b"\1", COMPANY)

    def follow(self, store: tuple[int, int]) -> None:
        """Another file is in the place of the store's."""
        self._store = store
        if self._next_position() is None:
            self.reset()

    def publish(self, commit: int, changed: Collection[Change]) -> None:
        self._to_settle = _NOTHING
        entry = _packed(changed) if len(changed) <= _MOST_CHANGES else b""
        length, position = len(entry), 0
        checksum = xxh3_64_intdigest(entry, commit)
        if length > _SHORT_BYTES or len(changed) > _MOST_CHANGES:
            entry, length, position = self._put_aside(entry)
        self._put_slot(commit, _SLOT.pack(commit, self.writer, position, length, checksum ^ self.writer) + entry)

    def publish_one(self, commit: int, key: bytes) -> None:
        memory = self._memory
        if memory is None or len(key) > _SHORT_KEY_BYTES:
            self.publish(commit, (("", key),))
            return
        entry = _CHANGE.pack(0, len(key)) + key
        length = len(entry)
        writer = self.writer
        checksum = xxh3_64_intdigest(entry, commit)
        # A call of the system would cost a durable commit a twentieth.
        start = _HEAD_BYTES + commit % _SLOTS * _SLOT_BYTES
        memory[start : start + _SLOT.size + length] = _SLOT.pack(commit, writer, 0, length, checksum ^ writer) + entry
        self._to_settle = commit if writer else 0, start, length, checksum

    def note(self, commit: int, changed: Collection[Change]) -> None:
        self._noted = commit, self.writer, changed

    def note_one(self, commit: int, key: bytes) -> None:
        self._noted = commit, self.writer, (("", key),)

    def _put_slot(self, commit: int, slot: bytes) -> None:
        start = _HEAD_BYTES + commit % _SLOTS * _SLOT_BYTES
        if self._memory is None:
            self._put(slot, start)
        else:
            self._memory[start : start + len(slot)] = slot

    def _put_aside(self, entry: bytes) -> tuple[bytes, int, int]:
        """Put a long entry where such ones stand: what is left for its slot, its length, and its position."""
        # Nobody else writes the head meanwhile. What isn't ours isn't made so: what its slots say is of
        # another file.
        position = self._next_position()
        if position is None or not entry or len(entry) > _MOST_BYTES:
            return b"", _EVERYTHING, 0
        if position + len(entry) > _DATA_BYTES:
            position = 0
        self._put(entry, SLOTS_END + position)
        self._put(_HEAD.pack(_MAGIC, *self._store, position + len(entry)), 0)
        return b"", len(entry), position

    def settle_one(self, commit: int) -> None:
        published, start, length, checksum = self._to_settle
        if published == commit:
            settled = _SLOT.pack(commit, _SETTLED, 0, length, checksum ^ _SETTLED_MARK)
            self._memory[start : start + _SLOT.size] = settled  # type: ignore[index]  # it was mapped
        else:
            self._settle_found(commit)

    def _settle_found(self, commit: int) -> None:
        start = _HEAD_BYTES + commit % _SLOTS * _SLOT_BYTES
        slot = self._get(_SLOT.size, start) if self._memory is None else self._memory[start : start + _SLOT.size]
        if len(slot) == _SLOT.size:
            found, writer, position, length, checksum = _SLOT.unpack(slot)
            if found == commit and writer == self.writer != _SETTLED:
                self._put_slot(
                    commit, _SLOT.pack(commit, _SETTLED, position, length, checksum ^ writer ^ _SETTLED_MARK)
                )

    def settle(self) -> None:
        """Make what this writer has published good for ever. Called when the last of its commits is done."""
        slots = self._get(_SLOTS * _SLOT_BYTES, _HEAD_BYTES)
        for number in range(len(slots) // _SLOT_BYTES):
            commit, writer, position, length, checksum = _SLOT.unpack_from(slots, number * _SLOT_BYTES)
            if writer == self.writer != _SETTLED and commit % _SLOTS == number:
                settled = _SLOT.pack(commit, _SETTLED, position, length, checksum ^ writer ^ _SETTLED_MARK)
                self._put(settled, _HEAD_BYTES + number * _SLOT_BYTES)

    def between(self, seen: int, current: int) -> list[Change] | None:
        noted, writer, changed_now = self._noted
        if current == noted == seen + 1 and writer == self.writer != _SETTLED:
            return [change for change in changed_now if not change[0].startswith(OWN_SPACE)]
        if current - seen > _SLOTS or self._next_position() is None:
            return None
        changes: list[Change] = []
        believed = {_SETTLED}
        for commit in range(seen + 1, current + 1):
            entry = self._entry(commit, believed)
            if entry is None:
                # It may have been settled that instant, one half of it read before and the other after.
                entry = self._entry(commit, believed)
            changed = None if entry is None else _unpacked(entry)
            if changed is None:
                return None
            changes += changed
        return changes

    # What the disk has no room for, or the file has lost, is missing, and noticed by whoever reads it: the store's own
    # writes must not fail for it.

    def _put(self, data: bytes, position: int) -> None:
        with contextlib.suppress(OSError):
            self._file.write(data, position)

    def _get(self, size: int, position: int) -> bytes:
        try:
            return self._file.read(size, position)
        except OSError:
            return b""

    def _next_position(self) -> int | None:
        """Where the next long entry goes; None where this is no ring of ours."""
        head = self._get(_HEAD.size, 0)
        if len(head) < _HEAD.size:
            return None
        magic, device, inode, position = _HEAD.unpack(head)
        if magic != _MAGIC or (device, inode) != self._store or position > _DATA_BYTES:
            return None
        return int(position)

    def _entry(self, commit: int, believed: set[int]) -> bytes | None:
        """The entry of the commit, unless there is none to believe. ``believed`` are the writers known to go on."""
        slot = self._get(_SLOT_BYTES, _HEAD_BYTES + commit % _SLOTS * _SLOT_BYTES)
        if len(slot) < _SLOT_BYTES:
            return None
        found, writer, position, length, checksum = _SLOT.unpack_from(slot)
        if found != commit or length > _MOST_BYTES or position + length > _DATA_BYTES:
            return None
        if writer not in believed:
            if not 0 < writer <= WRITERS or not self._goes_on(writer):
                return None
            believed.add(writer)
        inline = slot[_SLOT.size : _SLOT.size + length]
        entry = self._get(length, SLOTS_END + position) if length > _SHORT_BYTES else inline
        checksum ^= writer or _SETTLED_MARK
        return entry if len(entry) == length and xxh3_64_intdigest(entry, commit) == checksum else None


def _packed(changed: Iterable[Change]) -> bytes:
    parts: list[bytes] = []
    for space, key in changed:
        if not space:
            parts += (_CHANGE.pack(0, len(key)), key)
        elif not space.startswith(OWN_SPACE):
            name = space.encode()
            parts += (_CHANGE.pack(len(name), len(key)), name, key)
    return b"".join(parts)


def _unpacked(entry: bytes) -> list[Change] | None:
    """The changes of an entry; None where it is none, though its checksum agrees: whoever wrote that meant harm."""
    changes: list[Change] = []
    position = 0
    while position + _CHANGE.size <= len(entry):
        name, key = _CHANGE.unpack_from(entry, position)
        middle = position + _CHANGE.size + name
        try:
            changes.append((entry[position + _CHANGE.size : middle].decode(), entry[middle : middle + key]))
        except UnicodeDecodeError:
            return None
        position = middle + key
    return changes if position == len(entry) else None
