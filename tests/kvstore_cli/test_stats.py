"""kvstore stats"""

from __future__ import annotations

import json

import kvstore


def test_the_figures_are_those_of_the_file(run, filled):
    figures = json.loads(run("stats", "--json", filled).out)
    with kvstore.open(filled, readonly=True) as store:
        stats = store.stats()
    assert figures == {name: getattr(stats, name) for name in figures}
    assert figures["records"] == 6
    assert figures["file_bytes"] == filled.stat().st_size


def test_they_are_shown_one_on_a_line_for_people(run, filled):
    figures = json.loads(run("stats", "--json", filled).out)
    lines = [line.split() for line in run("stats", filled).lines]
    assert {name: int(figure.replace(",", "")) for name, figure in lines} == figures
