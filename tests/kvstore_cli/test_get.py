"""kvstore get"""

from __future__ import annotations

import os
import pty
from subprocess import PIPE

import pytest

import kvstore


@pytest.mark.parametrize(
    ("key", "shown"),
    [("a", "1"), ("name", '"Ada"'), ("b/1", "[1.5,null]"), ("b/2", '{"$bytes":"AP8="}')],
)
def test_a_word_is_a_str_and_its_value_is_shown_as_json(run, filled, key, shown):
    assert run("get", filled, key) == (0, f"{shown}\n".encode(), "")


@pytest.mark.parametrize(("key", "shown"), [('"a"', "1"), ("5", '"int"'), ('[ "u", 5 ]', '{"$tuple":[1]}')])
def test_any_key_can_be_given_as_json(run, filled, key, shown):
    assert run("get", "-j", filled, key).lines == [shown]
    assert run("get", filled, key, "--json-key").lines == [shown]


def test_a_key_may_begin_with_a_dash(run, store_path):
    with kvstore.open(store_path) as store:
        store.set_many({"-j": 1, "--help": 2, -5: 3})
    assert run("get", store_path, "--", "-j").lines == ["1"]
    assert run("get", store_path, "--", "--help").lines == ["2"]
    assert run("get", "-j", store_path, "--", "-5").lines == ["3"]


def test_a_key_that_is_not_there_is_an_error(fails, filled):
    assert fails("get", filled, "none") == 'no such key: "none"'
    assert fails("get", filled, "b/") == 'no such key: "b/"'
    assert fails("get", filled, "5") == 'no such key: "5"'
    assert fails("get", filled, "-j", "6") == "no such key: 6"
    assert fails("get", filled, "-j", '["u"]') == 'no such key: ["u"]'
    assert fails("get", filled, "\x1b") == 'no such key: "\\u001b"'


@pytest.mark.parametrize("key", ["a", "1.5", "[true]", '{"$set":[]}', '"' + "x" * 600 + '"', "[" * 100_000])
def test_json_that_is_no_key_is_a_wrong_call(fails, filled, key):
    assert "KEY" in fails("get", "-j", filled, key, code=2)


def test_a_word_too_long_for_a_key_is_not_there(fails, filled):
    assert fails("get", filled, "x" * 600) == f'no such key: "{"x" * 600}"'


def test_a_type_that_is_not_registered_is_shown_by_its_name(run, store_path):
    text = '{"a":{"$type":"nobody knows","value":{"$tuple":[1,2]}}}'
    assert run("set", store_path, "own", text).code == 0
    assert run("get", store_path, "own").lines == [text]


def test_nothing_that_a_terminal_obeys_is_shown(run, store_path):
    with kvstore.open(store_path) as store:
        store["a"] = {"\x9b": ["\x1b]0;x\x07", "\u2066", "\n"]}
    assert run("get", store_path, "a").lines == ['{"\\u009b":["\\u001b]0;x\\u0007","\\u2066","\\n"]}']


def test_raw_writes_text_and_bytes_as_they_are(run, store_path):
    with kvstore.open(store_path) as store:
        store.set_many({"s": "é\n\x1b", "b": bytes(range(256)), "a": bytearray(b"\x00"), "n": 5})
    assert run("get", "--raw", store_path, "s").out == "é\n\x1b".encode()
    assert run("get", "--raw", store_path, "b").out == bytes(range(256))
    assert run("get", "--raw", store_path, "a").out == b"\x00"


def test_raw_is_for_nothing_else(fails, filled):
    assert "--raw" in fails("get", "--raw", filled, "a")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("harmless\n", True),
        ("é", True),
        ("\x1b[2J", False),
        ("a\rb", False),
        ("\u202e", False),
        ("\x9b2J", False),
        (b"\xff", False),
    ],
)
def test_raw_on_a_terminal_writes_nothing_that_it_would_obey(start, store_path, value, shown):
    with kvstore.open(store_path) as store:
        store["a"] = value
    ours, theirs = pty.openpty()
    process = start("get", "--raw", store_path, "a", stdout=theirs, stderr=PIPE)
    os.close(theirs)
    error = process.stderr.read()
    try:
        got = os.read(ours, 1000)
    except OSError:  # Linux's way to say that nothing came
        got = b""
    os.close(ours)
    assert process.wait() == (0 if shown else 1)
    assert got == (value.replace("\n", "\r\n").encode() if shown else b"")
    assert (b"terminal" in error) is not shown


def test_a_namespace_has_keys_of_its_own(run, fails, spaced):
    assert run("get", spaced, "a").lines == ['"default"']
    assert run("get", spaced, "a", "-n", "n").lines == ["[1]"]
    assert run("get", "--namespace", "é m", "--raw", spaced, "a").out == "é".encode()
    assert run("get", "-j", "-n", "n", spaced, "5").lines == ['"int"']
    assert fails("get", spaced, "b") == 'no such key: "b"'
    assert fails("get", spaced, "c", "-n", "n") == 'no such key in namespace "n": "c"'
    assert fails("get", spaced, "a", "-n", "typo") == 'no such key in namespace "typo": "a"'


def test_how_long_it_lasts_is_shown_when_asked_for(run, fails, spaced):
    assert run("get", "--ttl", spaced, "a").lines == ["null"]
    (left,) = run("get", "--ttl", spaced, "b", "-n", "n").lines
    assert 900_000 < float(left) <= 1_000_000
    assert fails("get", "--ttl", spaced, "b") == 'no such key: "b"'


def test_what_has_expired_is_not_there(fails, store_path):
    with kvstore.open(store_path, clock=lambda: 1_000_000_000.0) as store:
        store.set("over", 1, ttl=5)
    assert fails("get", store_path, "over") == 'no such key: "over"'
    assert fails("del", store_path, "over") == 'no such key: "over"'
