"""A medium whose power may be cut at any moment: what is certain by then, and what may have happened of the rest.

What is assumed of it (``Rules`` says otherwise where a test wants it worse):

- What was written before a flush of its file began is certain once that flush has returned, and so is what was written
  through (``O_DSYNC``). A file's length goes with its data.
- Of everything else each sector of 512 bytes has either what is certain, or what any of the later writes had put there,
  each sector by itself: pages are torn, later writes are there without earlier ones. A sector is never torn.
- A file that has grown may have any length in between. What was never written in it holds zeros, or anything.
- Names are given and taken in steps that are whole (a rename is one step); those that no flush of the folder has made
  certain have happened or not, each by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.crash_states.journal import Change, Flush, FlushNames, Journal, Mark, Naming, Write
from tests.crash_states.trace import NEVER

PAGE = 4096
Tail = Literal["long", "short", "garbage"]
"""How long a file is that has grown: as it would have become, or no longer than what is there of it; and whether what was
never written in it holds zeros or garbage."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a medium keeps its word. ``flushes`` and ``name_flushes``: whether a flush of a file, and of the folder, means
    anything to it; ``sector``: how many bytes are never torn.
    """

    flushes: bool = True
    name_flushes: bool = True
    sector: int = 512


@dataclass(frozen=True, slots=True)
class Pick:
    """What has happened of all that is not certain: which of the namings, by their place in ``Moment.namings``, and which
    version each sector has, 0 or no entry being what is certain.
    """

    namings: frozenset[int]
    versions: Mapping[tuple[int, int], int]
    tail: Tail = "long"


class _Version:
    """What one write has put into a sector."""

    __slots__ = ("content", "write")

    def __init__(self, write: Write, content: bytes) -> None:
        self.write = write
        self.content = content


class _File:
    """``cache`` is what a reader would find, ``certain`` what is on the medium, ``pending`` what may be."""

    def __init__(self, content: bytes, sector: int) -> None:
        self.cache = bytearray(content)
        self.certain = bytearray(content)
        self.pending: dict[int, list[_Version]] = {}
        self._sector = sector

    def write(self, write: Write) -> None:
        end = write.offset + len(write.data)
        if end > len(self.cache):
            self.cache.extend(bytes(end - len(self.cache)))
        self.cache[write.offset : end] = write.data
        for sector in self._sectors(write):
            start = sector * self._sector
            content = bytes(self.cache[start : start + self._sector])
            self.pending.setdefault(sector, []).append(_Version(write, content))

    def settle(self, done: set[int], through: Write | None = None) -> None:
        """Make certain what the writes that began at ``done`` have put down, and whatever came before it in the same
        sectors; where one has gone through, in its own alone.
        """
        for sector in list(self.pending) if through is None else self._sectors(through):
            versions = self.pending.get(sector, [])
            newest = len(versions) - 1
            while newest >= 0 and versions[newest].write.start not in done:
                newest -= 1
            if newest < 0:
                continue
            content = versions[newest].content
            start = sector * self._sector
            if start + len(content) > len(self.certain):
                self.certain.extend(bytes(start + len(content) - len(self.certain)))
            self.certain[start : start + len(content)] = content
            del versions[: newest + 1]
            if not versions:
                del self.pending[sector]

    def _sectors(self, write: Write) -> range:
        return range(write.offset // self._sector, (write.offset + len(write.data) - 1) // self._sector + 1)

    def build(self, picked: Mapping[int, int], tail: Tail) -> bytes:
        content = bytearray(self.certain)
        if tail != "short" and len(self.cache) > len(content):
            filler = b"\xa5\x5a\0\xff" if tail == "garbage" else b"\0\0\0\0"
            missing = len(self.cache) - len(content)
            content += (filler * (missing // 4 + 1))[:missing]
        for sector, version in picked.items():
            if version:
                piece = self.pending[sector][version - 1].content
                start = sector * self._sector
                if start > len(content):
                    content.extend(bytes(start - len(content)))
                content[start : start + len(piece)] = piece
        return bytes(content)


@dataclass
class Moment:
    """An instant at which the power may be cut. It is good until the next one is asked for."""

    number: int
    after: str
    marks: list[tuple[str, ...]]
    namings: list[Naming]
    _files: dict[int, _File]
    _names: dict[str, int]
    _sector: int
    unsettled: list[tuple[int, int, int]] = field(init=False)
    """Of each sector that is not certain: its file, its number, and how many versions may be there, in the order in
    which they were first written."""

    def __post_init__(self) -> None:
        found = [
            (versions[0].write.start, file, sector, len(versions))
            for file, state in self._files.items()
            for sector, versions in state.pending.items()
        ]
        self.unsettled = [(file, sector, count) for _, file, sector, count in sorted(found)]

    def page_of(self, sector: int) -> int:
        """The page of 4 KiB that the sector lies in."""
        return sector * self._sector // PAGE

    @property
    def writes(self) -> list[int]:
        """When the writes began of which something is not certain."""
        return sorted(
            {
                version.write.start
                for file in self._files.values()
                for versions in file.pending.values()
                for version in versions
            }
        )

    def up_to(self, write: int) -> dict[tuple[int, int], int]:
        """The versions that are there when that write is the last one to have reached the medium."""
        return {
            (file, sector): sum(version.write.start <= write for version in versions)
            for file, state in self._files.items()
            for sector, versions in state.pending.items()
        }

    def names(self, pick: Pick) -> dict[str, int]:
        """Which file has which name."""
        names: dict[str, int | None] = dict(self._names)
        for number, naming in enumerate(self.namings):
            if number in pick.namings:
                names.update(naming.names)
        return {name: file for name, file in names.items() if file is not None}

    def build(self, pick: Pick) -> dict[str, bytes]:
        """The folder as it is found afterwards: the content of each name."""
        by_file: dict[int, dict[int, int]] = {}
        for (file, sector), version in pick.versions.items():
            by_file.setdefault(file, {})[sector] = version
        return {
            name: self._files[file].build(by_file.get(file, {}), pick.tail) for name, file in self.names(pick).items()
        }


class Medium:
    """What becomes of a journal's changes under the rules."""

    def __init__(self, journal: Journal, rules: Rules) -> None:
        self._journal = journal
        self._rules = rules

    def moments(self) -> Iterator[Moment]:
        """The instants that matter, in order: the last one before something becomes certain, when the most may have
        happened of it; the one after the workload has said something; and the end.

        A state that a power cut can leave at another instant can be left at one of these.
        """
        changes = self._journal.changes
        edges = [(edge, place) for place, change in enumerate(changes) for edge in (change.start, change.end)]
        disk = _Disk(self._journal, self._rules)
        yield disk.moment("the beginning")
        for edge, place in sorted(edge for edge in edges if edge[0] < NEVER):
            change = changes[place]
            if edge != change.start:
                if disk.will_make_certain(change):
                    yield disk.moment(f"before a {type(change).__name__} has returned")
                disk.end(change)
            else:
                disk.begin(change)
                if isinstance(change, Mark):
                    yield disk.moment(" ".join(change.words))
        yield disk.moment("the end")


class _Disk:
    """The medium while time passes: what is certain on it, and what is not. ``_files`` are known by their numbers; ``_names``
    are certain, ``_namings`` are not.
    """

    def __init__(self, journal: Journal, rules: Rules) -> None:
        self._rules = rules
        self._files = {number: _File(content, rules.sector) for number, content in journal.before.items()}
        self._names = dict(journal.names_before)
        self._namings: list[Naming] = []
        self._marks: list[tuple[str, ...]] = []
        self._moments = 0
        self._ended: set[int] = set()
        self._covered: dict[int, set[int]] = {}

    def moment(self, after: str) -> Moment:
        """This instant."""
        self._moments += 1
        names, namings, marks = dict(self._names), list(self._namings), list(self._marks)
        return Moment(self._moments, after, marks, namings, self._files, names, self._rules.sector)

    def begin(self, change: Change) -> None:
        """From now on the change may have happened, or a part of it."""
        match change:
            case Write():
                self._files[change.file].write(change)
            case Naming():
                self._namings.append(change)
                for _, file in change.names:
                    if file is not None and file not in self._files:
                        self._files[file] = _File(b"", self._rules.sector)
            case Flush() | FlushNames():
                # What has not returned by now may be written when this has looked already.
                self._covered[change.start] = set(self._ended)
            case Mark():
                self._marks.append(change.words)

    def will_make_certain(self, change: Change) -> bool:
        """Whether something becomes certain when the change returns."""
        match change:
            case Write():
                return change.through and self._rules.flushes
            case Flush():
                return self._rules.flushes
            case FlushNames():
                return self._rules.name_flushes
            case _:
                return False

    def end(self, change: Change) -> None:
        """The change has returned."""
        if self.will_make_certain(change):
            match change:
                case Write():
                    self._files[change.file].settle({change.start}, change)
                case Flush():
                    self._files[change.file].settle(self._covered[change.start])
                case FlushNames():
                    self._settle_names(self._covered[change.start])
        self._ended.add(change.start)

    def _settle_names(self, done: set[int]) -> None:
        for naming in self._namings:
            if naming.start in done:
                self._names.update({name: file for name, file in naming.names if file is not None})
                for name, file in naming.names:
                    if file is None:
                        del self._names[name]
        self._namings = [naming for naming in self._namings if naming.start not in done]
