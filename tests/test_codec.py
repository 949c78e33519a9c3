"""Values as msgpack bytes: they come back exactly as they were."""

from __future__ import annotations

import contextlib
import copy
import os
import random
import subprocess
import sys
import threading
import tracemalloc
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
from hypothesis import given

from kvstore import codec
from kvstore.codec import Opaque
from kvstore.errors import UnstorableValueError
from tests import strategies
from tests.payloads import EXTENDED_PAYLOADS, PAYLOADS, name
from tests.strategies import same


def run(code, **environment):
    """What a fresh Python prints."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent,
        env=os.environ | environment,
        capture_output=True,
        check=True,
        text=True,
    ).stdout


@given(strategies.values())
def test_a_value_comes_back_exactly_as_it_was(value):
    payload, extended = codec.encode(value)
    assert same(codec.decode(payload, extended), value)
    assert same(codec.decode(memoryview(payload), extended), value)
    assert same(codec.decode_opaque(payload, extended), value)


@given(strategies.plain_values())
def test_a_plain_value_is_what_msgpack_makes_of_it_and_gives_back(value):
    payload, extended = codec.encode(value)
    assert not extended
    assert payload == msgpack.packb(value)
    assert same(msgpack.unpackb(payload), value)


@given(strategies.values())
def test_a_payload_that_is_not_extended_is_plain_msgpack(value):
    payload, extended = codec.encode(value)
    if not extended:
        assert same(msgpack.unpackb(payload), value)


@given(strategies.values())
def test_encoding_leaves_the_value_as_it_was(value):
    before = copy.deepcopy(value)
    codec.encode(value)
    assert same(value, before)


@given(strategies.values())
def test_decoding_twice_gives_two_values(value):
    payload, extended = codec.encode(value)
    first, second = codec.decode(payload, extended), codec.decode(payload, extended)
    if type(first) in {list, dict, set, bytearray}:
        first.clear()
    assert same(second, value)


@given(strategies.values())
def test_a_decoded_value_encodes_to_the_same_bytes(value):
    payload, extended = codec.encode(value)
    assert codec.encode(codec.decode(payload, extended)) == (payload, extended)


@pytest.mark.parametrize(
    ("payload", "value", "extended"),
    [(payload, value, False) for payload, value in PAYLOADS.items()]
    + [(payload, value, True) for payload, value in EXTENDED_PAYLOADS.items()],
    ids=map(name, [*PAYLOADS.values(), *EXTENDED_PAYLOADS.values()]),
)
def test_the_payload_of_a_value_is_fixed(payload, value, extended):
    assert codec.encode(value) == (bytes.fromhex(payload), extended)
    assert same(codec.decode_opaque(bytes.fromhex(payload), extended), value)


@pytest.mark.parametrize("bits", [0, 1, 62, 63, 64, 65, 1000, 100_000])
def test_an_int_of_any_size_comes_back(bits):
    for number in (sign * (1 << bits) + off for sign in (1, -1) for off in (-1, 0, 1)):
        for value in (
            number,
            [number],
            {"a": number},
            {number: number},
            (number,),
            {number},
            [{"a": [number]}],
        ):
            payload, extended = codec.encode(value)
            assert same(codec.decode(payload, extended), value)
        assert codec.encode(number)[1] == (not -(2**63) <= number < 2**64)


@pytest.mark.parametrize("size", [15, 16, 255, 256, 16_383, 16_385, 65_535, 65_536, 300_000, 3_000_000])
def test_a_value_of_any_length_comes_back(size):
    for value in (
        "a" * size,
        "é" * size,
        b"a" * size,
        bytearray(size),
        {"a": b"a" * size, "b": bytearray(size)},
    ):
        assert same(codec.decode(*codec.encode(value)), value)
    if size < 100_000:
        numbers = range(size)
        for value in (
            [*numbers],
            (*numbers,),
            {*numbers},
            dict.fromkeys(numbers),
            dict.fromkeys(map(str, numbers)),
        ):
            assert same(codec.decode(*codec.encode(value)), value)


def test_a_dict_keeps_its_order():
    for value in ({"b": 1, "a": 2}, {2: "b", 1: "a"}, {(2,): [], (1,): ()}):
        assert [*codec.decode(*codec.encode(value))] == [*value]


def test_keys_that_are_equal_only_by_type_keep_their_type():
    for key in (True, 1, 1.0, Decimal(1), Fraction(1), 1 + 0j):
        assert same(codec.decode(*codec.encode({key: 0})), {key: 0})


def test_two_nans_stay_two_members_and_two_keys():
    for kind in (float, Decimal):
        nans = [kind("nan"), kind("nan"), ()]
        assert len(codec.decode(*codec.encode(set(nans)))) == 3
        assert len(codec.decode(*codec.encode(dict.fromkeys(nans)))) == 3


def test_a_decimal_does_not_depend_on_the_context():
    value = Decimal("1E+500")
    with localcontext() as context:
        context.capitals = 0
        context.prec = 1
        context.traps = dict.fromkeys(context.traps, False)
        payload, extended = codec.encode([value, Decimal("1.23456789")])
        assert same(codec.decode(payload, extended), [value, Decimal("1.23456789")])
        with pytest.raises(ValueError, match="Decimal"):
            codec.decode(bytes.fromhex("d4 08 78"), extended=True)
    assert codec.encode([value, Decimal("1.23456789")]) == (payload, extended)


def test_a_time_zone_is_the_one_that_its_name_gives():
    berlin = ZoneInfo("Europe/Berlin")
    value = codec.decode(*codec.encode(datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=berlin)))
    assert value.tzinfo is berlin
    assert value.utcoffset() == timedelta(hours=1)


@pytest.mark.parametrize("safety", SafeUUID)
def test_a_uuid_keeps_its_safety(safety):
    value = UUID(int=1, is_safe=safety)
    assert codec.decode(*codec.encode(value)).is_safe is safety


def test_immutable_types_are_those_of_scalars_without_parts_that_change():
    assert {type(value) for value in PAYLOADS.values()} - codec.IMMUTABLE == {list, dict}
    mutable = {bytearray, tuple, set, frozenset, dict, Opaque}
    assert {type(value) for value in EXTENDED_PAYLOADS.values()} - codec.IMMUTABLE == mutable


SAMPLE = """
from tests.payloads import EXTENDED_PAYLOADS, PAYLOADS
from kvstore import codec
words = [f"word{n}" for n in range(200)]
value = [*PAYLOADS.values(), *EXTENDED_PAYLOADS.values(), 2**70, set(words), frozenset(words),
         {frozenset(words[:9]): {(word, frozenset(word)) for word in words}}]
payload, extended = codec.encode(value)
assert codec.encode(codec.decode_opaque(payload, extended)) == (payload, extended)
print(payload.hex())
"""


def test_sets_have_the_same_bytes_under_any_hash_seed():
    payloads = {run(SAMPLE, PYTHONHASHSEED=seed) for seed in ("0", "1", "2", "random")}
    assert len(payloads) == 1


def test_msgpack_in_pure_python_makes_the_same_bytes():
    check = "import msgpack; assert msgpack.Packer.__module__ == 'msgpack.fallback'"
    assert run(check + SAMPLE, MSGPACK_PUREPYTHON="1") == run(SAMPLE)


def test_threads_do_not_get_into_each_others_payloads():
    values = [["x" * n, n, {"a": (n,), "b": {n, -n}}] for n in range(50)] + ["y" * n for n in range(50)]
    expected = [codec.encode(value) for value in values]
    wrong = []

    def work(seed):
        order = random.Random(seed).sample(range(len(values)), len(values))
        for _ in range(30):
            wrong.extend(n for n in order if codec.encode(values[n]) != expected[n])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


def test_a_large_value_leaves_no_large_buffer_behind():
    tracemalloc.start()
    try:
        for value in (["x" * 10_000_000], ["x" * 10_000_000, "\ud800"], [{"x" * 10_000_000}]):
            before = tracemalloc.get_traced_memory()[0]
            with contextlib.suppress(UnstorableValueError):
                codec.encode(value)
            assert tracemalloc.get_traced_memory()[0] - before < 1_000_000
    finally:
        tracemalloc.stop()
