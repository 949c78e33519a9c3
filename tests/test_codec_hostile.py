"""Payloads that nobody wrote: a ValueError, whatever they are, and no memory for what they only claim."""

from __future__ import annotations

import re
import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore import codec
from tests import strategies
from tests.payloads import EXTENDED_PAYLOADS, PAYLOADS, name

MALFORMED = {
    "nothing": "",
    "an unused byte": "c1",
    "trailing bytes": "c0 c0",
    "a cut-off str": "a2 61",
    "invalid UTF-8": "a1 ff",
    "a huge str": "db ff ff ff ff 61",
    "a huge bytes": "c6 ff ff ff ff 61",
    "a huge array": "dd ff ff ff ff c0",
    "a huge map": "df ff ff ff ff c0",
    "a huge extension": "c9 ff ff ff ff 01",
    "an int as a native key": "81 01 01",
    "a list as a key": "81 90 01",
    "an unknown extension": "d4 7f 00",
    "a negative extension": "d4 fe 00",
    "a marker alone": "c7 00 10",
    "a marker in second place": "92 01 c7 00 10",
    "a marker as a dict's value": "81 a1 61 c7 00 10",
    "a marker in a set": "93 c7 00 11 01 c7 00 10",
    "a marker after a marker": "92 c7 00 10 c7 00 10",
    "a marker with content": "92 d4 10 00 01",
    "a set with a member twice": "93 c7 00 11 01 01",
    "a set with an unhashable member": "92 c7 00 11 90",
    "a dict with a key twice": "95 c7 00 13 01 02 01 02",
    "a dict without its last value": "92 c7 00 13 01",
    "a dict with an unhashable key": "93 c7 00 13 90 01",
    "a fraction of one part": "92 c7 00 14 01",
    "a fraction of floats": "93 c7 00 14 01 cb 3f f0 00 00 00 00 00 00",
    "a fraction over zero": "93 c7 00 14 01 00",
    "a fraction in higher terms": "93 c7 00 14 02 04",
    "an own type without a value": "92 c7 00 15 a1 61",
    "an own type without a name": "93 c7 00 15 a0 c0",
    "an own type named by bytes": "93 c7 00 15 c4 01 61 c0",
    "a short int in the long form": "d4 01 05",
    "a long int with a superfluous byte": "c7 0a 01 00 01 00 00 00 00 00 00 00 00",
    "half a complex": "d7 03 00 00 00 00 00 00 00 00",
    "a datetime in month 13": "c7 0c 04 07 e8 0d 1d 00 00 00 00 00 00 00 00",
    "a datetime with fold 2": "c7 0c 04 07 e8 01 1d 00 00 00 00 00 00 00 02",
    "a datetime without its seconds": "d6 04 07 e8 01 1d",
    "an unknown kind of time zone": "c7 0d 04 07 e8 01 1d 00 00 00 00 00 00 00 00 78",
    "an impossible offset": "c7 15 04 07 e8 01 1d 00 00 00 00 00 00 00 00 75 7f ff ff ff ff ff ff ff",
    "an unknown time zone": "c7 11 04 07 e8 01 1d 00 00 00 00 00 00 00 00 7a 4e 6f 70 65",
    "a path as a time zone": "c7 11 04 07 e8 01 1d 00 00 00 00 00 00 00 00 7a 2e 2e 2f 78",
    "a directory as a time zone": "c7 13 04 07 e8 01 1d 00 00 00 00 00 00 00 00 7a 45 75 72 6f 70 65",
    "a date of year 0": "d6 05 00 00 01 01",
    "a timedelta of too many days": "c7 0c 07 7f ff ff ff 00 00 00 00 00 00 00 00",
    "a timedelta of too many seconds": "c7 0c 07 00 00 00 00 00 01 51 80 00 00 00 00",
    "no decimal": "d4 08 78",
    "a decimal with an underscore": "c7 03 08 31 5f 30",
    "a decimal with a space": "d5 08 31 20",
    "a decimal that is no UTF-8": "d4 08 ff",
    "a UUID of 15 bytes": "c7 0f 09" + "00" * 15,
    "a UUID of unknown safety": "c7 11 09" + "00" * 16 + "02",
}


ANY = re.compile(".", re.DOTALL)
"""An error without a message helps nobody."""


@pytest.mark.parametrize("payload", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_payload_is_refused(payload):
    for decode in (codec.decode, codec.decode_opaque):
        for extended in (False, True):
            with pytest.raises(ValueError, match=ANY):
                decode(bytes.fromhex(payload), extended)


@pytest.mark.parametrize("payload", EXTENDED_PAYLOADS, ids=map(name, EXTENDED_PAYLOADS.values()))
def test_an_extension_in_a_plain_payload_is_refused(payload):
    with pytest.raises(ValueError, match="not marked as extended"):
        codec.decode(bytes.fromhex(payload), extended=False)


def decode_or_refuse(payload, extended):
    """Decode what may be anything: a value of the model, or a ValueError."""
    try:
        value = codec.decode_opaque(payload, extended)
    except ValueError:
        return
    strategies.fingerprint(value)


@given(st.binary(max_size=60), st.booleans())
def test_random_bytes_are_refused_or_a_value_of_the_model(payload, extended):
    decode_or_refuse(payload, extended)


@given(
    st.lists(st.sampled_from(sorted({*EXTENDED_PAYLOADS, *PAYLOADS, "93", "92", "81", "c7 00 13"})), max_size=9),
    st.booleans(),
)
def test_pieces_of_payloads_are_refused_or_a_value_of_the_model(pieces, extended):
    decode_or_refuse(bytes.fromhex("".join(pieces)), extended)


@given(strategies.values(), st.data())
def test_a_damaged_payload_is_refused_or_a_value_of_the_model(value, data):
    payload, extended = codec.encode(value)
    damaged = bytearray(payload)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    decode_or_refuse(bytes(damaged), extended)
    decode_or_refuse(payload, not extended)


@given(strategies.values())
def test_a_truncated_or_lengthened_payload_is_refused(value):
    payload, extended = codec.encode(value)
    for wrong in (*(payload[:length] for length in range(len(payload))), payload + b"\xc0"):
        with pytest.raises(ValueError, match=ANY):
            codec.decode(wrong, extended)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("head", ["91", "81a161", "92c70010", "92c70012", "93c7001301", "93c70015a161", "d90161"])
def test_a_payload_nested_too_deeply_is_refused(head, extended):
    with pytest.raises(ValueError, match=ANY):
        codec.decode(bytes.fromhex(head) * 100_000 + b"\xc0", extended)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize(
    ("size", "most"), [(1_000, 2_000_000), (16_000, 150_000_000), (17_000, 2_000_000), (1_000_000, 8_000_000)]
)
def test_declared_lengths_take_a_bounded_memory(size, most, extended):
    array = b"\xdd" + (size - 100).to_bytes(4, "big")
    payload = (array * 1_000)[: size // 2].ljust(size, b"\xc0")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=ANY):
            codec.decode(payload, extended)
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def test_a_foreign_timestamp_reads_as_a_float():
    for extended in (False, True):
        assert codec.decode(msgpack.packb(msgpack.Timestamp(1, 500_000_000)), extended) == 1.5
