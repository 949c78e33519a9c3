"""Which of the many states that a power cut can leave are looked at, and what must be true of each.

At every moment these come first: all that was not certain is lost; it has all happened; it has happened up to one of the
writes; all of it but one page, and one page alone. Then states are drawn from every moment in turn: pages, sectors,
versions of sectors and names at random.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xxhash import xxh3_128

from tests.crash_states.history import History
from tests.crash_states.medium import Medium, Moment, Pick, Tail
from tests.crash_states.workload import BACKUP, DUMP, STORE

Folder = dict[str, bytes]
Labelled = tuple[str, Pick]

_TAILS: tuple[Tail, ...] = ("long", "short", "garbage")
_OPENED = {STORE, f"{STORE}-hot", BACKUP, DUMP}
_OF_A_KIND = 4
"""How many of one kind of the systematic states a moment gives at the most."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What must be there: of each writer, what it has after at least so many steps, and at most so many. ``acknowledged``
    are all that were, whatever durability promises.

    ``created``: whether the store must be there. ``made``: which copies of it, ``"backup"`` and ``"dump"``, must be;
    ``copies``: of each, what it may hold, as the number of steps of each writer.
    """

    least: dict[str, int]
    most: dict[str, int]
    acknowledged: dict[str, int]
    created: bool
    made: frozenset[str]
    copies: dict[str, list[dict[str, int]]]

    def __and__(self, other: Demand) -> Demand:
        """Both of them, of one state that can be left at two moments, of which ``other``'s is the later one. Where a step
        changes nothing, fewer may have begun than were acknowledged later on.
        """
        return Demand(
            {writer: max(count, other.least[writer]) for writer, count in self.least.items()},
            {writer: max(count, other.most[writer]) for writer, count in self.most.items()},
            other.acknowledged,
            self.created or other.created,
            self.made | other.made,
            other.copies,
        )


@dataclass(frozen=True, slots=True)
class State:
    """One state of the folder, as ``Moment.build`` makes it, and what it must hold. ``name`` says how it came about."""

    moment: int
    pick: Pick
    demand: Demand
    name: str
    digest: int


def demand(history: History, marks: Sequence[tuple[str, ...]]) -> Demand:
    """What was promised by the time that the workload had said all this.

    With less than full durability nothing is, until a process has closed the store: that flushes it.
    """
    acknowledged = dict.fromkeys(history.steps, 0)
    begun = dict(acknowledged)
    least = dict(acknowledged)
    copies: dict[str, list[dict[str, int]]] = {}
    made: set[str] = set()
    at_closing: dict[str, dict[str, int]] = {}
    created = history.created
    for words in marks:
        match words:
            case ("begin", writer, number):
                begun[writer] = int(number)
            case ("ack", writer, number):
                acknowledged[writer] = int(number)
            case ("opened", _):
                created = True
            case ("closing", process):
                at_closing[process] = dict(acknowledged)
            case ("closed", process):
                least = {writer: max(count, at_closing[process][writer]) for writer, count in least.items()}
            case ("asked", copy):
                # One that is replaced may be there still.
                copies.setdefault(copy, []).append(dict(acknowledged))
            case ("made", copy):
                made.add(copy)
                del copies[copy][:-1]
    if history.durability == "full":
        least = acknowledged
    return Demand(least, begun, acknowledged, created, frozenset(made), copies)


def choose(history: History, medium: Medium, count: int, rng: random.Random) -> list[State]:
    """So many distinct states, in the order of their moments; fewer where no more are to be found."""
    found: dict[int, State] = {}
    for moment in medium.moments():
        demanded = demand(history, moment.marks)
        for label, pick in _first(moment, rng):
            _admit(found, moment, label, pick, demanded)
    before = -1
    while before < len(found) < count:
        before = len(found)
        for moment in medium.moments():
            if len(found) < count and (moment.unsettled or moment.namings):
                demanded = demand(history, moment.marks)
                for label, pick in _drawn(moment, rng):
                    _admit(found, moment, label, pick, demanded)
    chosen = list(found.values())
    return sorted(chosen if len(chosen) <= count else rng.sample(chosen, count), key=lambda state: state.moment)


def build(medium: Medium, states: Sequence[State]) -> Iterator[tuple[State, Folder]]:
    """Each of the states, given in the order of their moments, with what it is."""
    waiting = iter(states)
    state = next(waiting, None)
    for moment in medium.moments():
        while state is not None and state.moment == moment.number:
            yield state, moment.build(state.pick)
            state = next(waiting, None)


def _admit(found: dict[int, State], moment: Moment, label: str, pick: Pick, demanded: Demand) -> None:
    digest = xxh3_128()
    for name, content in sorted(moment.build(pick).items()):
        # What stands under a name that nobody opens makes no other state.
        if name in _OPENED:
            digest.update(f"{name} {len(content)} ".encode())
            digest.update(content)
    number = digest.intdigest()
    same = found.get(number)
    if same is not None:
        found[number] = State(same.moment, same.pick, same.demand & demanded, same.name, number)
    else:
        name = f"moment {moment.number} ({moment.after}), {label}"
        found[number] = State(moment.number, pick, demanded, name, number)


def _first(moment: Moment, rng: random.Random) -> Iterator[Labelled]:
    """The states that come first."""
    namings = frozenset(range(len(moment.namings)))
    newest = {(file, sector): count for file, sector, count in moment.unsettled}
    yield "nothing more than certain", Pick(frozenset(), {}, "short")
    for number in range(len(namings)):
        yield f"the first {number + 1} names", Pick(frozenset(range(number + 1)), {})
    if not newest:
        return
    yield "all of it", Pick(namings, newest)
    pages = list(dict.fromkeys((file, moment.page_of(sector)) for file, sector in newest))
    for page in _some(pages, rng):
        within = {at: count for at, count in newest.items() if (at[0], moment.page_of(at[1])) == page}
        yield f"nothing but page {page[1]}", Pick(namings, within, rng.choice(_TAILS))
        rest = {at: count for at, count in newest.items() if at not in within}
        yield f"all but page {page[1]}", Pick(namings, rest, rng.choice(_TAILS))
    for write in _some(moment.writes, rng):
        yield f"up to the write at {write}", Pick(namings, moment.up_to(write), rng.choice(_TAILS))
    torn = rng.choice(list(newest))
    yield f"all but sector {torn[1]}", Pick(namings, {at: count for at, count in newest.items() if at != torn})


def _drawn(moment: Moment, rng: random.Random) -> Iterator[Labelled]:
    """One state of each kind, at random."""
    namings = frozenset(number for number in range(len(moment.namings)) if rng.random() < rng.choice([0.5, 0.9]))
    tail = rng.choice(_TAILS)
    share = rng.choice([0.2, 0.5, 0.8])
    pages = {(file, moment.page_of(sector)) for file, sector, _ in moment.unsettled}
    there = {page for page in sorted(pages) if rng.random() < share}
    whole = {(file, at): count for file, at, count in moment.unsettled if (file, moment.page_of(at)) in there}
    yield f"{len(there)} of {len(pages)} pages", Pick(namings, whole, tail)
    torn = {(file, sector): count for file, sector, count in moment.unsettled if rng.random() < share}
    yield f"{len(torn)} of {len(moment.unsettled)} sectors", Pick(namings, torn, tail)
    if any(count > 1 for _, _, count in moment.unsettled):
        mixed = {(file, sector): rng.randint(0, count) for file, sector, count in moment.unsettled}
        yield "any version of each sector", Pick(namings, mixed, tail)


def _some(things: Sequence[Labelled | int], rng: random.Random) -> Sequence:
    return things if len(things) <= _OF_A_KIND else rng.sample(things, _OF_A_KIND)
