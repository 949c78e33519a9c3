"""kvstore ls"""

from __future__ import annotations

import pytest

import kvstore

ALL = ['"a"', '"b/1"', '"b/2"', '"name"', "5", '["u",5]']


def test_keys_are_listed_in_order_as_json(run, filled):
    assert run("ls", filled).lines == ALL


def test_what_is_listed_is_what_json_keys_take(run, filled):
    for key in run("ls", filled).lines:
        assert run("get", "-j", filled, key).code == 0


def test_an_empty_store_has_nothing_to_list(run, store_path):
    kvstore.open(store_path).close()
    assert run("ls", store_path) == (0, b"", "")


def test_a_prefix_is_a_text_or_with_json_keys_any_key(run, filled):
    assert run("ls", filled, "--prefix", "b/").lines == ['"b/1"', '"b/2"']
    assert run("ls", filled, "--prefix", "5").lines == []
    assert run("ls", filled, "--prefix", '"b/"', "-j").lines == ['"b/1"', '"b/2"']
    assert run("ls", filled, "--prefix", '["u"]', "-j").lines == ['["u",5]']


@pytest.mark.parametrize("prefix", ["5", "1.5", "b", "{}", ""])
def test_a_prefix_that_is_none_is_a_wrong_call(fails, filled, prefix):
    assert "--prefix" in fails("ls", filled, "-j", "--prefix", prefix, code=2)


def test_long_shows_what_each_record_takes(run, filled):
    lines = run("ls", "--long", filled).lines
    assert [line.split(maxsplit=1)[1] for line in lines] == ALL
    sizes = {key: int(size) for size, key in (line.split(maxsplit=1) for line in lines)}
    assert sizes['"a"'] == 1 + 1 + 8
    assert sizes['"name"'] == 1 + 4 + 8
    assert run("ls", "-l", filled, "--prefix", "a").lines == [lines[0]]


def test_no_character_is_shown_that_a_terminal_obeys(run, store_path):
    with kvstore.open(store_path) as store:
        store["\x1b[2J\x9b\u202e\n\x7f"] = 1
    for long in ([], ["--long"]):
        text = run("ls", store_path, *long).out.decode()
        assert '"\\u001b[2J\\u009b\\u202e\\n\\u007f"' in text
        assert text.rstrip("\n").isprintable()


def test_types_that_are_not_registered_are_no_obstacle(run, store_path):
    run("set", store_path, "own", '{"$type":"nobody knows","value":[1]}')
    assert run("ls", store_path, "--long").lines[0].endswith('"own"')
