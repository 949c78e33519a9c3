"""What is fuzzed: each target takes any bytes, and raises where something doesn't hold."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tempfile
from collections.abc import Callable, Iterable
from typing import Any, Final

import xxhash

import kvstore
from kvstore import codec, dump, keys, record, warm_list
from kvstore.coherence import RING_BYTES, SLOTS_END, Ring
from kvstore.companion import _Bytes
from kvstore.dump_record import Dumped, DumpItem, DumpMember, DumpRecord
from kvstore.errors import DumpFormatError, UnstorableValueError
from tests import dump_samples, payloads, rot
from tests.strategies import fingerprint

BINDING: Final = b"namespace\x02key"


class Target:
    """Something that takes bytes from outside. ``full`` is how many inputs the full set has; ``close`` lets go of files."""

    def __init__(
        self,
        run: Callable[[bytes], object],
        samples: Iterable[bytes],
        full: int = 1_000_000,
        close: Callable[[], object] = int,
    ) -> None:
        self.run = run
        self.samples = list(samples)
        self.full = full
        self.close = close


def _ring() -> Target:
    target = RingTarget()
    return Target(target, ring_samples(), close=target.close)


def _pages() -> Target:
    target = PagesTarget()
    return Target(target, page_samples(), 20_000, target.close)


# -- records ---------------------------------------------------------------------------------------------------------


def sealed_record(body: bytes) -> bytes:
    """A record with a right checksum, whatever is in it."""
    return body + xxhash.xxh3_64_digest(BINDING + body[1:], seed=body[0])


def a_record(data: bytes) -> None:
    """Refused with a ``ValueError``, or the record of a value that can be stored again as it is."""
    for raw in (data, sealed_record(data or b"\x10")):
        record.expiry_of(raw)
        try:
            value, payload, extended, _ = record.load(BINDING, raw)
        except (ValueError, kvstore.UnknownTypeError):
            continue
        assert fingerprint(codec.decode(payload, extended)) == fingerprint(value)
        try:
            again, marked = codec.encode(value)
        except UnstorableValueError:
            # Of msgpack's own, but not one that kvstore writes.
            continue
        assert fingerprint(codec.decode(again, marked)) == fingerprint(value), data


def record_samples() -> Iterable[bytes]:
    for marked, table in ((0x10, payloads.PAYLOADS), (0x12, payloads.EXTENDED_PAYLOADS)):
        for payload in table:
            yield bytes([marked]) + bytes.fromhex(payload)
            yield bytes([marked | 1]) + bytes(8) + bytes.fromhex(payload)
            yield sealed_record(bytes([marked]) + bytes.fromhex(payload))
    yield b"\x10\xdd\x00\x00\x10\x00" + b"\xc0" * 4_000


# -- keys ------------------------------------------------------------------------------------------------------------


def a_key(data: bytes) -> None:
    """Refused with a ``ValueError``, or the only encoding of the key that it is."""
    try:
        key = keys.decode(data)
    except ValueError:
        return
    assert keys.encode(key) == data
    assert keys.decode(memoryview(data)) == key


def key_samples() -> Iterable[bytes]:
    some: list[Any] = [
        "",
        "a",
        "é\0b",
        b"",
        b"\xff\0",
        0,
        1,
        -1,
        2**64,
        -(2**2000),
        ("a", 1),
        ((), (b"\0", ("x", -5)), 7),
    ]
    return [keys.encode(key) for key in some]


# -- dumps -----------------------------------------------------------------------------------------------------------


class _Taken:
    """What a dump is loaded into: it makes records of what it takes, as a store does, and keeps none."""

    def import_records(self, records: Iterable[Dumped], *, merge: bool) -> int:
        count = 0
        for given in records:
            count += 1
            if isinstance(given, DumpRecord | DumpItem):
                payload, extended = codec.encode(given.value)
                assert fingerprint(_opaque(payload, extended)) == fingerprint(_opaque(*codec.encode(given.value)))
            key = given.key if isinstance(given, DumpRecord | DumpMember) else "a"
            keys.encode(key)
        return count


def _opaque(payload: bytes, extended: bool) -> object:
    return codec.decode_opaque(payload, extended)


def a_dump(data: bytes) -> None:
    """Refused with a ``DumpFormatError``, or taken; with the trailer that it must have, too, so that its lines are read."""
    for text in (data, _with_trailer(data)):
        try:
            dump.load(_Taken(), io.BytesIO(text), merge=True)
        except DumpFormatError as refusal:
            if not 1 <= refusal.line <= text.count(b"\n") + 1:
                raise
    try:
        key = dump.load_key(data.decode(errors="replace"))
    except (ValueError, kvstore.InvalidKeyError):
        return
    keys.decode(keys.encode(key))


def _with_trailer(lines: bytes) -> bytes:
    lines = lines if lines.endswith(b"\n") else lines + b"\n"
    digest = hashlib.sha256(lines).hexdigest().encode()
    return lines + b'{"count":%d,"sha256":"%s"}\n' % (lines.count(b"\n") - 1, digest)


def dump_samples_of_all() -> Iterable[bytes]:
    header = b'{"format":"kvstore dump","version":%d,"namespaces":["","n"]}\n'
    for _, text in dump_samples.FORMS:
        yield header % 1 + dump_samples.line('"a"', text).encode()
    yield header % 1 + dump_samples.line('["a",{"$bytes":"AA=="},[1]]', expires=str(dump_samples.FAR)).encode()
    yield (
        header % 2
        + b'{"ns":"","list":"a","expires":null}\n{"item":1}\n{"item":[2]}\n'
        + dump_samples.line('"b"').encode()
    )
    yield header % 2 + b'{"ns":"n","set":"a","expires":5}\n{"member":1}\n{"member":["x"]}\n'


# -- the ring --------------------------------------------------------------------------------------------------------


class RingTarget:
    """A used ring in a real file, mapped as a store has it. An input is what somebody writes over it, as pieces of u32 position,
    u8 length and bytes; or, after a byte below 0x80, what somebody makes an entry of, with all that an entry needs to be
    believed.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # until it is closed
        self._file.write(bytes(RING_BYTES))
        self._file.flush()
        self._bytes = _Bytes(self._file.fileno())
        os.posix_fallocate(self._file.fileno(), 0, RING_BYTES)
        self._bytes.map()
        assert self._bytes.memory is not None
        ring = self._ring()
        ring.reset()
        self.told = {}
        for commit in range(1, 40):
            self.told[commit] = [("", keys.encode(f"{commit} {n}" * (1 + commit % 5 * 20))) for n in range(commit % 7)]
            ring.writer = 5
            ring.publish(commit, self.told[commit])
            ring.settle()
        self._sound = os.pread(self._file.fileno(), RING_BYTES, 0)

    def close(self) -> None:
        """Let go of the file."""
        self._bytes.memory.close()
        self._file.close()

    def _ring(self) -> Ring:
        return Ring(self._bytes, (7, 11), lambda writer: writer == 5)

    def __call__(self, data: bytes) -> None:
        pieces = list(self._entry(data[1:]) if data[:1] < b"\x80" else self._pieces(data[1:]))
        for at, new in pieces:
            self._bytes.write(new, at)
        ring = self._ring()
        for seen, current in ((0, 39), (19, 20), (2, 3), (38, 39), (4_999, 5_000)):
            changes = ring.between(seen, current)
            assert changes is None or all(type(space) is str and type(key) is bytes for space, key in changes)
        ring.writer = 5
        ring.publish_one(41, b"\x02a")
        ring.settle_one(41)
        ring.publish(42, [("n", b"\x02" + b"b" * 300)])
        assert ring.between(40, 41) in (None, [("", b"\x02a")])
        assert ring.between(41, 42) in (None, [("n", b"\x02" + b"b" * 300)])
        if data[-1:] < b"\x08":
            # It looks at all the slots, so not each time.
            ring.settle()
            self._bytes.write(self._sound[:SLOTS_END], 0)
        for at, new in (*pieces, (0, bytes(64)), (64 + 41 * 256, bytes(512)), (SLOTS_END, bytes(2_000))):
            self._bytes.write(self._sound[at : at + len(new)], at)

    @staticmethod
    def _pieces(data: bytes) -> Iterable[tuple[int, bytes]]:
        while len(data) > 5:
            position, length = struct.unpack_from("=IB", data)
            # Mostly where something is.
            position %= RING_BYTES if length % 4 == 0 else 64 + 44 * 256
            new = data[5 : 5 + length][: RING_BYTES - position]
            yield position, new
            data = data[5 + length :]

    @staticmethod
    def _entry(entry: bytes) -> Iterable[tuple[int, bytes]]:
        commit, writer = 20, 5
        checksum = xxhash.xxh3_64_intdigest(entry, commit) ^ writer
        position = 100 if len(entry) > 216 else 0
        slot = struct.pack("=QQQQQ", commit, writer, position, len(entry), checksum)
        yield 64 + commit * 256, slot + (entry if len(entry) <= 216 else b"")
        if len(entry) > 216:
            yield SLOTS_END + position, entry


def ring_samples() -> Iterable[bytes]:
    entry = struct.pack("=HH", 0, 3) + b"\x02ab" + struct.pack("=HH", 1, 2) + b"n\x02a"
    yield b"\0" + entry
    yield b"\0" + entry * 30
    slot = struct.pack("=QQQQQ", 3, 5, 0, len(entry), xxhash.xxh3_64_intdigest(entry, 3) ^ 5) + entry
    for position in (0, 64, 64 + 3 * 256, 64 + 39 * 256, SLOTS_END, RING_BYTES - 9):
        yield b"\x80" + struct.pack("=IB", position, len(slot)) + slot
        yield b"\x80" + struct.pack("=IB", position, 8) + b"\xff" * 8 + struct.pack("=IB", position + 16, 8) + bytes(8)


# -- the list of hot keys --------------------------------------------------------------------------------------------


def a_hot_list(data: bytes) -> None:
    """Keys as far as it is whole, with the checksum that it must have, too."""
    block = struct.pack(">IQ", len(data), xxhash.xxh3_64_intdigest(data, 0)) + data
    for text in (data, b"kvhot\0\0\1" + data, b"kvhot\0\0\1" + block):
        with tempfile.NamedTemporaryFile() as file:
            file.write(text)
            file.flush()
            for space, key, cost in warm_list.read(file.name):
                assert type(space) is str
                assert type(key) is bytes
                assert type(cost) is int


def hot_samples() -> Iterable[bytes]:
    yield struct.pack(">IHH", 100, 0, 2) + b"\x02a" + struct.pack(">IHH", 9, 1, 3) + b"n\x02ab"


# -- the pages of a store --------------------------------------------------------------------------------------------


class PagesTarget:
    """A real store's file, which nothing but what ``verify`` does without LMDB reads. An input is what is written over it, as
    pieces of u32 position, u8 length and bytes.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = os.path.join(self._folder.name, "store.kv")
        rot.build(self._path)
        self._file = open(self._path, "r+b", buffering=0)  # noqa: SIM115  # until it is closed
        self._sound = self._file.read()
        self.places = [
            place for region, places in rot.Regions(self._sound).of.items() if region != "overflow" for place in places
        ]

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        self._folder.cleanup()

    def __call__(self, data: bytes) -> None:
        from kvstore.backends.lmdb import _structural_problems
        from kvstore.backends.lmdb_structure import follow, remains

        written = []
        while len(data) > 5:
            position, length = struct.unpack_from("=IB", data)
            at = self.places[position % len(self.places)]
            new = data[5 : 5 + length % 8 + 1][: len(self._sound) - at]
            os.pwrite(self._file.fileno(), new, at)
            written.append((at, len(new)))
            data = data[5 + len(new) :]
        try:
            follow(self._path, b"kvstore:meta", b"format")
            if _structural_problems(self._path, None):
                with remains(self._path) as left:
                    for space in ("", *left.spaces()):
                        for key, _ in left.scan(space, b"", None):
                            left.reaches(space, key)
        except (kvstore.StoreCorruptError, kvstore.StoreFormatError):
            pass
        finally:
            for at, length in written:
                os.pwrite(self._file.fileno(), self._sound[at : at + length], at)


def page_samples() -> Iterable[bytes]:
    for position in range(0, 9_000, 250):
        yield struct.pack("=IB", position, 1) + b"\xff\xff"


TARGETS: Final[dict[str, Callable[[], Target]]] = {
    "record": lambda: Target(a_record, record_samples()),
    "key": lambda: Target(a_key, key_samples()),
    "dump": lambda: Target(a_dump, dump_samples_of_all()),
    "ring": _ring,
    "hot-list": lambda: Target(a_hot_list, hot_samples(), 100_000),
    "pages": _pages,
}
