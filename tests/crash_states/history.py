"""What a workload does, step by step, and what the store holds after each step: the plan, its model, and its demands.

Each *writer* has keys of its own, a namespace of its own, a list and a set of its own, and does its steps one after the
other; writers go on side by side. So whatever a power cut leaves, each writer's part must be what it was after one of
its steps: the last one that was acknowledged, or the one that was under way.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvstore.dump import DumpRecord

Place = tuple[str, str, tuple[Any, ...]]
"""What kind of thing (``"value"``, ``"list"``, ``"set"``), its namespace, its key, whose first part is the writer."""
Content = Mapping[Place, Any]
"""What is at each place: of a value also whether it ends."""

LONG, OVER = 1e6, 0.001
"""Times to live: one that no test outlasts, and one that is over by the time anybody looks."""


def space_of(store: Any, name: str) -> Any:
    """The store itself, or a namespace of it."""
    return store.namespace(name) if name else store


@dataclass(frozen=True, slots=True)
class Put:
    """Values are put under keys of one namespace, in one transaction."""

    space: str
    items: dict[tuple[Any, ...], Any]
    ttl: float | None = None

    def do(self, store: Any) -> None:
        space = space_of(store, self.space)
        if len(self.items) == 1:
            for key, value in self.items.items():
                space.set(key, value, ttl=self.ttl)
        else:
            space.set_many(self.items, ttl=self.ttl)

    def after(self, content: Content) -> Content:
        if self.ttl == OVER:
            return {place: value for place, value in content.items() if place[1:] not in self._places()}
        return {**content, **{("value", self.space, key): (value, bool(self.ttl)) for key, value in self.items.items()}}

    def _places(self) -> set[tuple[str, tuple[Any, ...]]]:
        return {(self.space, key) for key in self.items}


@dataclass(frozen=True, slots=True)
class Delete:
    """Keys of one namespace are deleted, in one transaction."""

    space: str
    keys: tuple[tuple[Any, ...], ...]

    def do(self, store: Any) -> None:
        space = space_of(store, self.space)
        if len(self.keys) == 1:
            space.delete(self.keys[0])
        else:
            space.delete_many(self.keys)

    def after(self, content: Content) -> Content:
        gone = {("value", self.space, key) for key in self.keys}
        return {place: value for place, value in content.items() if place not in gone}


@dataclass(frozen=True, slots=True)
class Drop:
    """A namespace is dropped."""

    space: str

    def do(self, store: Any) -> None:
        store.drop_namespace(self.space)

    def after(self, content: Content) -> Content:
        return {place: value for place, value in content.items() if place[1] != self.space}


@dataclass(frozen=True, slots=True)
class Push:
    """Items are appended to a list."""

    key: tuple[Any, ...]
    items: tuple[Any, ...]

    def do(self, store: Any) -> None:
        store.list(self.key).extend(self.items)

    def after(self, content: Content) -> Content:
        place = ("list", "", self.key)
        return {**content, place: [*content.get(place, ()), *self.items]}


@dataclass(frozen=True, slots=True)
class Take:
    """The first item of a list is taken, where it has one."""

    key: tuple[Any, ...]

    def do(self, store: Any) -> None:
        if store.list(self.key):
            store.list(self.key).popleft()

    def after(self, content: Content) -> Content:
        place = ("list", "", self.key)
        rest = content.get(place, [])[1:]
        without = {other: value for other, value in content.items() if other != place}
        return {**without, place: rest} if rest else without


@dataclass(frozen=True, slots=True)
class Include:
    """Members are put into a set."""

    key: tuple[Any, ...]
    members: frozenset[int]

    def do(self, store: Any) -> None:
        store.set_of(self.key).update(self.members)

    def after(self, content: Content) -> Content:
        place = ("set", "", self.key)
        return {**content, place: content.get(place, frozenset()) | self.members}


@dataclass(frozen=True, slots=True)
class Exclude:
    """The whole set is given up."""

    key: tuple[Any, ...]

    def do(self, store: Any) -> None:
        store.set_of(self.key).clear()

    def after(self, content: Content) -> Content:
        return {place: value for place, value in content.items() if place != ("set", "", self.key)}


@dataclass(frozen=True, slots=True)
class Load:
    """Records are loaded, as from a dump."""

    space: str
    items: dict[tuple[Any, ...], Any]

    def do(self, store: Any) -> None:
        records = (DumpRecord(self.space, key, value, None) for key, value in self.items.items())
        store.import_records(records, merge=True)

    def after(self, content: Content) -> Content:
        return {**content, **{("value", self.space, key): (value, False) for key, value in self.items.items()}}


@dataclass(frozen=True, slots=True)
class Together:
    """Several steps in one transaction."""

    steps: tuple[Step, ...]

    def do(self, store: Any) -> None:
        with store.transaction() as transaction:
            for step in self.steps:
                step.do(transaction)

    def after(self, content: Content) -> Content:
        for step in self.steps:
            content = step.after(content)
        return content


Step = Put | Delete | Drop | Push | Take | Include | Exclude | Load | Together


@dataclass(frozen=True, slots=True)
class Begin:
    """Processes open the store, all at once."""

    processes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Go:
    """Writers do so many steps each, all at once: each in a thread of its own, in its process."""

    steps: dict[str, int]


@dataclass(frozen=True, slots=True)
class Care:
    """A process compacts the store, backs it up, dumps it, or closes it: ``compact``, ``backup``, ``dump``, ``close``."""

    process: str
    what: str


@dataclass(frozen=True, slots=True)
class Keep:
    """The companion files are copied, to be found again beside other states of the store."""


Scene = Begin | Go | Care | Keep


class History:
    """What is to be done, and what must be there then. Writers are named after their process: ``a0``, ``a1``, ``b0``."""

    def __init__(
        self, durability: str, scenes: Sequence[Scene], steps: Mapping[str, Sequence[Step]], before: Content | None
    ) -> None:
        self.created = before is not None
        """Whether the store is there at the beginning, with what there was ``before``."""
        self.durability = durability
        self.scenes = scenes
        self.steps = steps
        self.contents = {
            writer: contents(own, {place: value for place, value in (before or {}).items() if place[2][0] == writer})
            for writer, own in steps.items()
        }
        """Of each writer, what it has before its first step, and after each."""


def contents(steps: Iterable[Step], before: Content) -> list[Content]:
    """What is there before the first step, and after each."""
    found = [before]
    for step in steps:
        found.append(step.after(found[-1]))
    return found


def made(seed: int, durability: str = "full", before: Content | None = None, *, one_step_in: int = 1) -> History:
    """A history of two processes and five writers, on a new store or one that holds something. Equal seeds make equal ones.

    ``one_step_in`` 3 makes it brief: a third of the steps, and at least one wherever there are any.
    """
    rng = random.Random(seed)
    together = rng.random() < 0.5

    def go(**steps: int) -> Go:
        return Go({writer: max(1, count // one_step_in) for writer, count in steps.items()})

    scenes: list[Scene] = [
        *([Begin(("a", "b"))] if together else [Begin(("a",)), go(a0=2), Begin(("b",))]),
        go(a0=5),
        go(a0=3, a1=4, a2=4),
        Keep(),
        go(b0=2),
        go(a0=1),
        go(b1=1),
        go(a0=3, a1=3, b0=4, b1=4),
        Keep(),
        Care("b", "close"),
        go(a0=3),
        Care("a", "compact"),
        go(a0=4),
        Care("a", "backup"),
        Care("a", "dump"),
        Keep(),
        Care("a", "close"),
        Begin(("b", "a")),
        go(b0=2, a1=2),
        Care("b", "dump"),
        Care("a", "close"),
        go(b1=2),
        Care("b", "close"),
    ]
    counts: dict[str, int] = {}
    for scene in scenes:
        if isinstance(scene, Go):
            for writer, count in scene.steps.items():
                counts[writer] = counts.get(writer, 0) + count
    steps = {
        writer: [any_step(rng, writer, str(number)) for number in range(count)] for writer, count in counts.items()
    }
    return History(durability, scenes, steps, before)


def any_step(rng: random.Random, writer: str, label: str) -> Step:
    """A step of that writer. Whatever it writes has the label in it, so that no two steps leave the same."""
    if rng.randrange(6):
        return _plain_step(rng, writer, label)
    parts = [_plain_step(rng, writer, f"{label}.{part}") for part in range(rng.randrange(2, 6))]
    # A transaction is no store: it neither loads nor drops.
    return Together(tuple(part for part in parts if not isinstance(part, Load | Drop)))


def _plain_step(rng: random.Random, writer: str, label: str) -> Step:
    space = rng.choice(["", "", f"of {writer}"])

    def value() -> Any:
        size = rng.choice([10, 10, 300, 1500, 6000, 14000])
        return {"step": label, "filling": rng.randbytes(size)}

    def items(count: int) -> dict[tuple[Any, ...], Any]:
        return {(writer, rng.randrange(8)): value() for _ in range(count)}

    match rng.randrange(13):
        case 0 | 1 | 2:
            return Put(space, items(1))
        case 3 | 4:
            return Put(space, items(rng.randrange(2, 6)))
        case 5:
            return Put(space, items(rng.randrange(1, 3)), LONG)
        case 6:
            return Put(space, items(rng.randrange(1, 4)), OVER)
        case 7:
            return Delete(space, tuple(items(rng.randrange(1, 5))))
        case 8:
            return Load(space, items(4))
        case 9:
            return Push((writer, "queue"), tuple(value() for _ in range(rng.randrange(1, 4))))
        case 10:
            return rng.choice([Take((writer, "queue")), Drop(f"of {writer}")])
        case 11:
            return Include((writer, "seen"), frozenset(rng.randrange(1000) for _ in range(rng.randrange(1, 12))))
        case _:
            return rng.choice([Exclude((writer, "seen")), Put("", items(1))])
