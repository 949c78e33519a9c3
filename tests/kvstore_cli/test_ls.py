"""kvstore ls"""

from __future__ import annotations

import pytest

import kvstore
from kvstore.dump import DumpRecord

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


def columns(lines):
    """Size, end and key of each line that ls --long shows."""
    return [tuple(line.split(maxsplit=2)) for line in lines]


def test_long_shows_what_each_record_takes_and_when_it_expires(run, filled):
    lines = run("ls", "--long", filled).lines
    shown = columns(lines)
    assert [key for _, _, key in shown] == ALL
    assert {end for _, end, _ in shown} == {"-"}
    sizes = {key: int(size) for size, _, key in shown}
    assert sizes['"a"'] == 1 + 1 + 8
    assert sizes['"name"'] == 1 + 4 + 8
    assert run("ls", "-l", filled, "--prefix", "a").lines == [lines[0]]


def test_ends_are_shown_in_utc(run, store_path):
    with kvstore.open(store_path) as store:
        store.import_records(
            DumpRecord("", key, 1, end)
            for key, end in (("a", 4_102_444_799_999), ("b", 4_102_444_800_000), ("c", 2**62), ("d", None))
        )
    assert [end for _, end, _ in columns(run("ls", "-l", store_path).lines[:2])] == [
        "2099-12-31T23:59:59Z",
        "2100-01-01T00:00:00Z",
    ]
    assert run("ls", "-l", store_path).lines[2].split(maxsplit=1)[1] == 'after 9999            "c"'
    assert columns(run("ls", "-l", store_path).lines)[3][1:] == ("-", '"d"')


def test_what_has_expired_is_not_listed(run, store_path):
    with kvstore.open(store_path, clock=lambda: 1_000_000_000.0) as store:
        store.set("over", 1, ttl=5)
        store["stays"] = 1
    assert run("ls", store_path).lines == ['"stays"']
    assert len(run("ls", "-l", store_path).lines) == 1


def test_a_namespace_is_listed_by_its_name(run, fails, spaced):
    assert run("ls", spaced).lines == ['"a"']
    assert run("ls", "-n", "n", spaced).lines == ['"a"', '"b"', "5"]
    assert run("ls", spaced, "--namespace", "é m", "--long").lines[0].endswith('"a"')
    assert run("ls", "-n", "n", spaced, "--prefix", "b").lines == ['"b"']
    assert fails("ls", "-n", "typo", spaced) == 'no such namespace: "typo"'
    assert "kvstore:" in fails("get", "-n", "kvstore:expiry", spaced, "a")


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


def test_lists_and_sets_are_listed_on_their_own(run, fails, store_path):
    with kvstore.open(store_path) as store:
        store["a"] = 1
        store.list("history").extend(range(12))
        store.set_of(("tags", 1)).add("x")
        store.namespace("n").list("only here").append(1)
    lines = run("ls", store_path, "--structures").lines
    assert [line.split(maxsplit=2) for line in lines] == [["list", "12", '"history"'], ["set", "1", '["tags",1]']]
    assert run("ls", store_path).lines == run("ls", store_path, "--long").lines[0].split()[-1:] == ['"a"']
    assert len(run("ls", store_path, "-n", "n", "--structures").lines) == 1
    for other in (["--long"], ["--prefix", "a"]):
        assert "--structures" in fails("ls", store_path, "--structures", *other, code=2)
