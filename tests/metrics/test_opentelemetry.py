"""Collections as the OpenTelemetry SDK makes them: instruments by the conventions, of stores that come and go."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, InMemoryMetricReader, Sum

import kvstore
import kvstore.aio
from kvstore.metrics.observed import COUNTERS
from kvstore.metrics.opentelemetry import NAMESPACE, STORE, observe


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none", cache_size=2**20) as store:
        yield store


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def meter(reader):
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    yield provider.get_meter("kvstore")
    provider.shutdown()


def collect(reader):
    """Each instrument's metric by name, of one collection."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    return {
        metric.name: metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def points(metric):
    return {tuple(point.attributes.values()): point.value for point in metric.data.data_points}


def test_a_collection_has_every_figure_by_store_and_namespace(store, meter, reader):
    observe(store, meter=meter, name="features")
    users = store.namespace("users")
    store.set_many({"a": 1, "b": 2})
    users["ada"] = {"clicks": 3}
    store.get_many("aabz")
    users.get("ada")
    stats = store.stats()
    found = collect(reader)

    for field in COUNTERS:
        metric = found.pop(f"kvstore.{field}")
        assert isinstance(metric.data, Sum)
        assert metric.data.is_monotonic
        assert points(metric) == {
            ("features", ""): getattr(stats, field) - getattr(users.stats(), field),
            ("features", "users"): getattr(users.stats(), field),
        }
    assert {(name, metric.unit, *points(metric).items()) for name, metric in found.items()} == {
        ("kvstore.entry.count", "{entry}", (("features",), 3)),
        ("kvstore.memory.usage", "By", (("features",), stats.memory_bytes)),
        ("kvstore.memory.limit", "By", (("features",), 2**20)),
        ("kvstore.record.count", "{record}", (("features",), 3)),
        ("kvstore.file.size", "By", (("features",), stats.file_bytes)),
        ("kvstore.file.used", "By", (("features",), stats.used_bytes)),
        ("kvstore.file.reclaimable", "By", (("features",), stats.reclaimable_bytes)),
        ("kvstore.reader.lag", "{commit}", (("features",), 0)),
    }


def test_what_adds_up_is_a_sum_and_what_does_not_a_gauge(store, meter, reader):
    observe(store, meter=meter)
    found = collect(reader)
    assert [name for name, metric in found.items() if isinstance(metric.data, Gauge)] == ["kvstore.reader.lag"]
    falling = {name for name, metric in found.items() if isinstance(metric.data, Sum) and not metric.data.is_monotonic}
    assert falling == {*found} - {f"kvstore.{field}" for field in COUNTERS} - {"kvstore.reader.lag"}


def test_names_and_units_are_as_the_conventions_want_them(store, meter, reader):
    observe(store, meter=meter)
    for name, metric in collect(reader).items():
        assert re.fullmatch(r"kvstore(\.[a-z]+)+", name)
        assert "total" not in name
        assert re.fullmatch(r"By|\{[a-z]+\}", metric.unit), "UCUM; what is counted in the singular"
        assert metric.description.endswith(".")
        for point in metric.data.data_points:
            assert set(point.attributes) in ({STORE, NAMESPACE}, {STORE})


def test_each_collection_reads_anew(store, meter, reader):
    observe(store, meter=meter, name="features")
    seen = []
    for _ in range(3):
        store.get("a")
        seen.append(points(collect(reader)["kvstore.lookups"])["features", ""])
    assert seen == [1, 2, 3]


def test_all_figures_of_a_collection_are_of_one_moment(store, meter, reader):
    observe(store, meter=meter, name="features")
    store["a"] = 1
    done = threading.Event()

    def keep_hitting():
        while not done.is_set():
            store["a"]

    hitting = threading.Thread(target=keep_hitting)
    hitting.start()
    try:
        for _ in range(50):
            found = collect(reader)
            assert points(found["kvstore.lookups"]) == points(found["kvstore.hits"])
    finally:
        done.set()
        hitting.join()


def test_two_readers_both_see_the_newest(store):
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    provider = MeterProvider(metric_readers=readers, shutdown_on_exit=False)
    observe(store, meter=provider.get_meter("kvstore"), name="features")
    for lookups in range(1, 5):
        store.get("a")
        for reader in readers:
            assert points(collect(reader)["kvstore.lookups"])["features", ""] == lookups
    provider.shutdown()


def test_several_stores_share_a_meters_instruments(store, meter, reader, tmp_path, caplog):
    observe(store, meter=meter, name="features")
    with kvstore.open(tmp_path / "other.kv", durability="none") as other:
        observe(other, meter=meter)
        other.get_many("ab")
        assert points(collect(reader)["kvstore.lookups"]) == {
            ("features", ""): 0,
            (str(tmp_path / "other.kv"), ""): 2,
        }
    assert not caplog.records


def test_two_handles_of_one_file_need_two_names(store, store_path, meter):
    observe(store, meter=meter)
    with kvstore.open(store_path, durability="none") as second, pytest.raises(ValueError, match="a name of its own"):
        observe(second, meter=meter)


def test_a_closed_store_is_observed_no_more(store_path, meter, reader, caplog):
    with kvstore.open(store_path, durability="none") as store:
        observe(store, meter=meter)
        assert "kvstore.lookups" in collect(reader)
    assert collect(reader) == {}
    assert not caplog.records, "a callback that fails is logged"


def test_an_asyncio_store_is_observed_too(store_path, meter, reader):
    async def main():
        async with kvstore.aio.open(store_path, durability="none") as store:
            observe(store, meter=meter, name="features")
            await store.get("a")
            return collect(reader)

    assert points(asyncio.run(main())["kvstore.lookups"]) == {("features", ""): 1}


def test_stores_observed_before_the_application_sets_its_provider_are_not_lost(tmp_path):
    code = f"""
import kvstore
from kvstore.metrics.opentelemetry import observe
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
stores = [kvstore.open(f"{tmp_path}/{{name}}.kv", durability="none") for name in "abc"]
observe(stores[0], name="a")
observe(stores[1], name="b")
reader = InMemoryMetricReader()
set_meter_provider(MeterProvider(metric_readers=[reader]))
observe(stores[2], name="c")
(scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
print(scope.scope.name, *(point.attributes["kvstore.store.name"] for point in scope.metrics[0].data.data_points))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("kvstore a b c\n", "")
