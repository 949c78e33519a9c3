"""Arrays in a dump: readable where they are small, exact always, and the same whether numpy is there or not."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvstore
from kvstore import codec, dump
from kvstore.array_form import StoredArray, StoredScalar
from kvstore.errors import UnknownTypeError
from tests.dump_samples import dumped, line, refused, sealed

ROOT = Path(__file__).parent.parent

POINTS = '{"names":["x","tag"],"formats":["<f4","|S2"],"offsets":[0,4],"itemsize":6}'
PADDED = '{"names":["a"],"formats":["|u1"],"offsets":[0],"itemsize":2}'
NESTED = (
    '{"names":["p","m"],"formats":[{"names":["a"],"formats":["<i2"],"offsets":[0],"itemsize":2},["|u1",[2,2]]],'
    '"offsets":[0,2],"itemsize":6}'
)


def array(dtype, shape, data, order="C"):
    return StoredArray(dtype if dtype.startswith("{") else f'"{dtype}"', shape, order, bytes.fromhex(data))


def scalar(dtype, data):
    return StoredScalar(dtype if dtype.startswith("{") else f'"{dtype}"', bytes.fromhex(data))


FORMS = [
    (array("<f4", (2, 2), "0000803f 00000040 cdcccc3d 000080bf"), '"<f4","shape":[2,2],"items":[[1.0,2.0],[0.1,-1.0]]'),
    (array("<i2", (2, 2), "0100 0200 0300 0400", "F"), '"<i2","shape":[2,2],"order":"F","items":[[1,3],[2,4]]'),
    (array(">i2", (1,), "0100"), '">i2","shape":[1],"items":[256]'),
    (array("|u1", (), "ff"), '"|u1","shape":[],"items":255'),
    (array("|i1", (0, 3), ""), '"|i1","shape":[0,3],"items":[]'),
    (array("|i1", (3, 0), ""), '"|i1","shape":[3,0],"items":[]'),
    (array("<q", (1,), "ffffffffffffffff"), '"<q","shape":[1],"items":[-1]'),
    (array("<Q", (1,), "ffffffffffffffff"), '"<Q","shape":[1],"items":[18446744073709551615]'),
    (array("|b1", (2,), "0001"), '"|b1","shape":[2],"items":[false,true]'),
    (array("|b1", (2,), "0002"), '"|b1","shape":[2],"base64":"AAI="'),
    (array("<f8", (2,), "9a9999999999b93f 0000000000000080"), '"<f8","shape":[2],"items":[0.1,-0.0]'),
    (array("<f2", (2,), "662e ff7b"), '"<f2","shape":[2],"items":[0.1,65500.0]'),
    (array("<f4", (1,), "ffff7f7f"), '"<f4","shape":[1],"items":[3.4028235e+38]'),
    (array("<f4", (1,), "01000000"), '"<f4","shape":[1],"items":[1.4013e-45]'),
    (array("<f4", (2,), "0000807f 000080ff"), '"<f4","shape":[2],"items":[{"$float":"inf"},{"$float":"-inf"}]'),
    (array("<f4", (1,), "0000c07f"), '"<f4","shape":[1],"items":[{"$float":"nan"}]'),
    (array("<f4", (1,), "0100c07f"), '"<f4","shape":[1],"base64":"AQDAfw=="'),
    (array("<f4", (1,), "0100807f"), '"<f4","shape":[1],"base64":"AQCAfw=="'),
    (array("<c8", (1,), "0000803f 00000080"), '"<c8","shape":[1],"items":[{"$complex":[1.0,-0.0]}]'),
    (array("bfloat16", (2,), "803f 4940"), '"bfloat16","shape":[2],"items":[1.0,3.140625]'),
    (array("int4", (2,), "0102"), '"int4","shape":[2],"base64":"AQI="'),
    (array("<f16 x87", (1,), "00" * 16), '"<f16 x87","shape":[1],"base64":"AAAAAAAAAAAAAAAAAAAAAA=="'),
    (array("|V2", (1,), "0102"), '"|V2","shape":[1],"base64":"AQI="'),
    (array("|S3", (2,), "616200 610062"), '"|S3","shape":[2],"items":["ab","a\\u0000b"]'),
    (array("|S1", (1,), "ff"), '"|S1","shape":[1],"base64":"/w=="'),
    (array("<U2", (1,), "e9000000 00000000"), '"<U2","shape":[1],"items":["é"]'),
    (array(">U1", (1,), "0001f600"), '">U1","shape":[1],"items":["😀"]'),
    (array("<U1", (1,), "00d80000"), '"<U1","shape":[1],"base64":"ANgAAA=="'),
    (array("|S0", (2,), ""), '"|S0","shape":[2],"items":["",""]'),
    (
        array("<M8[h]", (2,), "0000000000000000 0000000000000080"),
        '"<M8[h]","shape":[2],"items":["1970-01-01T00","NaT"]',
    ),
    (array("<M8[10s]", (1,), "0100000000000000"), '"<M8[10s]","shape":[1],"items":[1]'),
    (array("<M8", (1,), "0000000000000080"), '"<M8","shape":[1],"items":["NaT"]'),
    (array("<M8[Y]", (1,), "ffffffffffff0000"), '"<M8[Y]","shape":[1],"base64":"////////AAA="'),
    (array("<m8[us]", (2,), "ffffffffffffffff 0000000000000080"), '"<m8[us]","shape":[2],"items":[-1,"NaT"]'),
    (array(POINTS, (1,), "0000803f 6100"), f'{POINTS},"shape":[1],"items":[[1.0,"a"]]'),
    (array(PADDED, (1,), "0100"), f'{PADDED},"shape":[1],"items":[[1]]'),
    (array(PADDED, (1,), "0101"), f'{PADDED},"shape":[1],"base64":"AQE="'),
    (array(NESTED, (1,), "0100 01020304"), f'{NESTED},"shape":[1],"items":[[[1],[[1,2],[3,4]]]]'),
    (array("|u1", (512,), "07" * 512), f'"|u1","shape":[512],"items":[{",".join("7" * 512)}]'),
    (array("|u1", (513,), "00" * 513), f'"|u1","shape":[513],"base64":"{"A" * 684}"'),
    (array("|V0", (2**40,), ""), '"|V0","shape":[1099511627776],"base64":""'),
]
SCALARS = [
    (scalar("<f4", "cdcccc3d"), '"<f4","item":0.1'),
    (scalar("|b1", "01"), '"|b1","item":true'),
    (scalar("<U2", "61000000 00000000"), '"<U2","item":"a"'),
    (scalar("<M8[D]", "0000000000000080"), '"<M8[D]","item":"NaT"'),
    (scalar("|V1", "07"), '"|V1","base64":"Bw=="'),
    (scalar(POINTS, "0000803f 6100"), f'{POINTS},"item":[1.0,"a"]'),
]
TEXTS = [(value, f'{{"$ndarray":{text}}}') for value, text in FORMS] + [
    (value, f'{{"$scalar":{text}}}') for value, text in SCALARS
]


@pytest.mark.parametrize(("value", "text"), TEXTS, ids=[text[:60] for _, text in TEXTS])
def test_each_dtype_has_its_form(value, text):
    assert dump.dumps(value) == text
    assert dump.loads(text) == value
    assert dump.dumps({"a": [value]}) == f'{{"a":[{text}]}}'
    assert codec.decode_opaque(*codec.encode(value)) == value


REFUSED = {
    "no shape": '{"$ndarray":"<f4","items":[]}',
    "neither items nor base64": '{"$ndarray":"<f4","shape":[0]}',
    "both": '{"$ndarray":"<f4","shape":[0],"items":[],"base64":""}',
    "a field too many": '{"$ndarray":"<f4","shape":[0],"items":[],"more":1}',
    "fields in another order": '{"$ndarray":"<f4","items":[],"shape":[0]}',
    "C order spelt out": '{"$ndarray":"<f4","shape":[0],"order":"C","items":[]}',
    "an order that is none": '{"$ndarray":"<f4","shape":[1,2],"order":"X","items":[[1.0,2.0]]}',
    "Fortran order of a row": '{"$ndarray":"<f4","shape":[1],"order":"F","items":[1.0]}',
    "base64 of what has words": '{"$ndarray":"|u1","shape":[1],"base64":"AQ=="}',
    "base64 too short": '{"$ndarray":"|V3","shape":[1],"base64":"AQ=="}',
    "base64 of more than there is": '{"$ndarray":"<f8","shape":[1099511627776],"base64":"AAAA"}',
    "no base64": '{"$ndarray":"|V3","shape":[1],"base64":"AQ"}',
    "base64 that is a number": '{"$ndarray":"|V3","shape":[1],"base64":1}',
    "items too few": '{"$ndarray":"|u1","shape":[2],"items":[1]}',
    "items not nested": '{"$ndarray":"|u1","shape":[1,1],"items":[1]}',
    "items nested too deeply": '{"$ndarray":"|u1","shape":[1],"items":[[1]]}',
    "items of an empty shape": '{"$ndarray":"|u1","shape":[0,3],"items":[[]]}',
    "more items than are written": '{"$ndarray":"|u1","shape":[9999999999],"items":[1]}',
    "a negative length": '{"$ndarray":"|u1","shape":[-1],"items":[]}',
    "a length that is a float": '{"$ndarray":"|u1","shape":[1.0],"items":[1]}',
    "objects": '{"$ndarray":"|O","shape":[1],"items":[1]}',
    "a dtype that is code": '{"$ndarray":"__import__(\'os\')","shape":[1],"items":[1]}',
    "a dtype that is a value": '{"$ndarray":{"$tuple":[]},"shape":[1],"items":[1]}',
    "a dtype nested without end": '{"$ndarray":' + "[" * 900 + "]" * 900 + ',"shape":[1],"items":[1]}',
    "a float for an int": '{"$ndarray":"|u1","shape":[1],"items":[1.0]}',
    "an int for a float": '{"$ndarray":"<f4","shape":[1],"items":[1]}',
    "a bool for an int": '{"$ndarray":"|u1","shape":[1],"items":[true]}',
    "an int beyond its bytes": '{"$ndarray":"|u1","shape":[1],"items":[256]}',
    "a float beyond its bytes": '{"$ndarray":"<f4","shape":[1],"items":[1e39]}',
    "a float of more digits than are written": '{"$ndarray":"<f4","shape":[1],"items":[0.10000000149011612]}',
    "a bfloat16 that is none": '{"$ndarray":"bfloat16","shape":[1],"items":[3.14]}',
    "a text too long": '{"$ndarray":"<U1","shape":[1],"items":["ab"]}',
    "a text that is not ASCII": '{"$ndarray":"|S4","shape":[1],"items":["é"]}',
    "no character": '{"$ndarray":"<U1","shape":[1],"base64":"/////w=="}',
    "a day that is none": '{"$ndarray":"<M8[D]","shape":[1],"items":["2024-02-30"]}',
    "a moment of another unit": '{"$ndarray":"<M8[D]","shape":[1],"items":["2024-02-28T12"]}',
    "a moment that is a number": '{"$ndarray":"<M8[D]","shape":[1],"items":[1]}',
    "a scalar of two": '{"$scalar":"|u1","item":[1,2]}',
    "a scalar with a shape": '{"$scalar":"|u1","shape":[],"item":1}',
    "a scalar of nothing": '{"$scalar":"|u1"}',
    "a bool of 2": '{"$scalar":"|b1","base64":"Ag=="}',
    "a scalar as a key": '{"$dict":[[{"$scalar":"|u1","item":1},1]]}',
    "an array as a member": '{"$set":[{"$ndarray":"|u1","shape":[1],"items":[1]}]}',
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_a_text_that_no_dump_has_is_refused_with_its_line(store_path, text):
    with kvstore.open(store_path) as store:
        for value in (text, f'[1,{{"a":{text}}}]'):
            assert refused(store, sealed(line('"a"'), line('"b"', value))).line == 3
        assert not len(store)


def test_a_store_of_arrays_is_dumped_and_loaded_to_the_same_bytes(tmp_path):
    values = {f"{number:03}": value for number, (value, _) in enumerate(TEXTS)} | {"all": [value for value, _ in TEXTS]}
    with kvstore.open(tmp_path / "one.kv") as one, kvstore.open(tmp_path / "two.kv") as two:
        one.set_many(values)
        text = dumped(one)
        dump.load(two, io.BytesIO(text))
        assert dumped(two) == text
        for record in two.export_records():
            assert record.value == values[record.key]


# -- with numpy ----------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.data())
def test_a_dump_says_everything_of_every_array(data):
    pytest.importorskip("numpy")
    from tests.array_samples import arrays, identity

    array = data.draw(arrays())
    text = dump.dumps(array)
    assert text == dump.dumps(codec.decode_opaque(*codec.encode(array)))
    read = dump.loads(text)
    assert dump.dumps(read) == text
    assert identity(codec.decode(*codec.encode(read))) == identity(array)
    json.loads(text, parse_constant=pytest.fail)


def test_the_words_for_a_moment_are_numpys():
    np = pytest.importorskip("numpy")
    for unit in "YMWDhms":
        for number in (-1_000, -1, 0, 1, 1_000, 8_029):
            moment = np.datetime64(number, unit)
            assert dump.dumps(moment) == f'{{"$scalar":"<M8[{unit}]","item":"{moment}"}}'
    for unit, digits in {"ms": 13, "us": 16, "ns": 18, "ps": 18, "fs": 18, "as": 18}.items():
        for number in (-(10**digits), -1, 0, 1, 10**digits + 1):
            moment = np.datetime64(number, unit)
            assert dump.dumps(moment) == f'{{"$scalar":"<M8[{unit}]","item":"{moment}"}}'


def test_the_words_for_numbers_are_those_that_numpy_reads_back():
    np = pytest.importorskip("numpy")
    for dtype in ("f2", "f4", "f8", "i8", "u1"):
        bits = np.random.default_rng(5).integers(0, 256, 64, np.uint8).view(dtype)
        array = bits[np.isfinite(bits)]
        assert (np.array(json.loads(dump.dumps(array))["items"], dtype) == array).all()


# -- without numpy -------------------------------------------------------------------------------------------------

WITHOUT = 'import sys; sys.modules["numpy"] = None\n'
COMMANDS = f"""{WITHOUT}
from itertools import groupby
from kvstore_cli.group import run
for is_end, words in groupby(sys.argv[1:], "then".__eq__):
    if not is_end and run([*words]):
        sys.exit("failed")
"""


def python(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}", "PATH": ""}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def test_dumping_loading_and_showing_need_no_numpy(tmp_path):
    with kvstore.open(tmp_path / "one.kv") as store:
        store.set_many({number: value for number, (value, _) in enumerate(TEXTS)})
        text = dumped(store)
    one, two = tmp_path / "one.kv", tmp_path / "two.kv"
    (tmp_path / "dump.jsonl").write_bytes(text)
    shown = python(
        COMMANDS,
        *("dump", one, "-"),
        *("then", "load", two, tmp_path / "dump.jsonl"),
        *("then", "dump", two, "-"),
        *("then", "get", "-j", two, "0"),
        *("then", "verify", two),
        *("then", "set", two, "new", TEXTS[0][1]),
        *("then", "get", two, "new"),
    )
    first = TEXTS[0][1] + "\n"
    assert shown == text.decode() * 2 + first + f"{len(TEXTS)} records, no problems\n" + first


def test_reading_an_array_without_numpy_says_what_to_install(store_path):
    with kvstore.open(store_path) as store:
        store["array"] = TEXTS[0][0]
        store["scalar"] = {"a": [SCALARS[0][0]]}
        store["else"] = 1
    code = (
        WITHOUT
        + """
import kvstore
with kvstore.open(sys.argv[1]) as store:
    for key in ("array", "scalar"):
        try:
            store[key]
        except kvstore.UnknownTypeError as error:
            print(error)
    print(store["else"], "array" in store, len(store), list(store))
"""
    )
    shown = python(code, store_path).splitlines()
    assert len(shown) == 3
    assert all("pip install 'tiered-kvstore[numpy]'" in line for line in shown[:2])
    assert shown[2] == "1 True 3 ['array', 'else', 'scalar']"


def test_reading_a_type_of_ml_dtypes_without_it_says_what_to_install(store_path):
    pytest.importorskip("numpy")
    with kvstore.open(store_path) as store:
        store["key"] = array("bfloat16", (2,), "803f 4940")
    code = """
import sys; sys.modules["ml_dtypes"] = None
import kvstore
with kvstore.open(sys.argv[1]) as store:
    try:
        store["key"]
    except kvstore.UnknownTypeError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, store_path], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "bfloat16" in done.stdout
    assert "pip install" in done.stdout


def test_long_doubles_of_another_machine_are_not_misread(store_path):
    np = pytest.importorskip("numpy")
    other = "<f16 binary128" if np.finfo(np.longdouble).nmant == 63 else "<f16 x87"
    with kvstore.open(store_path) as store:
        store["key"] = array(other, (1,), "00" * 16)
        with pytest.raises(UnknownTypeError, match="another kind of machine"):
            store["key"]
