"""What is exported: every figure that a store has, under a name of its own."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

import kvstore
from kvstore.metrics.observed import COUNTERS, GAUGES, Observed
from kvstore.stats import Counts, Stats
from tests.forks import WARNING, in_child


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store


def names(observed):
    return [name for name, _ in observed.stats()]


def test_no_figure_is_forgotten():
    told = {*COUNTERS, *GAUGES}
    left_out = set(Stats._fields) - told
    assert left_out == {"misses", "namespaces"}, "lookups without hits; what the labels are made of"
    assert set(COUNTERS) == {*Counts._fields, "lookups"} - {"misses"}
    assert all(text.endswith(".") for text in (COUNTERS | GAUGES).values())


def test_a_store_is_known_by_its_path_or_the_name_it_is_given(store, store_path, tmp_path):
    observed = Observed()
    with kvstore.open(tmp_path / "other.kv", durability="none") as other:
        observed.add(store, None)
        observed.add(other, "other")
        assert names(observed) == [str(store_path), "other"]


def test_a_name_that_could_not_be_exported_is_refused(store):
    with pytest.raises(ValueError, match=r"lone surrogate.* use valid Unicode"):
        Observed().add(store, "caf\udce9")


def test_what_is_no_store_is_refused(store):
    for thing in (store.namespace("users"), store.stats(), "store.kv", None):
        with pytest.raises(TypeError, match=f"not {type(thing).__name__}; a namespace is told of with its store"):
            Observed().add(thing, "name")


def test_two_handles_of_one_file_need_two_names(store, store_path):
    observed = Observed()
    observed.add(store, None)
    with kvstore.open(store_path, durability="none") as second:
        with pytest.raises(ValueError, match=r"another open store is named .*store\.kv.* give this one a name"):
            observed.add(second, None)
        observed.add(second, "second")
        assert names(observed) == [str(store_path), "second"]


def test_adding_a_store_again_changes_nothing(store, store_path):
    observed = Observed()
    observed.add(store, None)
    observed.add(store, None)
    assert names(observed) == [str(store_path)]


def test_a_closed_store_is_passed_over_and_its_name_is_free(store_path):
    observed = Observed()
    with kvstore.open(store_path, durability="none") as first:
        observed.add(first, "cache")
    assert names(observed) == []
    with kvstore.open(store_path, durability="none") as again:
        observed.add(again, "cache")
        assert names(observed) == ["cache"]


def test_a_store_that_nobody_uses_any_more_is_not_kept_open(store_path):
    observed = Observed()
    store = kvstore.open(store_path, durability="none")
    observed.add(store, None)
    del store
    gc.collect()
    assert names(observed) == []
    kvstore.open(store_path, durability="relaxed").close()  # refused, were it open with another durability


def test_a_store_whose_file_is_gone_is_told_of_too(store, store_path, tmp_path):
    observed = Observed()
    with kvstore.open(tmp_path / "other.kv", durability="none") as other:
        observed.add(store, None)
        observed.add(other, "other")
        store_path.unlink()
        assert names(observed) == [str(store_path), "other"]


@pytest.mark.filterwarnings(WARNING)
def test_a_child_that_cannot_use_the_store_tells_of_nothing(store):
    observed = Observed()
    observed.add(store, "parents")
    with store.transaction():
        assert in_child(lambda: names(observed)) == []
    assert names(observed) == ["parents"]


def test_looking_at_the_figures_counts_nothing(store):
    observed = Observed()
    observed.add(store, None)
    store.get("a")
    before = store.stats()
    for _ in range(3):
        ((_, stats),) = observed.stats()
        assert stats == before


def test_importing_the_library_imports_no_exporter():
    code = """
import sys, kvstore
assert not {name for name in sys.modules if name.startswith(("kvstore.metrics", "prometheus_client", "opentelemetry"))}
"""
    subprocess.run([sys.executable, "-c", code], check=True)
