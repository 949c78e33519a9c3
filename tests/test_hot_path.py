"""The check of the hot paths: that it counts what runs, the same each time, and says what has grown."""

from __future__ import annotations

import json
import sys

import pytest

import hot_path

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_the_bytecodes_of_what_is_called_count_and_those_of_the_measuring_do_not():
    def shorter(number):
        return number

    def longer(number):
        return shorter(shorter(number + 1))

    counts = hot_path.counted({"nothing": lambda: None, "shorter": lambda: shorter(1), "longer": lambda: longer(1)})
    assert counts["nothing"] == 0
    assert 0 < counts["shorter"] < counts["longer"] < 50
    assert hot_path.counted({"longer": lambda: longer(1)}) == {"longer": counts["longer"]}


def test_a_path_that_grew_is_named_with_its_count_and_one_that_shrank_is_not():
    lines = hot_path.grown({"hit": 51, "miss": 90, "set": 7}, {"hit": 50, "miss": 100})
    assert lines == ["hit: 51 bytecodes, where 50 were enough (+1)", "set: 7 bytecodes, and no budget for it"]


def test_two_counts_of_the_library_agree():
    assert hot_path.measured() == hot_path.measured()


@pytest.mark.parametrize("lower", [False, True])
def test_the_check_fails_where_the_budget_is_lower_than_what_is_counted(tmp_path, monkeypatch, capsys, lower):
    monkeypatch.setattr(hot_path, "BUDGET", tmp_path / "budget.json")
    monkeypatch.setattr(sys, "argv", ["hot_path", "--write"])
    assert hot_path.main() == 0
    budgets = json.loads(hot_path.BUDGET.read_text())
    budgets[VERSION]["hit, store[key]"] -= lower
    hot_path.BUDGET.write_text(json.dumps(budgets))
    monkeypatch.setattr(sys, "argv", ["hot_path"])
    assert hot_path.main() == int(lower)
    assert ("hit, store[key]: " in capsys.readouterr().out) is lower


def test_a_version_without_a_budget_is_said_and_passes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(hot_path, "BUDGET", tmp_path / "budget.json")
    monkeypatch.setattr(sys, "argv", ["hot_path"])
    assert hot_path.main() == 0
    assert f"no budget for Python {VERSION}" in capsys.readouterr().out
