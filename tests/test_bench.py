"""The benchmarks' own arithmetic; what they measure is measured by `make bench`, not here."""

from __future__ import annotations

import itertools

import pytest

from bench.__main__ import ROWS, amount, line
from bench.rows import Limit, Measurement, Row
from bench.timing import compare, loop


def test_a_ratio_is_the_median_of_the_rounds_so_that_a_disturbed_round_does_not_count():
    ours = itertools.cycle([3.0, 3.0, 3.0, 300.0, 3.0])
    theirs = itertools.cycle([2.0, 2.0, 2.0, 2.0, 2.0])
    measured = compare(lambda: next(ours), lambda: next(theirs), rounds=25, warmup=0)
    assert measured.ratio == 1.5
    assert measured.ours == 3.0
    assert measured.theirs == 2.0


def test_each_side_goes_first_in_some_of_the_rounds():
    calls = []
    compare(lambda: calls.append("o") or 1.0, lambda: calls.append("t") or 1.0, rounds=50, warmup=0)
    assert {calls[n] + calls[n + 1] for n in range(0, len(calls), 2)} == {"ot", "to"}


def test_a_loop_runs_its_statement_for_each_key_with_the_names_it_was_given():
    seen = []
    sample = loop("append(key)", ["a", "b"], append=seen.append)
    seen.clear()
    sample()
    assert seen[:4] == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("limit", "text", "kept", "broken"),
    [
        (Limit(at_most=2), "at most 2", 2.0, 2.01),
        (Limit(at_least=15), "at least 15", 15.0, 14.9),
        (Limit(at_least=0.7, at_most=1.1), "0.7 to 1.1", 1.0, 0.6),
    ],
)
def test_a_limit_says_what_it_is_and_holds_up_to_its_bound(limit, text, kept, broken):
    assert str(limit) == text
    assert limit.holds(kept)
    assert not limit.holds(broken)


def test_a_row_over_its_limit_is_shown_as_such():
    row = Row("hit", "a dict", Limit(at_most=2), measure=lambda place: None)
    assert line(row, Measurement((1.5,), 1.5e-7, 1e-7, "s")).endswith("| 150 ns | 100 ns | 1.50 | at most 2 | yes |")
    assert line(row, Measurement((2.5,), 2.5e-7, 1e-7, "s")).endswith("| 2.50 | at most 2 | **no** |")
    assert "not measured: no such counter" in line(row, "no such counter")


@pytest.mark.parametrize(
    ("figure", "unit", "text"),
    [
        (2.14e-7, "s", "214 ns"),
        (0.0031, "s", "3.1 ms"),
        (2.5, "s", "2.5 s"),
        (8.39e6, "B", "8.39 MB"),
        (12, "", "12"),
    ],
)
def test_figures_are_shown_in_the_unit_that_fits(figure, unit, text):
    assert amount(figure, unit) == text


def test_no_two_rows_have_one_name():
    assert len({(row.operation, row.against) for row in ROWS}) == len(ROWS)
