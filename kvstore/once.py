"""Computing a missing value once, however many ask: in this process by a flight that the others wait for, across processes
by a lease that the system takes back when its holder dies.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from kvstore.companion import Companion
from kvstore.errors import StoreIOError
from kvstore.missing import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

Address = tuple[str, bytes]
"""A space and an encoded key."""

_WAIT_SECONDS: Final = 0.05


class Flight:
    """One computation, by one pilot: a thread, by its identity, or a task."""

    __slots__ = ("address", "lease", "passengers", "pilot")

    def __init__(self, address: Address, pilot: object) -> None:
        self.address = address
        self.pilot = pilot
        self.passengers: list[Callable[[], object]] = []
        """What tells those who wait for it."""
        self.lease: bytes | None = None
        """What its lease goes by, where it may have it."""


class Flights:
    """The values that this process is computing now."""

    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        self._lock = threading.Lock()
        self._flights: dict[Address, Flight] = {}

    def start_over_in_child(self) -> None:
        """Those who compute are the parent's; of a flight in which the fork took place, nobody here knows."""
        self._lock = threading.Lock()
        self._flights = {}

    def board(self, flight: Flight) -> Flight:
        """The flight that its address has already, or else this one, which its pilot must ``land``: whatever comes of this
        call, since an interrupt may come when it has taken off.
        """
        with self._lock:
            return self._flights.setdefault(flight.address, flight)

    def take_lease(self, flight: Flight, seconds: float) -> bool:
        """Take the lease of what the flight computes; whether it was had within the time. It ends when the flight lands."""
        # Noted first: an interrupt may come before it is known that the lease was had.
        flight.lease = lease_name(flight.address)
        had = self._companion.lock_lease(flight.lease, seconds)
        if not had:
            flight.lease = None
        return had

    def land(self, flight: Flight) -> None:
        """The pilot is done, well or not: give the lease back and tell everybody who waits.

        Does nothing for a flight that has landed, or never took off in this process, so whoever is interrupted in it may, and
        must, do it once more.
        """
        refused = None
        with self._lock:
            if self._flights.get(flight.address) is flight:
                try:
                    if flight.lease is not None:
                        self._companion.unlock_lease(flight.lease)
                except StoreIOError as error:
                    refused = error
                for tell in flight.passengers:
                    with contextlib.suppress(RuntimeError):  # of a lock that is released: told before an interrupt
                        tell()
                # Last, so that what an interrupt has left undone is found when it is done once more.
                del self._flights[flight.address]
        if refused is not None:
            raise refused

    def tell_when_landed(self, flight: Flight, tell: Callable[[], object]) -> None:
        """Have ``tell`` called when the flight has landed, in whatever thread; at once where it has. It must not block, and
        may be called twice.
        """
        with self._lock:
            if self._flights.get(flight.address) is flight:
                flight.passengers.append(tell)
                return
        tell()

    def wait_for(self, flight: Flight) -> None:
        """Wait until the flight has landed."""
        # Not an Event, which an interrupt in setting it leaves locked for ever.
        landed = threading.Lock()
        landed.acquire()
        self.tell_when_landed(flight, landed.release)
        landed.acquire()

    def run(self, address: Address, look: Callable[[], Any], make: Callable[[], Any]) -> Any:
        """What ``look`` finds; where that is ``MISSING``, what ``make`` computes and stores.

        One thread of all processes is in ``make`` for an address; when it raises, the next one that waits takes its place.
        A thread that is in ``make`` already, and asks again from inside, computes at once.
        """
        me = threading.get_ident()
        while True:
            found = look()
            if found is not MISSING:
                return found
            flight = Flight(address, me)
            try:
                under_way = self.board(flight)
                if under_way is flight:
                    return self._make_once(flight, look, make)
            finally:
                try:
                    self.land(flight)
                except BaseException:
                    # Perhaps before it began: an interrupt may come when a function starts.
                    self.land(flight)
                    raise
            if under_way.pilot == me:
                return make()
            self.wait_for(under_way)

    def _make_once(self, flight: Flight, look: Callable[[], Any], make: Callable[[], Any]) -> Any:
        # Looked at now and then, since the holder may have stored the value and gone on to compute another one whose
        # lease is, by a coincidence of hashes, the same.
        while not self.take_lease(flight, _WAIT_SECONDS):
            found = look()
            if found is not MISSING:
                return found
        found = look()
        return make() if found is MISSING else found


def lease_name(address: Address) -> bytes:
    """What the lease of a key goes by: a namespace's name has no NUL, so no two keys of a store share it."""
    return b"\0".join((address[0].encode(), address[1]))
