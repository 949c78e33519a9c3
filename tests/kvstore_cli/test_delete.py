"""kvstore del"""

from __future__ import annotations

import kvstore


def keys(path):
    with kvstore.open(path, readonly=True) as store:
        return list(store)


def test_keys_are_removed(run, filled):
    assert run("del", filled, "a", "b/1") == (0, b"", "")
    assert keys(filled) == ["b/2", "name", 5, ("u", 5)]


def test_any_key_can_be_given_as_json(run, filled):
    assert run("del", "-j", filled, "5", '["u",5]', '"a"').code == 0
    assert keys(filled) == ["b/1", "b/2", "name"]


def test_a_key_that_is_not_there_is_an_error_and_the_others_are_removed(fails, filled):
    assert fails("del", filled, "a", "none", "5", "name") == 'no such key: "none", "5"'
    assert keys(filled) == ["b/1", "b/2", 5, ("u", 5)]


def test_a_wrong_key_removes_nothing(fails, filled):
    fails("del", "-j", filled, '"a"', "1.5", code=2)
    fails("del", filled, "a", "--force", code=2)
    assert len(keys(filled)) == 6


def test_a_store_that_is_not_there_is_not_made(fails, store_path):
    assert "no such store" in fails("del", store_path, "a")
    assert not store_path.exists()


def test_keys_are_removed_from_a_namespace(run, fails, spaced):
    assert run("del", "-n", "n", spaced, "a").code == 0
    assert fails("del", "-n", "n", spaced, "a", "b", "c") == 'no such key in namespace "n": "a", "c"'
    with kvstore.open(spaced, readonly=True) as store:
        assert dict(store) == {"a": "default"}
        assert dict(store.namespace("n")) == {5: "int"}
