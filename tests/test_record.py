"""One stored record: every damage is noticed, and so is a record in another's place."""

from __future__ import annotations

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from kvstore import codec, record
from tests import strategies

BINDING = b"namespace\x02key"
SIZES = (1, 2, 100, 8_190, 8_191, 8_192, 8_193, 65_536, 300_000)

expiries = st.none() | st.integers(0, 2**64 - 1)

WAYS_TO_READ = (
    record.unpack,
    record.load,
    lambda binding, raw: record.load_live(binding, raw, lambda: 0.0, None),
)
"""Each checks by itself, for the calls that it spares."""


def seal(body, binding=BINDING):
    """A record with a right checksum over any content."""
    return body + xxhash.xxh3_64_digest(binding + body[1:], seed=body[0])


@pytest.mark.parametrize(
    ("extended", "expires", "head"),
    [
        (False, None, "10"),
        (True, None, "12"),
        (False, 1, "11 00 00 00 00 00 00 00 01"),
        (True, 2**64 - 1, "13 ff ff ff ff ff ff ff ff"),
    ],
)
def test_a_record_is_header_expiry_payload_and_checksum(extended, expires, head):
    assert record.pack(BINDING, b"payload", extended, expires) == seal(bytes.fromhex(head) + b"payload")


def test_the_checksum_is_xxh3_64_big_endian_and_seeded_by_the_header():
    checksum = xxhash.xxh3_64_intdigest(b"\x02a" + b"\xc0", seed=0x10)
    assert record.pack(b"\x02a", b"\xc0", False, None) == b"\x10\xc0" + checksum.to_bytes(8, "big")


@given(st.binary(), strategies.values())
def test_a_value_is_dumped_as_it_is_encoded_and_packed(binding, value):
    raw, payload, extended = record.dump(binding, value)
    assert (payload, extended) == codec.encode(value)
    assert raw == record.pack(binding, payload, extended, None)


@pytest.mark.parametrize("size", SIZES)
def test_a_value_of_any_size_is_dumped_as_it_is_encoded_and_packed(size):
    for value in ("x" * size, [1] * size, 2 ** (8 * min(size, 300)), ["x" * size, {"a": None}]):
        raw, payload, extended = record.dump(BINDING, value)
        assert (payload, extended) == codec.encode(value)
        assert raw == record.pack(BINDING, payload, extended, None)


@given(st.binary(), st.binary(min_size=1), st.booleans(), expiries)
def test_a_record_comes_back_as_it_was(binding, payload, extended, expires):
    raw = record.pack(binding, payload, extended, expires)
    assert record.unpack(binding, raw) == (payload, extended, expires)
    assert record.unpack(binding, memoryview(raw)) == (payload, extended, expires)
    assert record.expiry_of(raw) == expires


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("expires", [None, 7])
def test_a_record_of_any_size_comes_back_as_it_was(size, expires):
    payload = bytes(range(256)) * (size // 256 + 1)
    raw = record.pack(BINDING, payload[:size], True, expires)
    assert raw == seal(raw[:-8])
    assert record.unpack(BINDING, raw) == (payload[:size], True, expires)
    assert record.unpack(BINDING, memoryview(raw)) == (payload[:size], True, expires)


@given(strategies.values(), expiries)
def test_loading_a_record_gives_its_value_too(value, expires):
    payload, extended = codec.encode(value)
    raw = record.pack(BINDING, payload, extended, expires)
    loaded, *rest = record.load(BINDING, raw)
    assert strategies.same(loaded, value)
    assert rest == [payload, extended, expires]


@pytest.mark.parametrize("size", SIZES)
def test_loading_refuses_what_unpacking_and_decoding_refuse(size):
    payload, extended = codec.encode("a" * size)
    raw = record.pack(BINDING, payload, extended, None)
    assert record.load(BINDING, raw)[0] == "a" * size
    for wrong in (raw[:-1], raw[1:], raw[:-1] + bytes((raw[-1] ^ 1,)), b""):
        with pytest.raises(ValueError, match=r"too short|checksum|format"):
            record.load(BINDING, wrong)
    with pytest.raises(ValueError, match="incomplete"):
        record.load(BINDING, record.pack(BINDING, payload[:-1], extended, None))


def test_the_payload_of_a_long_record_is_not_copied():
    raw = record.pack(BINDING, bytes(100_000), False, None)
    payload, _, _ = record.unpack(BINDING, raw)
    assert isinstance(payload, memoryview)
    assert payload.obj is raw


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("expires", [None, 1_700_000_000_000])
@pytest.mark.parametrize("size", [1, 30, 10_000])
def test_every_flipped_bit_is_noticed(size, expires, extended):
    raw = bytearray(record.pack(BINDING, b"x" * size, extended, expires))
    for at in range(len(raw)) if size < 100 else [*range(40), *range(40, len(raw), 997), *range(-40, 0)]:
        for bit in range(8):
            raw[at] ^= 1 << bit
            for read in WAYS_TO_READ:
                with pytest.raises(ValueError, match=r"checksum|format"):
                    read(BINDING, bytes(raw))
            raw[at] ^= 1 << bit
    assert record.unpack(BINDING, bytes(raw)) == (b"x" * size, extended, expires)


@pytest.mark.parametrize("expires", [None, 5])
@pytest.mark.parametrize("size", [1, 9, 9_000])
def test_a_truncated_or_lengthened_record_is_refused(size, expires):
    raw = record.pack(BINDING, b"x" * size, False, expires)
    for length in {*range(len(raw))[:30], *range(len(raw))[-30:]}:
        with pytest.raises(ValueError, match=r"too short|checksum|format"):
            record.unpack(BINDING, raw[:length])
    with pytest.raises(ValueError, match="checksum"):
        record.unpack(BINDING, raw + b"\x00")


@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(1, 20_000))
def test_a_record_is_refused_under_another_key_or_namespace(one, other, size):
    raw = record.pack(one, *codec.encode(bytes(size)), None)
    for read in WAYS_TO_READ:
        if one == other:
            assert read(other, raw)
        else:
            with pytest.raises(ValueError, match="belongs to another key"):
                read(other, raw)


@given(st.binary(max_size=60))
def test_random_bytes_are_refused(raw):
    with pytest.raises(ValueError, match=r"too short|checksum|format"):
        record.unpack(BINDING, raw)


@pytest.mark.parametrize("header", [h for h in range(256) if h not in {0x10, 0x11, 0x12, 0x13}])
def test_an_unknown_format_or_flag_is_named_whether_the_checksum_is_right_or_not(header):
    body = bytes((header,)) + bytes(20)
    for raw in (seal(body), body + bytes(8), seal(body + bytes(10_000)), body + bytes(10_000)):
        with pytest.raises(ValueError, match=f"unknown record format: header 0x{header:02x}"):
            record.unpack(BINDING, raw)


@pytest.mark.parametrize("body", ["10", "11", "11 00 00 00 00 00 00 00 01", "13" + "00" * 8])
def test_a_record_without_a_payload_is_too_short_though_its_checksum_is_right(body):
    with pytest.raises(ValueError, match="too short"):
        record.unpack(BINDING, seal(bytes.fromhex(body)))


@pytest.mark.parametrize("expires", [-1, 2**64])
def test_an_expiry_that_does_not_fit_is_refused(expires):
    with pytest.raises(ValueError, match="milliseconds"):
        record.pack(BINDING, b"x", False, expires)


@given(st.binary(max_size=30))
def test_the_expiry_of_damaged_bytes_is_some_int_or_none(raw):
    assert isinstance(record.expiry_of(raw), int | None)
