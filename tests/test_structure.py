"""The structure of a store's file, judged without LMDB: what opening refuses, and what is told of what is lost."""

from __future__ import annotations

import struct

import pytest

import kvstore
from kvstore import StoreCorruptError, StoreFormatError, keys
from kvstore.backends import lmdb_structure
from kvstore.backends.lmdb_pages import DamagedPageError
from tests import rot

ID = 144


@pytest.fixture
def path(store_path):
    rot.build(store_path)
    return store_path


@pytest.fixture
def regions(path):
    return rot.Regions(path.read_bytes())


def patched(path, *patches):
    data = bytearray(path.read_bytes())
    for offset, new in patches:
        data[offset : offset + len(new)] = new
    path.write_bytes(data)


def ids(path, page_size):
    data = path.read_bytes()
    return [struct.unpack_from("=Q", data, page * page_size + ID)[0] for page in (0, 1)]


def refused(path, error, reason):
    for readonly in (False, True):
        with pytest.raises(error, match=reason):
            kvstore.open(path, readonly=readonly)


@pytest.mark.parametrize("page", [0, 1])
@pytest.mark.parametrize("change", [2, -2, 1 << 40])
def test_meta_pages_of_commits_that_do_not_follow_each_other_are_refused(path, regions, page, change):
    before = ids(path, regions.page_size)
    # What stays behind by one commit, and what runs ahead by one, both follow.
    if abs(before[page] + change - before[1 - page]) == 1:
        change *= 2
    patched(path, (page * regions.page_size + ID, struct.pack("=Q", before[page] + change)))
    refused(path, StoreCorruptError, "don't follow each other")


@pytest.mark.parametrize("page", [0, 1])
def test_a_meta_page_of_a_commit_that_belongs_on_the_other_page_is_refused(path, regions, page):
    patched(path, (page * regions.page_size + ID, struct.pack("=Q", ids(path, regions.page_size)[page] ^ 1)))
    refused(path, StoreCorruptError, "commit N writes page N mod 2")


def test_a_fresh_copy_whose_other_meta_page_was_never_written_is_not(path, tmp_path):
    with kvstore.open(path) as store:
        store.backup(tmp_path / "copy.kv")
        store.compact()
    for file in (path, tmp_path / "copy.kv"):
        with kvstore.open(file) as store:
            assert store.verify().ok


@pytest.mark.parametrize(("page", "offset"), [(0, 16), (0, 20), (1, 16), (1, 20), (1, 10)])
def test_a_damaged_meta_page_is_damage_not_another_kind_of_file(path, regions, page, offset):
    patched(path, (page * regions.page_size + offset, b"\0\0"))
    refused(path, StoreCorruptError, "damaged")


def test_a_page_on_the_way_to_the_signature_is_checked_before_lmdb_follows_it(path, regions):
    root = struct.unpack_from(
        "=Q", regions.data, max((0, regions.page_size), key=lambda b: regions.data[b + ID]) + 128
    )[0]
    start = root * regions.page_size
    (lower,) = struct.unpack_from("=H", regions.data, start + 12)
    for offset, new in ((0, b"\xff"), (10, b"\x04"), (12, b"\x11\0"), (12, b"\xff\xff"), (16, b"\xff" * (lower - 16))):
        patched(path, (start + offset, new))
        refused(path, StoreCorruptError, f"page {root}")
        path.write_bytes(regions.data)


def test_a_main_database_of_another_kind_is_not_taken_for_ours(path, regions):
    for meta in (0, regions.page_size):
        patched(path, (meta + 92, b"\x04"))
    refused(path, StoreFormatError, "not of kvstore, or its meta page is damaged")


def test_a_way_that_others_change_meanwhile_is_gone_again(path, monkeypatch):
    go, tries = lmdb_structure._go, []

    def disturbed(*arguments):
        tries.append(arguments)
        if len(tries) < 3:
            store["written"] = len(tries)
            raise DamagedPageError("page 7 is used again")
        return go(*arguments)

    with kvstore.open(path, durability="none") as store:
        monkeypatch.setattr(lmdb_structure, "_go", disturbed)
        lmdb_structure.follow(str(path), b"kvstore:meta", b"format")
    assert len(tries) == 3


def test_a_key_that_a_branch_leads_away_from_is_named(path, regions):
    separator = keys.encode("small 044")
    places = [place for place in regions.of["branch"] if regions.data[place : place + len(separator)] == separator]
    if not places:
        (place, *_) = [p for p in regions.of["branch"] if regions.data[p : p + 6] == b"small "]
        places = [place - 1]
        separator = regions.data[places[0] : places[0] + 10]
    patched(path, (places[0], separator[:-1] + bytes([separator[-1] + 2])))
    with kvstore.open(path) as store:
        report = store.verify()
        missing = [key for space, key in rot.contents() if not space and store.get(key) is None]
    assert missing
    assert {problem.key for problem in report.problems if problem.kind == "key"} >= set(missing)
    assert any("a branch leads elsewhere" in problem.message for problem in report.problems)


def test_a_leaf_that_is_gone_is_told_by_the_keys_around_it(path, regions):
    places = [place for place in regions.of["key"] if regions.data[place : place + 10] == keys.encode("small 060")]
    page = places[0] // regions.page_size
    here = {
        regions.data[place + 1 : place + 10].decode()
        for place in regions.of["key"]
        if place // regions.page_size == page and regions.data[place : place + 7] == b"\x02small "
    }
    patched(path, (page * regions.page_size, bytes(regions.page_size)))
    with kvstore.open(path) as store:
        report = store.verify()
    (lost,) = [problem for problem in report.problems if problem.kind == "lost"]
    assert lost.key <= min(here)
    assert lost.until > max(here)
    # Of the others, none is named.
    assert not [problem for problem in report.problems if problem.kind in {"key", "record"}]
    assert report.records > 200


@pytest.mark.parametrize("name", [b"kvstore:structures", b"ns:n"])
def test_a_database_whose_name_is_damaged_is_reported(path, regions, name):
    (place,) = [p for p in regions.of["key"] if regions.data[p : p + len(name) + 1].startswith(name)][:1]
    patched(path, (place + len(name) - 1, bytes([name[-1] ^ 1])))
    with kvstore.open(path) as store:
        assert not store.verify().ok


def test_a_store_whose_last_long_value_is_cut_off_is_refused(store_path):
    with kvstore.open(store_path, durability="none") as store:
        store["long"] = b"x" * 20_000
        page_size = store._engine.backend._env.page_size
        store.compact()
    data = store_path.read_bytes()
    for pages in range(1, 4):
        store_path.write_bytes(data[: len(data) - pages * page_size])
        refused(store_path, StoreCorruptError, "cut off")
