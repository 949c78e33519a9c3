"""Whether a recorded history is linearizable: the search of Wing and Gong (JPDC 1993) with Lowe's memory of configurations
that have been tried (2017).

A history is what several threads or processes did to some keys, and when. It is linearizable where every operation can be
given one moment between its start and its end, so that done one after another at these moments the operations give what
they gave. Keys are independent of each other, so each is judged alone (Herlihy and Wing, TOPLAS 1990).
"""

from __future__ import annotations

import itertools
import math
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

ABSENT: Final = None
"""The state of a key without a value; a value is never None here."""


class _Unknown:
    def __repr__(self) -> str:
        return "?"

    def __reduce__(self) -> str:
        # The one object also in another process.
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()
"""The result of an operation of which nobody knows what it gave, as of a process that was killed."""

NEVER: Final = math.inf
"""The end of an operation that has not ended: it takes place at any moment after its start, or not at all."""


class Operation(NamedTuple):
    """What was done to one key. ``start`` was read from the clock before the call and ``end`` after it, in any unit."""

    start: float
    end: float
    key: Any
    kind: str
    argument: Any
    result: Any


_START: Final = operator.itemgetter(0)


def _compare_and_set(state: Any, argument: Any) -> tuple[Any, Any]:
    expected, value = argument
    return (True, value) if state is not ABSENT and state == expected else (False, state)


MODEL: Final[dict[str, Callable[[Any, Any], tuple[Any, Any]]]] = {
    "get": lambda state, _: (state, state),
    "in": lambda state, _: (state is not ABSENT, state),
    "set": lambda _, value: (None, value),
    "add": lambda state, value: (True, value) if state is ABSENT else (False, state),
    "setdefault": lambda state, value: (value, value) if state is ABSENT else (state, state),
    "delete": lambda state, _: (state is not ABSENT, ABSENT),
    "pop": lambda state, _: (state, ABSENT),
    "swap": lambda state, value: (state, value),
    "incr": lambda state, delta: ((state or 0) + delta,) * 2,
    "compare_and_set": _compare_and_set,
}
"""What each kind of operation gives and leaves behind, by the state of its key and its argument."""


def is_linearizable(operations: Iterable[Operation], before: Any = ABSENT) -> bool:
    """Whether these operations on one key, whose state was ``before``, can have taken place one after another."""
    history = sorted(operations, key=_START)
    wanted = sum(1 << index for index, operation in enumerate(history) if operation.end != NEVER)
    steps = [MODEL[operation.kind] for operation in history]
    tried = set()
    untried: list[tuple[int, int, Any]] = [(0, 0, before)]
    while untried:
        first, done, state = untried.pop()
        if done & wanted == wanted:
            return True
        while done >> first & 1:
            first += 1
        horizon = NEVER
        for index in range(first, len(history)):
            bit = 1 << index
            if done & bit:
                continue
            operation = history[index]
            if operation.start > horizon:
                # One that has not taken place yet ended before this one began, and so did before all that follow.
                break
            horizon = min(horizon, operation.end)
            result, after = steps[index](state, operation.argument)
            if operation.result is UNKNOWN or result == operation.result:
                configuration = (done | bit, after)
                if configuration not in tried:
                    tried.add(configuration)
                    untried.append((first, *configuration))
    return False


def violations(history: Iterable[Operation]) -> list[list[Operation]]:
    """The operations of each key that are not linearizable, by their start; empty for a good history."""
    by_key = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    return [sorted(operations, key=_START) for operations in by_key.values() if not is_linearizable(operations)]


def told(operations: Iterable[Operation]) -> str:
    """The operations of one key for a human reader, times from the first start."""
    ordered = sorted(operations, key=_START)
    zero = ordered[0].start
    return "\n".join(
        f"{operation.start - zero:>12,} .. {operation.end - zero:>12,}  {operation.kind}({operation.argument!r})"
        f" -> {operation.result!r}"
        for operation in ordered
    )


def by_trial(operations: Iterable[Operation]) -> bool:
    """As ``is_linearizable``, by trying every order: slow, and too short to be wrong."""
    history = list(operations)
    optional = [operation for operation in history if operation.end == NEVER]
    for left_out in itertools.chain.from_iterable(
        itertools.combinations(optional, count) for count in range(len(optional) + 1)
    ):
        kept = [operation for operation in history if not any(operation is other for other in left_out)]
        if any(_explains(order) for order in itertools.permutations(kept)):
            return True
    return False


def _explains(order: tuple[Operation, ...]) -> bool:
    if any(later.end < earlier.start for earlier, later in itertools.combinations(order, 2)):
        return False
    state = ABSENT
    for operation in order:
        result, state = MODEL[operation.kind](state, operation.argument)
        if operation.result is not UNKNOWN and result != operation.result:
            return False
    return True
