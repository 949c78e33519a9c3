"""Computing a missing value once, however many ask: in this process by a flight that the others wait for, across processes
by a lease that the system takes back when its holder dies.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from kvstore.companion import Companion
from kvstore.missing import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

Address = tuple[str, bytes]
"""A space and an encoded key."""

_WAIT_SECONDS: Final = 0.05


class Flights:
    """The values that this process is computing now, each by one pilot: a thread, by its identity, or a task."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Address, Flight] = {}

    def start_over_in_child(self) -> None:
        """Those who compute are the parent's."""
        self._lock = threading.Lock()
        self._flights = {}

    def board(self, address: Address, pilot: object) -> tuple[Flight, bool]:
        """The flight of an address, and whether it is a new one, which its pilot must ``land``."""
        with self._lock:
            flight = self._flights.get(address)
            if flight is not None:
                return flight, False
            flight = self._flights[address] = Flight(pilot)
            return flight, True

    def land(self, address: Address) -> None:
        """The pilot is done, well or not: tell everybody who waits."""
        with self._lock:
            flight = self._flights.pop(address)
            flight.landed.set()
            waiting = flight.passengers
        for tell in waiting:
            tell()

    def tell_when_landed(self, flight: Flight, tell: Callable[[], object]) -> None:
        """Have ``tell`` called when the flight has landed, in whatever thread; at once where it has."""
        with self._lock:
            if not flight.landed.is_set():
                flight.passengers.append(tell)
                return
        tell()

    def run(self, address: Address, companion: Companion, look: Callable[[], Any], make: Callable[[], Any]) -> Any:
        """What ``look`` finds; where that is ``MISSING``, what ``make`` computes and stores.

        One thread of all processes is in ``make`` for an address; when it raises, the next one that waits takes its place.
        A thread that is in ``make`` already, and asks again from inside, computes at once.
        """
        me = threading.get_ident()
        while True:
            found = look()
            if found is not MISSING:
                return found
            flight, is_new = self.board(address, me)
            if is_new:
                break
            if flight.pilot == me:
                return make()
            flight.landed.wait()
        try:
            return self._make_once(address, companion, look, make)
        finally:
            self.land(address)

    @staticmethod
    def _make_once(
        address: tuple[str, bytes], companion: Companion, look: Callable[[], Any], make: Callable[[], Any]
    ) -> Any:
        binding = lease_name(address)
        # Looked at now and then, since the holder may have stored the value and gone on to compute another one whose
        # lease is, by a coincidence of hashes, the same.
        while not companion.lock_lease(binding, _WAIT_SECONDS):
            found = look()
            if found is not MISSING:
                return found
        try:
            found = look()
            return make() if found is MISSING else found
        finally:
            companion.unlock_lease(binding)


def lease_name(address: tuple[str, bytes]) -> bytes:
    """What the lease of a key goes by: a namespace's name has no NUL, so no two keys of a store share it."""
    return b"\0".join((address[0].encode(), address[1]))


class Flight:
    """One computation under way."""

    __slots__ = ("landed", "passengers", "pilot")

    def __init__(self, pilot: object) -> None:
        self.pilot = pilot
        self.landed = threading.Event()
        self.passengers: list[Callable[[], object]] = []
