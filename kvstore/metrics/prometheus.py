"""A collector for ``prometheus_client``: the statistics of stores, read when Prometheus asks. Extra: ``prometheus``.

>>> from prometheus_client import REGISTRY, start_http_server
>>> from kvstore.metrics.prometheus import StoreCollector
>>> REGISTRY.register(StoreCollector(store))                  # doctest: +SKIP
>>> start_http_server(8000)                                   # doctest: +SKIP

Names and types follow Prometheus' "Metric and label naming" and "Writing exporters": a counter ends in ``_total``, a size in
``_bytes``. No ratio is among them, since those of several stores can't be added up: a hit rate is the quotient of two
counters, and a utilization that of two gauges.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kvstore.metrics.observed import COUNTERS, GAUGES, Observed

if TYPE_CHECKING:
    from kvstore import aio
    from kvstore.store import Store

_NAMES: Final = {
    "entries": "memory_entries",
    "cache_size": "cache_size_bytes",
    "used_bytes": "file_used_bytes",
    "reclaimable_bytes": "file_reclaimable_bytes",
    "oldest_reader_lag": "oldest_reader_lag_commits",
}
"""Those whose names in ``Stats`` lack a unit, or a word where they stand alone."""


class StoreCollector(Collector):
    """The statistics of one or more stores, for one registry.

    Counters have the labels ``store`` and ``namespace`` (empty for the default one), gauges ``store`` alone. A store that is
    closed or no longer used vanishes from the output, and is not kept open by being observed.

    A registry takes one collector of these names, and refuses a second one: ``add`` further stores to the first.
    """

    def __init__(self, *stores: Store | aio.Store) -> None:
        self._observed = Observed()
        for store in stores:
            self.add(store)

    def add(self, store: Store | aio.Store, *, name: str | None = None) -> None:
        """Tell of this store, too. ``name`` is its ``store`` label, by default the path of its file.

        Raises ``ValueError`` where another open store has that name: two handles of one file need two.
        """
        self._observed.add(store, name)

    def describe(self) -> Iterator[Metric]:
        """The families without samples, by which a registry notices that two collectors collide."""
        yield from _counters().values()
        yield from _gauges().values()

    def collect(self) -> Iterator[Metric]:
        """The families with the figures as they are now; none where no store is open."""
        counters, gauges = _counters(), _gauges()
        any_open = False
        for name, stats in self._observed.stats():
            any_open = True
            for field, counter in counters.items():
                for namespace, counts in stats.namespaces.items():
                    counter.add_metric((name, namespace), getattr(counts, field))
            for field, gauge in gauges.items():
                gauge.add_metric((name,), getattr(stats, field))
        if any_open:
            yield from counters.values()
            yield from gauges.values()


def _counters() -> dict[str, CounterMetricFamily]:
    labels = ("store", "namespace")
    return {field: CounterMetricFamily(f"kvstore_{field}", text, labels=labels) for field, text in COUNTERS.items()}


def _gauges() -> dict[str, GaugeMetricFamily]:
    return {
        field: GaugeMetricFamily(f"kvstore_{_NAMES.get(field, field)}", text, labels=("store",))
        for field, text in GAUGES.items()
    }
