"""kvstore stats"""

from __future__ import annotations

import json

import kvstore


def test_the_figures_are_those_of_the_file(run, filled):
    figures = json.loads(run("stats", "--json", filled).out)
    with kvstore.open(filled, readonly=True) as store:
        stats = store.stats()
    assert figures.pop("namespaces") == {"": 6}
    assert figures == {name: getattr(stats, name) for name in figures}
    assert figures["records"] == 6
    assert figures["file_bytes"] == filled.stat().st_size


def test_each_namespace_has_its_count_of_what_has_not_expired(run, spaced):
    with kvstore.open(spaced, clock=lambda: 1_000_000_000.0) as store:
        store.namespace("n").set("over", 1, ttl=5)
    figures = json.loads(run("stats", "--json", spaced).out)
    assert figures["namespaces"] == {"": 1, "n": 3, "é m": 1}
    assert figures["records"] == 6


def test_they_are_shown_one_on_a_line_for_people(run, filled):
    figures = json.loads(run("stats", "--json", filled).out)
    lines = [line.split() for line in run("stats", filled).lines]
    spaces = {f'"{name}"': count for name, count in figures.pop("namespaces").items()}
    assert {name: int(figure.replace(",", "")) for name, figure in lines} == figures | spaces
