"""Scrapes as Prometheus makes them: over HTTP, in both text formats, of stores that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from urllib.request import Request, urlopen

import pytest
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

import kvstore
import kvstore.aio
from kvstore.metrics.observed import COUNTERS, GAUGES
from kvstore.metrics.prometheus import StoreCollector
from tests.forks import WARNING, in_child
from tests.threads import at_once

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none", cache_size=2**20) as store:
        yield store


@pytest.fixture
def collector(store):
    collector = StoreCollector()
    collector.add(store, name="features")
    return collector


@pytest.fixture
def registry(collector):
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


@contextlib.contextmanager
def served(registry):
    """A server whose page tells of the registry, and a function that fetches the page."""
    server, thread = start_http_server(0, "127.0.0.1", registry)

    def fetch(accept="text/plain", query=""):
        request = Request(f"http://127.0.0.1:{server.server_port}/metrics{query}", headers={"Accept": accept})
        with urlopen(request, timeout=10) as answer:
            return answer.read().decode()

    try:
        yield fetch
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def samples(registry):
    """Value by name and labels, of what a scrape gives."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def test_a_scrape_has_every_figure_by_store_and_namespace(store, registry):
    users = store.namespace("users")
    store.set_many({"a": 1, "b": 2})
    users["ada"] = {"clicks": 3}
    for key in ("a", "b", "a", "not there"):
        store.get(key)
    users.get("ada")
    stats = store.stats()

    with served(registry) as fetch:
        families = {family.name: family for family in parse(fetch())}

    for field in COUNTERS:
        family = families[f"kvstore_{field}"]
        assert family.type == "counter"
        assert {sample.name for sample in family.samples} == {f"kvstore_{field}_total"}
        by_labels = {(s.labels["store"], s.labels["namespace"]): s.value for s in family.samples}
        assert by_labels == {
            ("features", ""): getattr(stats, field) - getattr(users.stats(), field),
            ("features", "users"): getattr(users.stats(), field),
        }
    gauges = {name: family for name, family in families.items() if family.type == "gauge"}
    assert {(name, s.labels["store"], s.value) for name, f in gauges.items() for s in f.samples} == {
        ("kvstore_memory_entries", "features", 3),
        ("kvstore_memory_bytes", "features", stats.memory_bytes),
        ("kvstore_cache_size_bytes", "features", 2**20),
        ("kvstore_records", "features", 3),
        ("kvstore_file_bytes", "features", stats.file_bytes),
        ("kvstore_file_used_bytes", "features", stats.used_bytes),
        ("kvstore_file_reclaimable_bytes", "features", stats.reclaimable_bytes),
        ("kvstore_oldest_reader_lag_commits", "features", 0),
    }
    assert len(families) == len(COUNTERS) + len(GAUGES)


def test_the_strict_format_accepts_it_too(store, registry):
    store.namespace('a "quoted"\nname\\')["key"] = 1
    with served(registry) as fetch:
        families = list(openmetrics.text_string_to_metric_families(fetch(OPENMETRICS)))
    assert {s.labels["namespace"] for f in families if f.name == "kvstore_lookups" for s in f.samples} == {
        "",
        'a "quoted"\nname\\',
    }


def test_the_hit_rate_can_be_asked_for(store, registry):
    store["a"] = 1
    for key in "aaab":
        store.get(key)
    found = samples(registry)
    hits, lookups = (found[f"kvstore_{name}_total", "", "features"] for name in ("hits", "lookups"))
    assert hits / lookups == store.stats().hit_rate == 0.75


def test_one_figure_alone_can_be_fetched(store, registry):
    with served(registry) as fetch:
        page = fetch(query="?name[]=kvstore_hits_total")
    assert {family.name for family in parse(page)} == {"kvstore_hits"}


def test_several_stores_stand_side_by_side(store, collector, registry, tmp_path):
    with kvstore.open(tmp_path / "other.kv", durability="none") as other:
        collector.add(other)
        store.get("a")
        other.get_many("ab")
        found = samples(registry)
    assert found["kvstore_lookups_total", "", "features"] == 1
    assert found["kvstore_lookups_total", "", str(tmp_path / "other.kv")] == 2
    assert len({name for name, *_ in found}) == len(COUNTERS) + len(GAUGES)


def test_a_second_collector_is_refused_when_it_is_registered(store, registry):
    with pytest.raises(ValueError, match="kvstore_hits"):
        registry.register(StoreCollector(store))


def test_a_collector_can_be_registered_before_it_has_a_store(store):
    registry, collector = CollectorRegistry(), StoreCollector()
    registry.register(collector)
    assert samples(registry) == {}
    collector.add(store)
    assert len(samples(registry)) == len(COUNTERS) + len(GAUGES)
    registry.unregister(collector)
    registry.register(StoreCollector(store))


def test_a_closed_store_yields_nothing_and_the_others_go_on(store_path, tmp_path):
    registry = CollectorRegistry()
    with kvstore.open(store_path, durability="none") as first:
        second = kvstore.open(tmp_path / "other.kv", durability="none")
        registry.register(StoreCollector(first, second))
        second.close()
        assert {labels[-1] for _, *labels in samples(registry)} == {str(store_path)}
    with served(registry) as fetch:
        assert fetch() == ""


def test_scrapes_go_on_while_stores_are_read_and_closed(tmp_path):
    registry, collector = CollectorRegistry(), StoreCollector()
    registry.register(collector)
    done = threading.Event()

    def come_and_go():
        try:
            for number in range(30):
                with kvstore.open(tmp_path / f"{number % 3}.kv", durability="none") as store:
                    collector.add(store, name="passing")
                    store.namespace(f"n{number}")["a"] = 1
                    assert store.get("a") is None
        finally:
            done.set()

    def scrape():
        while not done.is_set():
            found = samples(registry)
            names = {name for name, *_ in found}
            assert len(names) in (0, len(COUNTERS) + len(GAUGES))

    at_once(come_and_go, scrape, scrape)


def test_an_asyncio_store_is_told_of_too(store_path):
    async def main():
        async with kvstore.aio.open(store_path, durability="none") as store:
            registry.register(StoreCollector(store))
            await store.get("a")
            found = samples(registry)
        return found, samples(registry)

    registry = CollectorRegistry()
    while_open, afterwards = asyncio.run(main())
    assert while_open["kvstore_lookups_total", "", str(store_path)] == 1
    assert afterwards == {}


@pytest.mark.filterwarnings(WARNING)
def test_a_forked_child_tells_of_what_it_does_itself(store, registry):
    def read_and_scrape():
        store.get_many("abc")
        return samples(registry)

    store.get("a")
    in_the_child = in_child(read_and_scrape)
    assert in_the_child["kvstore_lookups_total", "", "features"] == 4
    assert samples(registry)["kvstore_lookups_total", "", "features"] == 1
