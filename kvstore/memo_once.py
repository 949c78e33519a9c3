"""Computing missing results once, however many threads, tasks and processes ask, one by one and in batches.

``Computing`` says what is to be done, and leaves to its driver how: its steps are a generator, driven by a thread here and by a
task in `kvstore.memo_async`. It claims as many of the missing results as nobody else is computing, up to the size of a
batch, computes and stores these, gives them free, and goes on; only when there is nothing left to claim does it wait for the
others. So whoever waits holds nothing, and batches that overlap in whatever order can't wait for each other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from kvstore.backends import Writing
from kvstore.cached import CachedSpace
from kvstore.errors import ReadOnlyError, StoreBusyError, StoreFullError, StoreIOError, UnstorableValueError
from kvstore.frozen import Frozen
from kvstore.keys import Key
from kvstore.memo_call import Args, Kwargs
from kvstore.memo_results import Results
from kvstore.once import Flight

R = TypeVar("R")

_FIRST_PAUSE_SECONDS: Final = 0.005
_LONGEST_PAUSE_SECONDS: Final = 0.1
"""How long to wait before looking again for what another process computes: at first, and after a while."""

LEASED_AT_ONCE: Final = 1_000
"""Results that one batch computes once among processes, too; what exceeds it, once among threads and tasks."""


class Look(Frozen):
    """Read these keys from the file, uncounted: the answer is a dict of those that are there."""

    keys: Sequence[Key]


class Call(Frozen):
    """Call the function: the answer is what it returns."""

    args: Args
    kwargs: Kwargs


class Keep(Frozen):
    """Do this in a transaction."""

    apply: Callable[[Writing], None]


class Wait(Frozen):
    """Wait until the flight has landed; where there is none, for some seconds."""

    flight: Flight | None
    seconds: float


Step: TypeAlias = "Look | Call | Keep | Wait"


class Work(Protocol):
    """How the function is called for some of the keys, and what its answer means."""

    @property
    def most(self) -> int | None:
        """For how many keys at once, at the most."""

    def arguments(self, wanted: Sequence[bytes]) -> tuple[Args, Kwargs]:
        """The arguments of the call that computes these."""

    def results(self, answer: Any, wanted: Sequence[bytes]) -> tuple[Sequence[Any], Any]:
        """A result for each of the keys, and what an empty batch would give. Raises where the answer isn't that."""


class One:
    """A call that is not of a batch."""

    most: Final = 1

    def __init__(self, args: Args, kwargs: Kwargs) -> None:
        self._arguments = args, kwargs

    def arguments(self, wanted: Sequence[bytes]) -> tuple[Args, Kwargs]:
        """The arguments as they were given."""
        return self._arguments

    def results(self, answer: Any, wanted: Sequence[bytes]) -> tuple[Sequence[Any], Any]:
        """The answer is the result."""
        return (answer,), None


class Pilot(Protocol):
    """Whoever computes."""

    @property
    def name(self) -> object:
        """What its flights say it is."""

    def is_within(self, other: object) -> bool:
        """Whether this one was asked from inside what ``other`` computes, so that waiting for it would be for ever."""


class Claims:
    """What one batch is computing now: each with a flight, which holds off this process, and a lease, for the others."""

    def __init__(self, space: CachedSpace, pilot: Pilot) -> None:
        # Of a store that was closed, this raises.
        self._flights = space._engine.flights
        self._space = space._space
        self._pilot = pilot
        self._shared = not space._handle.readonly
        self.flights: dict[bytes, Flight] = {}
        self._leased = 0
        self.taken: list[bytes] = []

    def take(self, wanted: Iterable[bytes], most: int | None) -> Flight | None:
        """Claim of these what nobody else computes; the flight of one that somebody does, if in this process."""
        met = None
        for encoded in wanted:
            if len(self.taken) == most:
                break
            if not self._shared:
                # What can't be stored is of no use to others, who would wait in vain.
                self.taken.append(encoded)
                continue
            # Noted first: an interrupt may come before it is known whether the flight has taken off.
            own = self.flights[encoded] = Flight((self._space, encoded), self._pilot.name)
            flight = self._flights.board(own)
            if flight is own:
                if self._leased < LEASED_AT_ONCE:
                    if not self._flights.take_lease(own, 0):
                        self._land(encoded)
                        continue
                    self._leased += 1
            else:
                del self.flights[encoded]
                if not self._pilot.is_within(flight.pilot):
                    met = flight
                    continue
            self.taken.append(encoded)
        return met

    def give_free(self) -> None:
        """Let others have what was claimed. Whoever is interrupted in it must do it once more."""
        while self.flights:
            self._land(next(iter(self.flights)))
        self._leased = 0
        self.taken.clear()

    def _land(self, encoded: bytes) -> None:
        try:
            self._flights.land(self.flights[encoded])
        except StoreIOError:
            # Landed, though its lease is not given back.
            del self.flights[encoded]
            raise
        del self.flights[encoded]


class Computing:
    """The computation of some missing results. ``wanted`` are their keys, by their encodings, in the order to compute them in."""

    def __init__(
        self, results: Results, writer: CachedSpace, wanted: dict[bytes, Key], work: Work, pilot: Pilot
    ) -> None:
        self._results = results
        self._writer = writer
        self._missing = wanted
        self._work = work
        self.claims: Final = Claims(results.space, pilot)
        self.computed = 0
        self.found: dict[bytes, Any] = {}

    def steps(self) -> Generator[Step, Any, dict[bytes, Any]]:
        """What to do, in order, and at the end the results by their encoded keys."""
        missing, claims = self._missing, self.claims
        pause = _FIRST_PAUSE_SECONDS
        while missing:
            try:
                met = claims.take(missing, self._work.most)
                if not claims.taken:
                    yield Wait(met, pause)
                    left = len(missing)
                    yield from self._look(missing)
                    pause = min(2 * pause, _LONGEST_PAUSE_SECONDS) if left == len(missing) else _FIRST_PAUSE_SECONDS
                    continue
                taken = list(claims.taken)
                # Somebody may have stored some of them after they were missed, and before they were claimed.
                yield from self._look(taken)
                lacking = [encoded for encoded in taken if encoded in missing]
                if lacking:
                    yield from self._compute(lacking)
            finally:
                try:
                    claims.give_free()
                except BaseException:
                    # Perhaps before it began: an interrupt may come when a function starts.
                    claims.give_free()
                    raise
        return self.found

    def _look(self, wanted: Iterable[bytes]) -> Generator[Step, Any, None]:
        by_key = {self._missing[encoded]: encoded for encoded in wanted}
        answer = yield Look(list(by_key))
        for key, value in answer.items():
            self._have(by_key[key], value)

    def _have(self, encoded: bytes, value: Any) -> None:
        self.found[encoded] = value
        del self._missing[encoded]

    def _compute(self, wanted: list[bytes]) -> Generator[Step, Any, None]:
        results, counters = self._results, self._results.counters
        args, kwargs = self._work.arguments(wanted)
        begun = time.perf_counter()
        try:
            answer = yield Call(args, kwargs)
        finally:
            seconds = time.perf_counter() - begun
            counters.add(misses=len(wanted), seconds=seconds)
        made, empty = self._work.results(answer, wanted)
        self.computed += len(wanted)
        triples = [(encoded, self._missing[encoded], value) for encoded, value in zip(wanted, made, strict=True)]
        tried = list(results.prepared(self._writer, triples))
        records = [record for record in tried if not isinstance(record, UnstorableValueError)]
        try:
            if records:
                yield Keep(results.keep(self._writer, records, seconds, empty))
        except (ReadOnlyError, StoreFullError, StoreBusyError):
            counters.add(unstored=len(records))
        for record in tried:
            if isinstance(record, UnstorableValueError):
                raise record
            self._have(record.encoded, results.result_of(record))


class ThreadPilot:
    """The running thread, as the pilot of what it computes."""

    def __init__(self) -> None:
        self.name: Final = threading.get_ident()

    def is_within(self, other: object) -> bool:
        """A thread asks while it computes only from inside."""
        return other == self.name


def run(steps: Generator[Step, Any, R], space: CachedSpace, function: Callable[..., Any]) -> R:
    """Take the steps in this thread; what they return, or raise."""
    try:
        step = next(steps)
        while True:
            try:
                answer = _take(step, space, function)
            except BaseException as error:  # the generator's, to give free what it claims
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        # A traceback may keep them, and their claims, for long.
        steps.close()


def _take(step: Step, space: CachedSpace, function: Callable[..., Any]) -> Any:
    match step:
        case Look():
            with space._view() as view:
                return space._read_many(view, step.keys)
        case Call():
            return function(*step.args, **step.kwargs)
        case Keep():
            return space._commit(step.apply)
        case Wait():
            return time.sleep(step.seconds) if step.flight is None else space._engine.flights.wait_for(step.flight)
