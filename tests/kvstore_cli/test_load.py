"""kvstore load"""

from __future__ import annotations

import os

import pytest

import kvstore


def content(path):
    with kvstore.open(path, readonly=True) as store:
        return dict(store)


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.jsonl.xz"])
def test_a_dump_becomes_a_store(run, filled, tmp_path, name):
    run("dump", filled, tmp_path / name)
    assert run("load", tmp_path / "new.kv", tmp_path / name) == (0, b"", "")
    assert content(tmp_path / "new.kv") == content(filled)
    assert run("dump", tmp_path / "new.kv").out == run("dump", filled).out


def test_a_dump_may_come_from_standard_input(run, filled, tmp_path):
    data = run("dump", filled).out
    assert run("load", tmp_path / "new.kv", stdin=data).code == 0
    assert run("load", tmp_path / "other.kv", "-", stdin=data).code == 0
    assert content(tmp_path / "new.kv") == content(tmp_path / "other.kv") == content(filled)


def test_a_store_that_has_records_is_loaded_into_only_to_merge(run, fails, filled, tmp_path):
    data = run("dump", filled, "--prefix", "a").out
    run("set", tmp_path / "new.kv", "a", '"old"')
    run("set", tmp_path / "new.kv", "mine", "2")
    assert "merge" in fails("load", tmp_path / "new.kv", stdin=data)
    assert content(tmp_path / "new.kv") == {"a": "old", "mine": 2}
    assert run("load", "--merge", tmp_path / "new.kv", stdin=data).code == 0
    assert content(tmp_path / "new.kv") == {"a": 1, "mine": 2}


def test_an_empty_store_is_loaded_into(run, filled, tmp_path):
    kvstore.open(tmp_path / "new.kv").close()
    assert run("load", tmp_path / "new.kv", stdin=run("dump", filled).out).code == 0
    assert content(tmp_path / "new.kv") == content(filled)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-9],
        lambda data: data[:60] + b"x" + data[61:],
        lambda data: data + b"\n",
        lambda _: b"",
    ],
    ids=["cut off", "altered", "continued", "empty"],
)
def test_a_damaged_dump_is_an_error_with_its_line_and_changes_nothing(run, fails, filled, tmp_path, damage):
    data = damage(run("dump", filled).out)
    assert fails("load", tmp_path / "new.kv", stdin=data).startswith("line ")
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("store")] == []
    before = content(filled)
    assert fails("load", "--merge", filled, stdin=data).startswith("line ")
    assert content(filled) == before


def test_a_compressed_dump_that_is_cut_off_is_an_error(run, fails, filled, tmp_path):
    for name in ("d.gz", "d.xz"):
        run("dump", filled, tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-5])
        assert fails("load", tmp_path / "new.kv", tmp_path / name).startswith("line ")
    assert not (tmp_path / "new.kv").exists()


def test_a_line_beyond_the_limit_is_an_error(run, fails, filled, tmp_path):
    data = run("dump", filled).out
    assert "max_line" in fails("load", tmp_path / "new.kv", "--max-line", "50", stdin=data)
    assert run("load", tmp_path / "new.kv", "--max-line", "100", stdin=data).code == 0


def test_a_store_that_comes_up_during_the_load_is_not_replaced(run, fails, filled, tmp_path, monkeypatch):
    data = run("dump", filled).out
    opened = kvstore.open

    def open_while_another_does(path, **options):
        with opened(tmp_path / "new.kv") as store:
            store["theirs"] = 1
        monkeypatch.setattr(kvstore, "open", opened)
        return opened(path, **options)

    monkeypatch.setattr(kvstore, "open", open_while_another_does)
    assert "new.kv: File exists" in fails("load", tmp_path / "new.kv", stdin=data)
    assert content(tmp_path / "new.kv") == {"theirs": 1}


@pytest.mark.parametrize("taken", [False, True])
def test_a_file_system_without_hard_links_will_do(run, filled, tmp_path, monkeypatch, taken):
    def refuse(self, target):
        if taken:
            self.write_text("theirs")
        raise PermissionError(1, "Operation not permitted", os.fspath(self))

    data = run("dump", filled).out
    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    result = run("load", tmp_path / "new.kv", stdin=data)
    assert result.code == int(taken)
    if taken:
        assert (tmp_path / "new.kv").read_text() == "theirs"
    else:
        assert content(tmp_path / "new.kv") == content(filled)


def test_a_new_store_needs_a_directory(fails, run, filled, tmp_path):
    data = run("dump", filled).out
    assert "no/new.kv" in fails("load", tmp_path / "no" / "new.kv", stdin=data)
