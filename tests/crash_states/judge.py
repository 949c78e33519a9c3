"""A process that opens one state after the other, as ``court`` asks it to, and says what is wrong with each.

It may die of one. ``main`` is run in it; requests and answers are pickled, by standard input and output.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from xxhash import xxh3_128_digest

import kvstore
from kvstore import dump
from kvstore.dump import DumpItem, DumpMember, DumpRecord, DumpStructure
from tests.crash_states.history import Content, History, Place
from tests.crash_states.states import Demand
from tests.crash_states.workload import BACKUP, DUMP, STORE

Fault = Literal["gone", "refused", "lost", "half", "early", "unsound", "stuck", "copy", "died", "hung"]
"""No file, or one that can't be opened; less than was acknowledged; a part of a step, or one that hadn't begun; ``verify``
finds something; a write fails; something is wrong with the backup or the dump; the judge was killed by a
signal, or waited too long."""


@dataclass(frozen=True, slots=True)
class Request:
    """A folder to look into. ``thorough``: look again after writing, and after opening it once more."""

    folder: str
    demand: Demand
    thorough: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What is wrong, if anything, and how many of each writer's steps are there, where that could be said."""

    fault: Fault | None
    detail: str
    steps: Mapping[str, int]


class WrongError(Exception):
    """Something is wrong with the state."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(detail)
        self.fault: Fault = fault


def judged(history: History, request: Request, sound_copies: set[bytes]) -> Answer:
    """What is to be said of the folder. A copy that is as one that was found sound isn't looked into again."""
    steps: dict[str, int] = {}
    try:
        _judge(history, request, steps)
        for name, file in _COPIES.items():
            _judge_copy(history, name, os.path.join(request.folder, file), request.demand, sound_copies)
    except WrongError as wrong:
        return Answer(wrong.fault, str(wrong), steps)
    return Answer(None, "", steps)


def _judge(history: History, request: Request, steps: dict[str, int]) -> None:
    demand = request.demand
    path = os.path.join(request.folder, STORE)
    there = os.path.lexists(path)
    if demand.created and not there:
        raise WrongError("gone", "the store was open, and has no name any more")
    store = _opened(path, create=not there, warm=request.thorough)
    try:
        found = content_of(store)
        _compare(history, found, demand, steps)
        _verify(store)
        _write(store)
        if request.thorough:
            _verify(store)
    finally:
        store.close()
    if request.thorough:
        with _opened(path, create=False) as store:
            again = {place: value for place, value in content_of(store).items() if place[2][0] != "judge"}
            if again != found:
                raise WrongError("stuck", f"another content after a write and an opening: {_difference(found, again)}")
            _verify(store)


def _opened(path: str, **options: Any) -> Any:
    try:
        return kvstore.open(path, **options)
    except Exception as error:
        raise WrongError("refused", f"{type(error).__name__}: {error}") from error


def content_of(store: Any) -> dict[Place, Any]:
    """All that a store holds, as a history has it."""
    try:
        return _content(store.export_records())
    except Exception as error:
        raise WrongError("unsound", f"reading: {type(error).__name__}: {error}") from error


def _content(dumped: Iterable[Any]) -> dict[Place, Any]:
    found: dict[Place, Any] = {}
    elements: list[Any] = []
    for item in dumped:
        match item:
            case DumpRecord(namespace=space, key=key, value=value, expires=expires):
                found["value", space, key] = value, expires is not None
            case DumpStructure(namespace=space, key=key, kind=kind):
                elements = found[kind, space, key] = []
            case DumpItem(value=element) | DumpMember(key=element):
                elements.append(element)
    return {place: frozenset(value) if place[0] == "set" else value for place, value in found.items()}


def _compare(history: History, found: Content, demand: Demand, steps: dict[str, int]) -> None:
    by_writer: dict[Any, dict[Place, Any]] = {writer: {} for writer in history.steps}
    for place, value in found.items():
        by_writer.setdefault(place[2][0], {})[place] = value
    for writer, mine in by_writer.items():
        if writer not in history.contents:
            raise WrongError("early", f"nobody has written {list(mine)}")
        least, most = demand.least[writer], demand.most[writer]
        contents = history.contents[writer]
        # The newest of those that are alike.
        fitting = [count for count, content in enumerate(contents) if content == mine]
        allowed = [count for count in fitting if least <= count <= most]
        if fitting:
            steps[writer] = max(allowed or fitting)
        if allowed:
            continue
        told = f"{writer} has acknowledged {least} steps and begun {most}"
        if not fitting:
            raise WrongError("half", f"{told}; {_difference(contents[least], mine)} from what it was after {least}")
        raise WrongError(
            "lost" if max(fitting) < least else "early", f"{told}; what is there are the first {max(fitting)}"
        )


def _difference(wanted: Content, found: Content) -> str:
    places = wanted.keys() | found.keys()
    differing = sorted(str(place) for place in places if wanted.get(place) != found.get(place))
    return f"different in {', '.join(differing[:5])}{' and more' if len(differing) > 5 else ''}"


def _verify(store: Any) -> None:
    try:
        report = store.verify()
    except Exception as error:
        raise WrongError("unsound", f"verify: {type(error).__name__}: {error}") from error
    if not report.ok:
        raise WrongError("unsound", f"verify: {report.problems[:3]}")


def _write(store: Any) -> None:
    written = {("judge", number): bytes([number]) * 3000 * number for number in range(4)}
    try:
        store.set_many(written)
        store.set_of(("judge", "set")).add(1)
        if store.get_many(list(written)) != written or 1 not in store.set_of(("judge", "set")):
            raise WrongError("stuck", "what was written is not there")
    except kvstore.KvstoreError as error:
        raise WrongError("stuck", f"{type(error).__name__}: {error}") from error


def _judge_copy(history: History, name: str, path: str, demand: Demand, sound: set[bytes]) -> None:
    """``sound`` are digests of copies that were looked into before."""
    if not os.path.lexists(path):
        if name in demand.made:
            raise WrongError("copy", f"the {name} was made, and has no name any more")
        return
    wanted = [
        {place: value for writer, count in counts.items() for place, value in history.contents[writer][count].items()}
        for counts in demand.copies.get(name, [])
    ]
    with open(path, "rb") as file:
        digest = xxh3_128_digest(file.read() + repr(demand.copies.get(name)).encode())
    if digest in sound:
        return
    found = _READ[name](path)
    if found not in wanted:
        raise WrongError("copy", f"{name}: {_difference(wanted[-1] if wanted else {}, found)}")
    sound.add(digest)


def _read_backup(path: str) -> Content:
    try:
        with _opened(path, readonly=True) as store:
            found = content_of(store)
            _verify(store)
    except WrongError as wrong:
        raise WrongError("copy", f"backup: {wrong}") from wrong
    return found


def _read_dump(path: str) -> Content:
    importer = _Importer()
    try:
        with dump.reading(path) as stream:
            dump.load(importer, stream)
    except kvstore.DumpFormatError as error:
        raise WrongError("copy", f"dump: {error}") from error
    return importer.content


class _Importer:
    """What a dump is loaded into to see what it holds."""

    def __init__(self) -> None:
        self.content: dict[Place, Any] = {}

    def import_records(self, records: Iterable[Any], *, merge: bool) -> int:
        self.content = _content(records)
        return len(self.content)


_READ = {"backup": _read_backup, "dump": _read_dump}
_COPIES = {"backup": BACKUP, "dump": DUMP}


def main() -> None:
    """Answer until nobody asks any more."""
    with open(sys.argv[1], "rb") as file:
        history = pickle.load(file)
    sound: set[bytes] = set()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while requests.peek(1):
        answers.write(pickle.dumps(judged(history, pickle.load(requests), sound)))
        answers.flush()
