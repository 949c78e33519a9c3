"""What the reader of keys and values refuses: everything that the writer does not make."""

from __future__ import annotations

import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore import dump
from kvstore.dump_json import dumps
from kvstore.dump_parse import MAX_NESTING, load_key, loads
from kvstore.errors import InvalidKeyError
from tests import strategies
from tests.dump_samples import values

REFUSED = {
    "nothing": "",
    "not JSON": "Ada",
    "Python, not JSON": "{'a': 1}",
    "two values": "1 2",
    "a trailing comma": "[1,]",
    "an open array": "[1",
    "an open string": '"a',
    "a control character in a string": '"\t"',
    "a byte order mark": "\ufeff1",
    "NaN": "NaN",
    "Infinity": "[Infinity]",
    "-Infinity": '{"a":-Infinity}',
    "a float beyond floats": "1e999",
    "a negative float beyond floats": "[-1e999]",
    "an int of more digits than Python converts": "9" * 5000,
    "a field twice": '{"a":1,"a":2}',
    "a tag twice": '{"$int":"0x10000000000000000","$int":"0x10000000000000000"}',
    "a tag of no version": '{"$date2":1}',
    "a tag kept for numpy": '{"$ndarray":""}',
    "a tag after a field": '{"a":1,"$int":"0x10000000000000000"}',
    "a field too many": '{"$tuple":[],"a":1}',
    "a field too many in a scalar": '{"$bytes":"","a":1}',
    "two tags": '{"$tuple":[],"$set":[]}',
    "a small int with a tag": '{"$int":"0x5"}',
    "an int with a leading zero": '{"$int":"0x010000000000000000"}',
    "an int with underscores": '{"$int":"0x1_0000_0000_0000_0000"}',
    "an int in decimal": '{"$int":"36893488147419103232"}',
    "an int in capitals": '{"$int":"0XFFFFFFFFFFFFFFFFFF"}',
    "an int that is a number": '{"$int":1}',
    "a finite float with a tag": '{"$float":"1.0"}',
    "a NaN in capitals": '{"$float":"NaN"}',
    "the usual NaN in bits": '{"$float":"7ff8000000000000"}',
    "a finite float in bits": '{"$float":"3ff0000000000000"}',
    "an infinity in bits": '{"$float":"7ff0000000000000"}',
    "a float in too few bits": '{"$float":"7ff8"}',
    "a float that is an array": '{"$float":["nan"]}',
    "a complex of ints": '{"$complex":[1,2]}',
    "a complex of one part": '{"$complex":[1.0]}',
    "base64 without its padding": '{"$bytes":"AAE"}',
    "base64 with a line end": '{"$bytes":"AAE=\\n"}',
    "base64 with stray bits": '{"$bytes":"AAF="}',
    "base64 of another alphabet": '{"$bytes":"_-8="}',
    "base64 that is no text": '{"$bytes":[65,65]}',
    "base64 beyond ASCII": '{"$bytes":"é"}',
    "a decimal in other words": '{"$decimal":"1e5"}',
    "a decimal with spaces": '{"$decimal":" 1"}',
    "a decimal in other digits": '{"$decimal":"\u0661"}',
    "a decimal that is none": '{"$decimal":"x"}',
    "a decimal that is a number": '{"$decimal":1}',
    "a fraction not in lowest terms": '{"$fraction":[2,4]}',
    "a fraction by zero": '{"$fraction":[1,0]}',
    "a fraction of floats": '{"$fraction":[1.0,2.0]}',
    "a fraction of three": '{"$fraction":[1,2,3]}',
    "a tuple of an object": '{"$tuple":{}}',
    "a tuple of a tuple": '{"$tuple":{"$tuple":[]}}',
    "a set with a list in it": '{"$set":[[]]}',
    "a set with an element twice": '{"$set":[1,1.0]}',
    "a frozenset of a text": '{"$frozenset":"ab"}',
    "a dict of no pairs": '{"$dict":[1]}',
    "a dict of triples": '{"$dict":[[1,2,3]]}',
    "a dict with a list as key": '{"$dict":[[[],1]]}',
    "a dict with a key twice": '{"$dict":[[1,2],[true,3]]}',
    "a date in other words": '{"$date":"20240501"}',
    "a date that is none": '{"$date":"2024-02-30"}',
    "a time of day as date": '{"$date":"12:00:00"}',
    "a moment in other words": '{"$datetime":"2024-05-01 12:00:00"}',
    "a moment in Z": '{"$datetime":"2024-05-01T12:00:00Z"}',
    "a moment that is a number": '{"$datetime":1714564800}',
    "a fold that says nothing": '{"$datetime":"2024-05-01T12:00:00","fold":0}',
    "a fold of 2": '{"$datetime":"2024-05-01T12:00:00","fold":2}',
    "a fold that is true": '{"$datetime":"2024-05-01T12:00:00","fold":true}',
    "a zone and an offset": '{"$datetime":"2024-05-01T12:00:00+02:00","zone":"Europe/Berlin"}',
    "a zone and a name": '{"$datetime":"2024-05-01T12:00:00","zone":"Europe/Berlin","name":"CEST"}',
    "a zone that is unknown": '{"$datetime":"2024-05-01T12:00:00","zone":"Europe/Atlantis"}',
    "a zone that is a path": '{"$datetime":"2024-05-01T12:00:00","zone":"../../../etc/passwd"}',
    "a zone that is a directory": '{"$datetime":"2024-05-01T12:00:00","zone":"Europe"}',
    "a zone that is a number": '{"$time":"12:00:00","zone":1}',
    "a zone that is null": '{"$time":"12:00:00","zone":null}',
    "a zone with a NUL": '{"$time":"12:00:00","zone":"a\\u0000"}',
    "a name without an offset": '{"$time":"12:00:00","name":"x"}',
    "fields in another order": '{"$datetime":"2024-05-01T12:00:00","fold":1,"zone":"Europe/Berlin"}',
    "a duration that is not normal": '{"$timedelta":[0,86400,0]}',
    "a duration of floats": '{"$timedelta":[0.5,0,0]}',
    "a duration of two": '{"$timedelta":[1,2]}',
    "a duration beyond the longest": '{"$timedelta":[1000000000,0,0]}',
    "a uuid in other words": '{"$uuid":"12345678123456781234567812345678"}',
    "a uuid that is none": '{"$uuid":"x"}',
    "a uuid of unknown safety": '{"$uuid":"12345678-1234-5678-1234-567812345678","is_safe":"unknown"}',
    "a uuid of no safety": '{"$uuid":"12345678-1234-5678-1234-567812345678","is_safe":"__class__"}',
    "an own type without a value": '{"$type":"point"}',
    "an own type of a number": '{"$type":5,"value":1}',
    "an own type back to front": '{"value":1,"$type":"point"}',
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_is_refused(text):
    with pytest.raises(ValueError) as caught:
        loads(text)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [*REFUSED.values()][1:], ids=[*REFUSED][1:])
def test_is_refused_at_any_depth(text):
    """The deeper part of the reader is another one than the shallower."""
    depth = MAX_NESTING - 10
    with pytest.raises(ValueError):
        loads("[" * depth + text + "]" * depth)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        "[" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"$tuple":[' * 100_000 + "]}" * 100_000,
        "[" * 50_000 + '"' + '\\"' * 100_000,
        "[" * 1_000 + '"' + '\\"' * 100_000,
        "[" * 1_000 + "]" * 999,
        "[" * 1_000 + "]" * 1_001,
        "[" * 1_000 + "}" * 1_000,
        "[" * 1_000 + "NaN" + "]" * 1_000,
        "]" * 100_000,
    ],
    ids=lambda text: text[:12],
)
def test_any_depth_of_brackets_is_refused(text):
    with pytest.raises(ValueError):
        loads(text)


def test_a_deep_text_means_what_a_shallow_one_means():
    inner = {"NaN": ["]", '"', "\\", "[{", {"a": -0.0}, True, None], "$": (1, [2])}
    depth = 1_000
    value = loads("[" * depth + dumps(inner) + "]" * depth)
    for _ in range(depth):
        (value,) = value
    assert strategies.same(value, inner)


@given(values(), st.data())
def test_no_text_but_a_value_s_own_is_read_as_something_else(value, data):
    """One character changed: refused, or another value, and never one that is the same in another form."""
    text = dumps(value)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from('0123456789abcdefx"[]{}:,.-+$\\ zZ=\u0663'))
    changed = text[:place] + other + text[place + 1 :]
    try:
        read = loads(changed)
    except ValueError:
        return
    assert strategies.same(loads(dumps(read)), read)


@given(st.text() | st.text('{}[]",:$0123456789.eE-+truefalsnbyi \\').map(lambda text: "[" + text))
def test_no_text_raises_anything_but_a_value_error(text):
    try:
        value = loads(text)
    except ValueError:
        return
    dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        "1.5",
        "true",
        "null",
        "{}",
        '{"a":1}',
        '["a",[null]]',
        '{"$tuple":["a"]}',
        '{"$bytearray":""}',
        "[[1.0]]",
    ],
)
def test_what_is_no_key_is_refused_as_one(text):
    with pytest.raises(InvalidKeyError):
        load_key(text)


def test_a_key_that_is_too_long_or_too_deep_is_refused():
    for text in (f'"{"a" * 600}"', "[" * 600 + "]" * 600, f'{{"$int":"0x1{"0" * 600}"}}'):
        with pytest.raises(InvalidKeyError):
            load_key(text)


def test_a_zone_that_this_machine_lacks_is_named(monkeypatch):
    def unknown(key):
        raise zoneinfo.ZoneInfoNotFoundError(f"No time zone found with key {key}")

    monkeypatch.setattr(zoneinfo, "ZoneInfo", unknown)
    with pytest.raises(ValueError, match="Mars/Olympus"):
        dump.loads('{"$time":"12:00:00","zone":"Mars/Olympus"}')
