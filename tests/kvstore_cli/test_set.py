"""kvstore set"""

from __future__ import annotations

import pytest

import kvstore
from tests import strategies
from tests.dump_samples import FORMS


def stored(path, key="a"):
    with kvstore.open(path, readonly=True) as store:
        return store[key]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("-1.5e3", -1500.0),
        ('"text"', "text"),
        ("null", None),
        ('{"a": [1, 2.0]}', {"a": [1, 2.0]}),
        ('{"$tuple": [1, {"$bytes": "AAE="}]}', (1, b"\x00\x01")),
    ],
)
def test_a_value_is_json(run, store_path, text, value):
    assert run("set", store_path, "a", text) == (0, b"", "")
    assert strategies.same(stored(store_path), value)


@pytest.mark.parametrize("text", [text for _, text in FORMS], ids=lambda text: text[:30])
def test_what_get_shows_set_takes(run, store_path, text):
    assert run("set", store_path, "a", text).code == 0
    assert run("get", store_path, "a").out.decode() == text + "\n"


def test_a_value_may_come_from_standard_input(run, store_path):
    assert run("set", store_path, "a", "-", stdin=b' {"x": "\xc3\xa9"}\n').code == 0
    assert stored(store_path) == {"x": "é"}


def test_text_is_stored_as_it_is_when_asked_for(run, store_path):
    run("set", store_path, "--string", "a", "null")
    assert stored(store_path) == "null"
    run("set", store_path, "a", "--string", "--", "--bytes")
    assert stored(store_path) == "--bytes"
    run("set", "--string", store_path, "a", "-", stdin="é\n".encode())
    assert stored(store_path) == "é\n"


def test_bytes_are_stored_as_they_are_when_asked_for(run, store_path):
    run("set", "--bytes", store_path, "a", "é")
    assert stored(store_path) == "é".encode()
    run("set", "--bytes", store_path, "a", "-", stdin=bytes(range(256)))
    assert stored(store_path) == bytes(range(256))


@pytest.mark.parametrize(("key", "stored_key"), [("5", 5), ('"5"', "5"), ('["u",[1]]', ("u", (1,)))])
def test_a_key_may_be_json(run, store_path, key, stored_key):
    assert run("set", "-j", store_path, key, "1").code == 0
    assert stored(store_path, stored_key) == 1


@pytest.mark.parametrize("text", ["Ada", "", "{", "NaN", "1 2", "'a'", "1e999", "9" * 5000, '{"$x":1}', "[" * 100_000])
def test_what_is_no_json_is_a_wrong_call_and_makes_no_store(fails, store_path, text):
    assert "--string" in fails("set", store_path, "a", text, code=2)
    assert not store_path.exists()


def test_text_that_is_not_utf_8_is_a_wrong_call(fails, store_path):
    for form in ([], ["--string"]):
        assert "VALUE" in fails("set", *form, store_path, "a", "-", stdin=b"\xff", code=2)
    assert "VALUE" in fails("set", "--string", store_path, "a", "\udcff", code=2)


@pytest.mark.parametrize("arguments", [("--frob",), ("--str", "x"), ("5",), ("--string", "--bytes", "more")])
def test_an_option_that_does_not_exist_is_a_wrong_call(fails, store_path, arguments):
    fails("set", store_path, "a", "1", *arguments, code=2)
    assert not store_path.exists()


def test_a_value_that_no_store_holds_is_an_error(fails, store_path):
    assert "deep" in fails("set", store_path, "a", "[" * 300 + "]" * 300)
    assert "surrogate" in fails("set", store_path, "a", '"\\ud800"')


def test_a_key_that_no_store_holds_is_an_error(fails, store_path):
    assert "511" in fails("set", store_path, "x" * 600, "1")
    assert "surrogate" in fails("set", store_path, "\udcff", "1")


def test_a_value_may_go_into_a_namespace(run, store_path):
    assert run("set", store_path, "a", "1", "-n", "n").code == 0
    assert run("set", "--namespace", "n", "-j", store_path, "5", "2").code == 0
    with kvstore.open(store_path, readonly=True) as store:
        assert dict(store) == {}
        assert dict(store.namespace("n")) == {"a": 1, 5: 2}


def test_a_record_may_expire(run, store_path):
    assert run("set", store_path, "a", "1", "--ttl", "1000").code == 0
    assert run("set", "--ttl", "0.5", "-n", "n", store_path, "a", "1").code == 0
    with kvstore.open(store_path, readonly=True) as store:
        assert 900 < store.ttl("a") <= 1_000
        assert store.namespace("n").get("a") in (1, None)
    assert run("set", store_path, "a", "2").code == 0
    with kvstore.open(store_path, readonly=True) as store:
        assert store.ttl("a") is None


@pytest.mark.parametrize("ttl", ["0", "-1", "nan", "inf", "1e30", "soon", ""])
def test_a_ttl_without_sense_is_a_wrong_call_and_makes_no_store(fails, store_path, ttl):
    assert "--ttl" in fails("set", store_path, "a", "1", f"--ttl={ttl}", code=2)
    assert not store_path.exists()
