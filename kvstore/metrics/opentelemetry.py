"""OpenTelemetry instruments: the statistics of stores, observed whenever metrics are collected. Extra: ``opentelemetry``.

>>> from kvstore.metrics.opentelemetry import observe
>>> observe(store, name="features")                           # doctest: +SKIP

Names, units and kinds follow the semantic conventions (docs/general/naming.md and metrics.md of
``open-telemetry/semantic-conventions``): what is counted is in the plural and without ``total``; what is added up over
stores is an UpDownCounter, what can't be is a Gauge.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation, get_meter

from kvstore.metrics.observed import COUNTERS, GAUGES, Observed

if TYPE_CHECKING:
    from kvstore import aio
    from kvstore.stats import Stats
    from kvstore.store import Store

STORE: Final = "kvstore.store.name"
"""The attribute that every measurement has: the store's name."""
NAMESPACE: Final = "kvstore.namespace.name"
"""The attribute of what is counted: the namespace's name, empty for the default one."""

_UNITS: Final = {"lookups": "{lookup}", "hits": "{lookup}", "absent": "{lookup}", "bypassed": "{value}"}
_NAMES: Final = {
    "entries": ("entry.count", "{entry}"),
    "memory_bytes": ("memory.usage", "By"),
    "cache_size": ("memory.limit", "By"),
    "records": ("record.count", "{record}"),
    "file_bytes": ("file.size", "By"),
    "used_bytes": ("file.used", "By"),
    "reclaimable_bytes": ("file.reclaimable", "By"),
    "oldest_reader_lag": ("reader.lag", "{commit}"),
}


def observe(store: Store | aio.Store, *, meter: Meter | None = None, name: str | None = None) -> None:
    """Let the instruments of ``meter`` tell of this store until it is closed or no longer used.

    ``meter`` is by default the one called ``kvstore`` of the global provider; ``name`` the store's attribute
    ``kvstore.store.name``, by default the path of its file. Observing a store doesn't keep it open.

    Raises ``ValueError`` where another open store has that name: two handles of one file need two.
    """
    chosen = _default_meter() if meter is None else meter
    with _making:
        instruments = _instruments.get(chosen)
        if instruments is None:
            instruments = _instruments[chosen] = _Instruments(chosen)
    instruments.observed.add(store, name)


class _Instruments:
    """The instruments of one meter, and the stores that they tell of.

    A meter has each instrument once: made a second time, it is the first one, and the second callback is never called.
    """

    def __init__(self, meter: Meter) -> None:
        self.observed = Observed()
        self._latest: list[tuple[str, Stats]] = []
        self._told = {*COUNTERS, *GAUGES}
        for field, text in COUNTERS.items():
            unit = _UNITS.get(field, "{entry}")
            meter.create_observable_counter(f"kvstore.{field}", [self._counts(field)], unit, text)
        for field, text in GAUGES.items():
            suffix, unit = _NAMES[field]
            additive = field != "oldest_reader_lag"
            create = meter.create_observable_up_down_counter if additive else meter.create_observable_gauge
            create(f"kvstore.{suffix}", [self._state(field)], unit, text)

    def _counts(self, field: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda _: [
            Observation(getattr(counts, field), {STORE: name, NAMESPACE: namespace})
            for name, stats in self._read_for(field)
            for namespace, counts in stats.namespaces.items()
        ]

    def _state(self, field: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda _: [Observation(getattr(stats, field), {STORE: name}) for name, stats in self._read_for(field)]

    def _read_for(self, field: str) -> list[tuple[str, Stats]]:
        """The statistics, the same for every instrument of one collection: an instrument that asks again begins the next."""
        # Without a lock, which a fork could leave locked: a meter's collections come one after another.
        if field in self._told:
            self._told.clear()
            self._latest = list(self.observed.stats())
        self._told.add(field)
        return self._latest


_instruments: weakref.WeakKeyDictionary[Meter, _Instruments] = weakref.WeakKeyDictionary()
_making = threading.Lock()


@functools.cache
def _default_meter() -> Meter:
    # Once: before a provider is set, each call gives another stand-in, and of those only the first one's instruments count.
    return get_meter("kvstore")
