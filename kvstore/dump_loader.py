"""Reading a dump, strictly: everything that no writer makes is refused, with the number of its line."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from kvstore import elements, keys
from kvstore.dump_files import BROKEN_STREAM
from kvstore.dump_json import dump_key, dumps
from kvstore.dump_parse import as_key, loads
from kvstore.dump_record import DumpItem, DumpMember, DumpRecord, DumpStructure
from kvstore.dump_writer import FORMAT, MAX_LINE_BYTES, STRUCTURES_SINCE, VERSION, Progress, silent
from kvstore.errors import DumpFormatError, InvalidKeyError, UnstorableValueError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kvstore.dump_record import Dumped
    from kvstore.elements import Kind

_HEADER: Final = {"format", "version", "namespaces"}
_RECORD: Final = {"ns", "key", "value", "expires"}
_KINDS: Final[tuple[Kind, ...]] = (elements.LIST, elements.SET)
_STRUCTURES: Final[dict[Kind, set[str]]] = {kind: {"ns", kind, "expires"} for kind in _KINDS}
_ITEM: Final = {"item"}
_MEMBER: Final = {"member"}
_TRAILER: Final = {"count", "sha256"}
_PIECE: Final = 2**20
_COMPRESSED: Final = (b"\x1f\x8b", b"\xfd7zXZ")


class Importer(Protocol):
    """What a dump can be loaded into, such as a Store."""

    def import_records(self, records: Iterable[Dumped], *, merge: bool) -> int:
        """Number of records, structures and elements taken over: all of them, or none if anything raises.

        Without `merge`, only into a store that has none. The records are taken one by one, to their end.
        """


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What was read: records, among them each list and set and each of their elements, bytes after any unpacking, and the
    digest that the trailer has.
    """

    records: int
    bytes: int
    sha256: str


def load(
    store: Importer,
    source: BinaryIO,
    *,
    merge: bool = False,
    progress: Progress = silent,
    max_line: int = MAX_LINE_BYTES,
) -> LoadReport:
    """All records of a dump put into a store, in one transaction; if anything is wrong, none.

    The store must be empty, unless `merge`: then a record of the dump replaces the one that has its key, and a list or set
    of the dump the whole of what list or set has its key.
    Raises DumpFormatError for what is no dump, or one that is cut off, altered or damaged, or has a line of
    more than `max_line` bytes.
    """
    lines = _Lines(source, max_line)
    version, names = _read_header(lines)
    try:
        count = store.import_records(_read_records(lines, _Order(version, names), progress), merge=merge)
    except (InvalidKeyError, UnstorableValueError) as error:
        raise lines.error(f"the store can't hold this: {error}") from error
    return LoadReport(count, lines.bytes, lines.digest())


def _read_header(lines: _Lines) -> tuple[int, list[str]]:
    """The version, and the namespaces in order."""
    line = lines.next()
    if line is None:
        raise DumpFormatError("it is empty, and so no dump", line=1)
    try:
        fields = _fields(line)
    except ValueError as error:
        raise lines.error(f"it is not a kvstore dump: {error}") from None
    if fields.get("format") != FORMAT:
        raise lines.error(f'it is not a kvstore dump: there is no "format" that is "{FORMAT}"')
    version = fields.get("version")
    if type(version) is not int or version < 1:
        raise lines.error("the version is not a number from 1")
    if version > VERSION:
        raise lines.error(f"it is of version {version}, and this kvstore reads up to {VERSION}; upgrade kvstore")
    names = fields.get("namespaces")
    if fields.keys() != _HEADER or type(names) is not list or any(type(name) is not str for name in names):
        raise lines.error("a header has a format, a version and an array of namespaces, and nothing else")
    if names != sorted(set(names)):
        raise lines.error("the namespaces are not in order")
    lines.accept(line)
    return version, names


def _read_records(lines: _Lines, order: _Order, progress: Progress) -> Iterator[Dumped]:
    """The records. Ends only where a right trailer has been read, and nothing follows it."""
    count = 0
    while (line := lines.next()) is not None:
        try:
            fields = _fields(line)
            if fields.keys() == _TRAILER:
                order.end()
                _check_trailer(fields, count, lines.digest())
                break
            record = _record(fields)
            order.check(record)
        except (InvalidKeyError, ValueError) as error:
            raise lines.error(str(error)) from None
        lines.accept(line)
        yield record
        count += 1
        progress(count)
    else:
        raise lines.error("the dump ends without its last line, the one with the count: it was cut off")
    if lines.next() is not None:
        raise lines.error("something follows the end of the dump")


def _fields(line: bytes) -> dict[str, Any]:
    fields = loads(line.decode())
    if type(fields) is not dict:
        raise ValueError("the line is not a plain JSON object")
    return fields


def _record(fields: dict[str, Any]) -> Dumped:
    if fields.keys() == _RECORD:
        return DumpRecord(fields["ns"], as_key(fields["key"]), fields["value"], _expires(fields))
    if fields.keys() == _ITEM:
        return DumpItem(fields["item"])
    if fields.keys() == _MEMBER:
        return DumpMember(as_key(fields["member"]))
    for kind, names in _STRUCTURES.items():
        if fields.keys() == names:
            return DumpStructure(fields["ns"], as_key(fields[kind]), kind, _expires(fields))
    raise ValueError(
        "a record has ns, key, value and expires; a list or set has ns, list or set, and expires; an element has item or "
        "member; and nothing else"
    )


def _expires(fields: dict[str, Any]) -> int | None:
    expires = fields["expires"]
    if expires is None or (type(expires) is int and 0 <= expires < 2**64):
        return expires
    raise ValueError("expires is neither null nor milliseconds since the epoch")


class _Order:
    """What may come next in a dump of a version, and in the order of these namespaces."""

    def __init__(self, version: int, names: list[str]) -> None:
        self._version = version
        self._places = {name: place for place, name in enumerate(names)}
        self._previous: tuple[int, bool, bytes] = (-1, False, b"")
        self._kind: Kind | None = None
        self._elements = 0
        self._member = b""

    def check(self, record: Dumped) -> None:
        """Raise ``ValueError`` where no writer puts this next."""
        if isinstance(record, DumpItem | DumpMember):
            self._check_element(record)
            return
        self.end()
        if type(record.namespace) is not str or record.namespace not in self._places:
            raise ValueError(f"the namespace {dumps(record.namespace)} is not one that the first line names")
        is_record = isinstance(record, DumpRecord)
        position = (self._places[record.namespace], is_record, keys.encode(record.key))
        self._require_later(self._previous, position, record.key)
        self._previous = position
        if isinstance(record, DumpStructure):
            if self._version < STRUCTURES_SINCE:
                raise ValueError(f"a dump of version {self._version} has no lists and sets")
            self._kind, self._elements, self._member = record.kind, 0, b""

    def _check_element(self, element: DumpItem | DumpMember) -> None:
        if self._kind != (elements.LIST if isinstance(element, DumpItem) else elements.SET):
            raise ValueError("an item follows a list, and a member a set")
        self._elements += 1
        if isinstance(element, DumpMember):
            encoded = keys.encode(element.key)
            self._require_later(self._member, encoded, element.key)
            self._member = encoded

    def end(self) -> None:
        """Raise ``ValueError`` where elements must follow."""
        if self._kind is not None and not self._elements:
            raise ValueError(f"the {self._kind} before it has no elements; there is no empty one")
        self._kind = None

    def _require_later(self, previous: Any, position: Any, key: keys.Key) -> None:
        if position <= previous:
            what = "occurs twice" if position == previous else "is out of order"
            raise ValueError(f"the key {dump_key(key)} {what}")


def _check_trailer(fields: dict[str, Any], count: int, sha256: str) -> None:
    if type(fields["count"]) is not int or fields["count"] != count:
        raise ValueError(
            f"the dump has {count} lines between its first and its last, and {dumps(fields['count'])} were written"
        )
    if fields["sha256"] != sha256:
        raise ValueError("the SHA-256 of the lines before is another: the dump was altered or damaged")


class _Lines:
    """The lines of a source, each within the limit, numbered from 1."""

    def __init__(self, source: BinaryIO, max_line: int) -> None:
        self.bytes = 0
        self._number = 0
        self._source = io.BufferedReader(source) if isinstance(source, io.RawIOBase) else source
        self._max_line = max_line
        self._hash = hashlib.sha256()

    def error(self, reason: str) -> DumpFormatError:
        """An error in the line that was read last."""
        return DumpFormatError(reason, line=self._number)

    def next(self) -> bytes | None:
        """The next line with the line feed that ends it, None after the last."""
        self._number += 1
        pieces: list[bytes] = []
        size = 0
        while piece := self._piece():
            if not self.bytes and piece.startswith(_COMPRESSED):
                raise self.error("it is compressed; the name of a compressed dump must end in .gz or .xz")
            size += len(piece)
            if size > self._max_line:
                raise self.error(
                    f"it is longer than max_line, {self._max_line} bytes; give a larger one if it is right"
                )
            pieces.append(piece)
            if piece.endswith(b"\n"):
                self.bytes += size
                return b"".join(pieces)
        if pieces:
            raise self.error("it has no end: the dump was cut off")
        return None

    def _piece(self) -> bytes:
        """A line, or as much of it as is read at a time; nothing at the end."""
        try:
            return self._source.readline(_PIECE)
        except BROKEN_STREAM as error:
            raise self.error(f"the compressed stream is damaged: {error}") from error

    def accept(self, line: bytes) -> None:
        """Count a line among those that the digest is of."""
        self._hash.update(line)

    def digest(self) -> str:
        """SHA-256 of the accepted lines, in hex."""
        return self._hash.hexdigest()
