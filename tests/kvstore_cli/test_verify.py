"""kvstore verify"""

from __future__ import annotations

import os

import kvstore


def damage(path, needle):
    path.write_bytes(path.read_bytes().replace(needle, needle.swapcase()))


def test_a_sound_store_is_called_sound(run, spaced):
    assert run("verify", spaced) == (0, b"5 records, no problems\n", "")


def test_every_damaged_record_is_a_line(run, store_path):
    with kvstore.open(store_path) as store:
        store.set_many({"a": "needle one", ("t", 1): "needle two", "whole": 1})
        store.namespace("é").set_many({b"\x00": "needle three"})
    damage(store_path, b"needle")
    result = run("verify", store_path)
    assert result.code == 1
    assert [line.split(":")[0] for line in result.lines] == [
        'record "" "a"',
        'record "" ["t",1]',
        'record "\u00e9" {"$bytes"',
    ]
    assert all("checksum" in line for line in result.lines)
    assert result.err == f"Error: {store_path}: 3 problems\n"


def test_a_damaged_structure_is_reported(run, large):
    data = bytearray(large.read_bytes())
    data[-4096:] = bytes(4096)
    large.write_bytes(data)
    result = run("verify", large)
    assert result.code == 1
    assert result.err.startswith("Error: ")
    assert all(line.startswith("structure: ") for line in result.lines)


def test_a_store_that_must_not_be_written_is_verified_too(run, spaced, monkeypatch):
    monkeypatch.setattr("os.access", lambda _, mode: mode != os.W_OK)
    assert run("verify", spaced).lines == ["5 records, no problems"]


def test_a_store_that_is_not_there_is_not_made(fails, tmp_path):
    assert "no such store" in fails("verify", tmp_path / "none.kv")
    assert list(tmp_path.iterdir()) == []
