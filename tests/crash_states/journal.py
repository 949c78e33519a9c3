"""What a trace's calls did to the files of one folder, and what the workload said of itself meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.crash_states.trace import BEGETTING, CHANGING, Call, TraceError

HINTS = ("-lock", "-ring")
"""Files that are mapped for writing: their content is in no trace, and any may be found after a power cut."""


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes that were put into a file. ``through``: they are on the medium when the call returns."""

    start: int
    end: int
    file: int
    offset: int
    data: bytes
    through: bool


@dataclass(frozen=True, slots=True)
class Flush:
    """All that was written to the file before is on the medium when this returns."""

    start: int
    end: int
    file: int


@dataclass(frozen=True, slots=True)
class Naming:
    """Names that were given and taken, all of them or none: the number of the file, or None."""

    start: int
    end: int
    names: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, slots=True)
class FlushNames:
    """All names that were given and taken before are on the medium when this returns."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Mark:
    """What the workload said."""

    start: int
    end: int
    words: tuple[str, ...]


Change = Write | Flush | Naming | FlushNames | Mark


class _Opened:
    """An open file description: descriptors that were duplicated share it."""

    def __init__(self, file: int, *, through: bool) -> None:
        self.file = file
        self.through = through
        self.position = 0


class Journal:
    """The changes in the order in which they began. ``before`` is what was in the folder at first, all of it certain."""

    _SAYS_NOTHING: ClassVar = frozenset({"close", "dup", "dup2", "dup3", "fcntl", "lseek"})

    def __init__(self, calls: Sequence[Call], folder: Path, marks: Path, before: Mapping[str, bytes]) -> None:
        self._folder = os.fspath(folder)
        self._marks = os.fspath(marks)
        self.before = dict(enumerate(before.values()))
        self.names = {name: number for number, name in enumerate(before)}
        """Which file has which name; of ``before`` until the calls were read, at the end afterwards."""
        self.names_before = dict(self.names)
        self._files = len(before)
        self._tables: dict[int, dict[int, _Opened]] = {}
        self.changes: list[Change] = [change for call in calls for change in self._read(call)]

    def _read(self, call: Call) -> Iterator[Change]:
        if call.name in BEGETTING:
            if call.result is not None and call.result > 0 and "CLONE_THREAD" not in call.arguments:
                # A process is known by its first own call, which may stand before the return of the call that made it.
                known = self._tables.setdefault(call.result, {})
                self._tables[call.result] = {**self._tables.get(call.process, {}), **known}
            return
        if call.result is not None and call.result < 0:
            return
        if call.name.startswith(("open", "creat")):
            yield from self._open(call)
        elif call.name in {"sync", "syncfs"}:
            raise TraceError(f"{call.name} at {call.start}: flushes more than this harness follows")
        elif call.name.startswith(("rename", "link", "unlink")):
            yield from self._name(call)
        elif call.name in self._SAYS_NOTHING or call.arguments[:1].isdigit():
            yield from self._use(call)
        elif any(self._inside(os.fsdecode(text)) is not None for text in call.strings):
            raise TraceError(f"{call.name} at {call.start}: this harness doesn't follow it")

    def _inside(self, path: str | None) -> str | None:
        """The name in the folder that the path is, unless it is elsewhere or a hint's."""
        if path is None or os.path.dirname(path) != self._folder or path.endswith(HINTS):
            return None
        return os.path.basename(path)

    def _open(self, call: Call) -> Iterator[Naming]:
        path = os.fsdecode(call.strings[0])
        if path == self._folder or call.result is None:
            return
        name = self._inside(path)
        if name is None:
            return
        flags = call.arguments.rsplit('"', 1)[1].split(",")[1].strip().split("|")
        if name not in self.names:
            if "O_CREAT" not in flags:
                raise TraceError(f"{call.name} at {call.start}: {name} is not known")
            yield self._naming(call, ((name, self._files),))
            self._files += 1
        elif "O_TRUNC" in flags or "O_APPEND" in flags or call.name == "creat":
            raise TraceError(f"{call.name} at {call.start}: this harness doesn't follow {flags}")
        through = not {"O_DSYNC", "O_SYNC"}.isdisjoint(flags)
        self._tables.setdefault(call.process, {})[call.result] = _Opened(self.names[name], through=through)

    def _name(self, call: Call) -> Iterator[Naming]:
        if "AT_FDCWD" in call.arguments or call.name in {"rename", "link", "unlink"}:
            paths = [os.fsdecode(text) for text in call.strings]
        else:
            raise TraceError(f"{call.name} at {call.start}: relative to a folder, which this harness doesn't follow")
        names = [self._inside(path) for path in paths]
        if None in names:
            if set(names) != {None}:
                raise TraceError(f"{call.name} at {call.start}: into or out of the folder")
            return
        if call.name.startswith("unlink"):
            yield self._naming(call, ((names[0], None),))
        else:
            old, new = names
            file = self.names[old]
            taken = ((old, None),) if call.name.startswith("rename") else ()
            yield self._naming(call, (*taken, (new, file)))

    def _naming(self, call: Call, names: tuple[tuple[str, int | None], ...]) -> Naming:
        for name, file in names:
            if file is None:
                del self.names[name]
            else:
                self.names[name] = file
        return Naming(call.start, call.end, names)

    def _use(self, call: Call) -> Iterator[Change]:
        table = self._tables.setdefault(call.process, {})
        path = next(iter(call.paths), None)
        if path == self._marks and call.name == "write":
            yield Mark(call.start, call.end, tuple(call.strings[0].decode().split()))
            return
        if path == self._folder:
            if call.name in {"fsync", "fdatasync"}:
                yield FlushNames(call.start, call.end)
            return
        if self._inside(path) is None:
            if any(self._inside(other) is not None for other in call.paths):
                raise TraceError(f"{call.name} at {call.start}: this harness doesn't follow it")
            # Whatever had this number before was closed when its process became another program.
            table.pop(call.descriptor, None)
            return
        opened = table.get(call.descriptor)
        if opened is None:
            raise TraceError(f"{call.name} at {call.start}: nobody has opened descriptor {call.descriptor}")
        match call.name:
            case "close":
                del table[call.descriptor]
            case "dup" | "dup2" | "dup3":
                table[call.result] = opened
            case "fcntl":
                if "F_DUPFD" in call.arguments:
                    table[call.result] = opened
            case "lseek":
                opened.position = call.result
            case "fsync" | "fdatasync":
                yield Flush(call.start, call.end, opened.file)
            case "write" | "writev":
                yield self._write(call, opened, opened.position)
                opened.position += call.result or 0
            case "pwrite64" | "pwritev":
                yield self._write(call, opened, call.numbers[-1])
            case _ if call.name in CHANGING:
                raise TraceError(f"{call.name} at {call.start}: this harness doesn't follow it")

    def _write(self, call: Call, opened: _Opened, offset: int) -> Write:
        data = b"".join(call.strings)
        # One that never returned may have put down all of it.
        written = len(data) if call.result is None else call.result
        return Write(call.start, call.end, opened.file, offset, data[:written], opened.through)
