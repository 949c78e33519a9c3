"""The text form of values and keys: what it looks like, and that nothing is lost by it."""

from __future__ import annotations

import decimal
import json
import os
import struct
import subprocess
import sys
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvstore import codec, dump
from kvstore.dump_json import dump_key, dumps, escape
from kvstore.errors import UnstorableValueError
from tests import strategies
from tests.dump_samples import FORMS, values


@pytest.mark.parametrize(("value", "text"), FORMS, ids=[text[:40] for _, text in FORMS])
def test_each_type_has_its_form(value, text):
    assert dumps(value) == text
    assert strategies.same(dump.loads(text), value)


@given(values())
@example([-float("nan"), float("nan")])
def test_every_value_comes_back_the_same(value):
    assert strategies.same(dump.loads(dumps(value)), value)


@given(values())
def test_the_form_is_json_on_one_line_with_nothing_that_a_terminal_obeys(value):
    text = dumps(value)
    json.loads(text, parse_constant=pytest.fail)
    assert escape(text) == text
    assert "\n" not in text


@given(values())
def test_what_is_plain_is_what_json_itself_would_read(value):
    text = dumps(value)
    if "$" not in text:
        assert strategies.same(json.loads(text), value)


@given(strategies.keys())
def test_every_key_comes_back_the_same(key):
    assert strategies.same(dump.load_key(dump_key(key)), key)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("a", '"a"'),
        ("5", '"5"'),
        (5, "5"),
        (b"\x00", '{"$bytes":"AA=="}'),
        (("a", 5, (b"",)), '["a",5,[{"$bytes":""}]]'),
        ((), "[]"),
        (-(2**70), '{"$int":"-0x400000000000000000"}'),
    ],
)
def test_a_tuple_as_key_is_a_plain_array(key, text):
    assert dump_key(key) == text
    assert strategies.same(dump.load_key(text), key)


def nested(depth, wrap):
    value = wrap(None)
    for _ in range(depth - 1):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: [inner],
        lambda inner: (inner,),
        lambda inner: {"a": inner},
        lambda inner: {1: inner},
        lambda inner: frozenset([inner]),
        lambda inner: {(): inner, "a": [True]},
        lambda inner: codec.Opaque("own", inner),
    ],
    ids=["list", "tuple", "dict", "tagged dict", "frozenset", "mixed", "own type"],
)
@pytest.mark.parametrize("stack", [0, 700])
def test_the_deepest_storable_value_is_written_and_read_from_any_depth_of_the_stack(wrap, stack):
    value = nested(codec.MAX_DEPTH - 1, wrap)

    def below(frames):
        return below(frames - 1) if frames else dump.loads(dumps(value))

    assert codec.encode(below(stack)) == codec.encode(value)


def test_the_deepest_key_is_written_and_read():
    key = nested(255, lambda inner: () if inner is None else (inner,))
    assert dump.load_key(dump_key(key)) == key


def test_an_int_of_any_size_is_written_in_time_and_despite_the_limit_on_digits():
    value = 1 << 1_000_000
    assert strategies.same(dump.loads(dumps({"n": [value]})), {"n": [value]})


def test_a_set_is_written_alike_under_every_hash_seed():
    program = "from kvstore.dump import dumps; print(dumps([set('abcdefgh'), {frozenset('xyz'), 'a', b'a', 1.5}]))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(printed) == 1


def test_a_decimal_is_written_alike_in_every_context():
    with decimal.localcontext(prec=1, capitals=0):
        assert dumps(Decimal("1.23E+50")) == '{"$decimal":"1.23E+50"}'
        assert dump.loads('{"$decimal":"1.23E+50"}') == Decimal("1.23E+50")


@pytest.mark.parametrize("value", [object(), [object()], {"a": {1}.__iter__()}, {(1, object()): 1}])
def test_what_is_no_storable_value_is_refused(value):
    with pytest.raises(UnstorableValueError, match="no form in a dump"):
        dumps(value)


@given(st.text())
def test_escape_leaves_nothing_that_is_invisible_or_obeyed(text):
    escaped = escape(text)
    assert escape(escaped) == escaped
    for character in escaped:
        assert not 0x00 <= ord(character) < 0x20
        assert not 0x7F <= ord(character) < 0xA0
        assert not 0xD800 <= ord(character) < 0xE000
        assert character not in "\u061c\u200b\u200d\u200e\u200f\u202a\u202e\u2066\u2069\ufeff"


@given(strategies.texts())
def test_escape_leaves_json_its_meaning(text):
    raw = json.dumps(text, ensure_ascii=False)
    assert json.loads(escape(raw)) == text


def test_nan_bits_survive_in_a_list_of_floats():
    (odd,) = struct.unpack(">d", bytes.fromhex("7ff8000000000001"))
    assert dumps([1.5, odd]) == '[1.5,{"$float":"7ff8000000000001"}]'
