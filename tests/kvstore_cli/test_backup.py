"""kvstore backup"""

from __future__ import annotations

from tests.other_process import with_store


def test_it_copies_the_store(run, spaced, tmp_path):
    assert run("backup", spaced, tmp_path / "backup.kv") == (0, b"", "")
    assert run("dump", tmp_path / "backup.kv").out == run("dump", spaced).out


def test_it_works_while_the_store_is_in_use(run, spaced, tmp_path):
    with with_store(spaced) as other:
        other("store['a'] = 'changed'")
        other("tx = store.transaction(); tx.__enter__(); tx['a'] = 'not yet'")
        assert run("backup", spaced, tmp_path / "backup.kv").code == 0
    assert run("get", tmp_path / "backup.kv", "a").lines == ['"changed"']


def test_it_overwrites_nothing(fails, spaced, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    assert "taken" in fails("backup", spaced, taken)
    assert "store.kv" in fails("backup", spaced, spaced)
    assert taken.read_text() == "mine"


def test_it_needs_a_store_and_a_folder(fails, spaced, tmp_path):
    assert "no such store" in fails("backup", tmp_path / "none.kv", tmp_path / "backup.kv")
    assert "no/backup.kv" in fails("backup", spaced, tmp_path / "no" / "backup.kv")
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("store.kv")) == []
