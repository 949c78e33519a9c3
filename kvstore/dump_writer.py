"""Writing a dump."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, TypeAlias, cast

from kvstore.dump_json import dump_key, dumps
from kvstore.errors import KvstoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from kvstore.dump_record import DumpRecord
    from kvstore.keys import Key

FORMAT: Final = "kvstore dump"

VERSION: Final = 1
"""Of the format. A reader takes its own and every older one."""

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
    ) -> Iterator[DumpRecord]:
        """A generator of the records of one snapshot, in key order, namespace by namespace.

        The snapshot is taken when the first record is asked for, and let go when the generator ends or is
        closed.
        """


@dataclass(frozen=True, slots=True)
class DumpReport:
    """What was written: records, bytes before any compression, and the digest that the trailer has."""

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
        cast("Generator[DumpRecord, None, None]", store.export_records(prefix=prefix, namespace=namespace))
    ) as records:
        # The names follow the snapshot: a namespace that is filled in between is merely named for nothing.
        record = next(records, None)
        asked = sorted({"", *store.namespaces()}) if namespace is None else [namespace]
        names = [name for name in asked if any(store.export_records(prefix=prefix, namespace=name))]
        lines.add(dumps({"format": FORMAT, "version": VERSION, "namespaces": names}).encode())
        while record is not None:
            if record.namespace not in names:
                raise KvstoreError(f"the namespace {dumps(record.namespace)} was emptied during the dump; dump again")
            line = _text(record).encode()
            if len(line) >= max_line:
                raise KvstoreError(
                    f"the record {dump_key(record.key)} takes {len(line) + 1} bytes as a line of a dump, and "
                    f"max_line is {max_line}; give a larger one, here and when loading"
                )
            lines.add(line)
            count += 1
            progress(count)
            record = next(records, None)
    sha256 = lines.digest()
    lines.add(dumps({"count": count, "sha256": sha256}).encode())
    lines.flush()
    return DumpReport(count, lines.bytes, sha256)


def _text(record: DumpRecord) -> str:
    expires = "null" if record.expires is None else str(record.expires)
    return (
        f'{{"ns":{dumps(record.namespace)},"key":{dump_key(record.key)},"value":{dumps(record.value)},'
        f'"expires":{expires}}}'
    )


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
