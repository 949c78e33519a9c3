"""Writing a dump."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, TypeAlias, cast

from kvstore.dump_json import dump_key, dumps
from kvstore.dump_record import DumpItem, DumpMember, DumpRecord, DumpStructure
from kvstore.errors import KvstoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from kvstore.dump_record import Dumped
    from kvstore.keys import Key

FORMAT: Final = "kvstore dump"

VERSION: Final = 2
"""Of the format. A reader takes its own and every older one. A dump says the least version that has what is in it: 2 where
there is a list or a set, otherwise 1."""

STRUCTURES_SINCE: Final = 2
"""The first version that has lists and sets."""

MAX_LINE_BYTES: Final = 512 * 2**20
"""The longest line that is written, and that is read before it is given up on: room for 384 MiB of bytes."""

Progress: TypeAlias = "Callable[[int], object]"
"""Called with the number of records done so far, after each."""

_CHUNK: Final = 64 * 1024


class Exporter(Protocol):
    """What can be dumped, such as a Store."""

    def namespaces(self) -> Iterable[str]:
        """Names of the namespaces that have records; the default one, "", need not be among them."""

    def export_records(
        self, *, prefix: str | bytes | tuple[Key, ...] | None = None, namespace: str | None = None
    ) -> Iterator[Dumped]:
        """A generator of the records of one snapshot, namespace by namespace: in each first the lists and sets in key order,
        each followed by its elements, then the records in key order.

        The snapshot is taken when the first record is asked for, and let go when the generator ends or is
        closed.
        """


@dataclass(frozen=True, slots=True)
class DumpReport:
    """What was written: records, among them each list and set and each of their elements, bytes before any compression, and
    the digest that the trailer has.
    """

    records: int
    bytes: int
    sha256: str


def silent(_: int) -> None:
    """No progress shown."""


def write(
    store: Exporter,
    target: BinaryIO,
    *,
    prefix: str | bytes | tuple[Key, ...] | None = None,
    namespace: str | None = None,
    progress: Progress = silent,
    max_line: int = MAX_LINE_BYTES,
) -> DumpReport:
    """The records of a store, as they are at one moment, written as a dump.

    `prefix` keeps those whose keys begin with it, `namespace` those of one namespace. A record that takes
    more than `max_line` bytes as a line is a KvstoreError. What was written before anything is raised is no
    dump.
    """
    lines = _Lines(target)
    count = 0
    # Closed here, not when the last traceback with it is gone: an open snapshot keeps freed pages from use.
    with closing(
        cast("Generator[Dumped, None, None]", store.export_records(prefix=prefix, namespace=namespace))
    ) as records:
        # The names follow the snapshot: a namespace that is filled in between is merely named for nothing.
        record = next(records, None)
        asked = sorted({"", *store.namespaces()}) if namespace is None else [namespace]
        firsts = {name: next(store.export_records(prefix=prefix, namespace=name), None) for name in asked}
        names = [name for name, first in firsts.items() if first is not None]
        # Structures come first.
        version = STRUCTURES_SINCE if any(type(first) is DumpStructure for first in firsts.values()) else 1
        lines.add(dumps({"format": FORMAT, "version": version, "namespaces": names}).encode())
        while record is not None:
            if isinstance(record, DumpRecord | DumpStructure) and record.namespace not in names:
                raise KvstoreError(f"the namespace {dumps(record.namespace)} was emptied during the dump; dump again")
            if version < STRUCTURES_SINCE and type(record) is DumpStructure:
                raise KvstoreError(f"the {record.kind} {dump_key(record.key)} was removed during the dump; dump again")
            line = _text(record).encode()
            if len(line) >= max_line:
                raise KvstoreError(
                    f"{_named(record)} takes {len(line) + 1} bytes as a line of a dump, and max_line is {max_line}; give a "
                    "larger one, here and when loading"
                )
            lines.add(line)
            count += 1
            progress(count)
            record = next(records, None)
    sha256 = lines.digest()
    lines.add(dumps({"count": count, "sha256": sha256}).encode())
    lines.flush()
    return DumpReport(count, lines.bytes, sha256)


def _text(record: Dumped) -> str:
    if isinstance(record, DumpItem):
        return f'{{"item":{dumps(record.value)}}}'
    if isinstance(record, DumpMember):
        return f'{{"member":{dump_key(record.key)}}}'
    expires = "null" if record.expires is None else str(record.expires)
    if isinstance(record, DumpStructure):
        return f'{{"ns":{dumps(record.namespace)},"{record.kind}":{dump_key(record.key)},"expires":{expires}}}'
    return (
        f'{{"ns":{dumps(record.namespace)},"key":{dump_key(record.key)},"value":{dumps(record.value)},'
        f'"expires":{expires}}}'
    )


def _named(record: Dumped) -> str:
    if isinstance(record, DumpItem):
        return "an item of a list"
    what = "record" if isinstance(record, DumpRecord) else "member" if isinstance(record, DumpMember) else record.kind
    return f"the {what} {dump_key(record.key)}"


class _Lines:
    """Lines on their way to the target: hashed, and handed on in large pieces."""

    def __init__(self, target: BinaryIO) -> None:
        self.bytes = 0
        self._target = target
        self._hash = hashlib.sha256()
        self._waiting = bytearray()

    def add(self, line: bytes) -> None:
        self._waiting += line
        self._waiting += b"\n"
        if len(self._waiting) >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Hand on all lines. The target's own buffer is the target's business."""
        self._hash.update(self._waiting)
        self.bytes += len(self._waiting)
        rest = memoryview(bytes(self._waiting))
        self._waiting.clear()
        while rest:
            # A raw target, such as a pipe, may take a part.
            rest = rest[self._target.write(rest) :]

    def digest(self) -> str:
        """SHA-256 of all lines so far, in hex."""
        self.flush()
        return self._hash.hexdigest()
