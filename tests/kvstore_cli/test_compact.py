"""kvstore compact"""

from __future__ import annotations

import kvstore
from tests.other_process import with_store


def test_it_gives_back_what_is_free_and_changes_nothing(run, large):
    with kvstore.open(large) as store:
        store.delete_many(range(1_000, 20_000))
    before, size = run("dump", large).out, large.stat().st_size
    result = run("compact", large)
    assert result.code == 0
    assert result.lines == [f"{size:,} -> {large.stat().st_size:,} bytes"]
    assert large.stat().st_size < size // 4
    assert run("dump", large).out == before


def test_it_is_refused_while_another_process_has_the_store_open(fails, filled):
    before = filled.read_bytes()
    with with_store(filled):
        assert "another process" in fails("compact", filled)
    assert filled.read_bytes() == before


def test_a_store_that_is_not_there_is_not_made(fails, tmp_path):
    assert "no such store" in fails("compact", tmp_path / "none.kv")
    assert list(tmp_path.iterdir()) == []
