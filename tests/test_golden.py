"""Files that were written once are read for ever, and what is written today has the same bytes.

A test here that fails means that users' files would not be read: the code is wrong, never the file.
"""

from __future__ import annotations

import io
import lzma
import os
import shutil
import subprocess
import sys

import lmdb
import pytest

pytest.importorskip("numpy")

import kvstore
from kvstore import dump
from kvstore.backends.lmdb_read import FORMAT_VERSION
from tests import array_samples, strategies
from tests.conftest import ROOT
from tests.golden import content

FOLDER = ROOT / "tests" / "golden"
STORES = sorted(FOLDER.glob("store-*.kv.xz"))
DUMPS = sorted(FOLDER.glob("dump-*.jsonl.xz"))

LITTLE_64_BIT = pytest.mark.skipif(
    sys.byteorder != "little" or sys.maxsize < 1 << 32, reason="LMDB's files are those of a kind of machine"
)


def identity(value):
    """What makes a value this one, those of numpy's and the golden type included."""
    if type(value).__module__ == "numpy":
        return array_samples.identity(value)
    if type(value) is content.Point:
        return content.Point, strategies.fingerprint(tuple(value))
    if type(value) in (list, tuple):
        return type(value), [identity(item) for item in value]
    if type(value) is dict:
        return dict, [(identity(key), identity(item)) for key, item in value.items()]
    return strategies.fingerprint(value)


@pytest.fixture(autouse=True)
def own_type(own_types):
    content.register()


@pytest.fixture
def unpacked(tmp_path):
    """unpacked(golden file) -> its copy, which nobody may write to."""

    def make(golden):
        path = tmp_path / golden.stem
        path.write_bytes(lzma.decompress(golden.read_bytes()))
        path.chmod(0o444)
        return path

    return make


def assert_holds_the_records(store):
    for position, key in enumerate(content.KEYS):
        assert store[key] == position
    for name, value in content.VALUES.items():
        assert identity(store["value", name]) == identity(value), name
    for key, value in content.ENDING.items():
        assert store[key] == value
        assert store.ttl(key) == pytest.approx(content.END / 1000 - store._clock(), abs=60)
    assert store.namespaces() == sorted([*content.NAMESPACES, "ends"])
    for name, items in content.NAMESPACES.items():
        assert dict(store.namespace(name)) == items
    assert dict(store.namespace("ends")) == {"a": "ends"}
    assert len(store) == len(content.KEYS) + len(content.VALUES) + len(content.ENDING)


def assert_holds_the_structures(store):
    for (name, key), items in content.LISTS.items():
        queue = content.within(store, name).list(key)
        assert list(queue) == items
        assert (queue.ttl() is not None) == ((name, key) in content.ENDING_STRUCTURES)
    for (name, key), members in content.SETS.items():
        assert set(content.within(store, name).set_of(key)) == set(members)
    assert len(list(store.structures())) == 3


def records(path):
    """Every database of the file, byte for byte, read by LMDB alone; the library's format record among them."""
    with lmdb.open(os.fsencode(path), subdir=False, readonly=True, lock=False, max_dbs=16) as env, env.begin() as txn:
        main = dict(txn.cursor())
        names = [name for name in main if name[:1].isalpha()]
        found = {name: dict(txn.cursor(env.open_db(name, txn=txn, create=False))) for name in names}
        return {b"": {key: record for key, record in main.items() if key not in names}, **found}


# -- stores ----------------------------------------------------------------------------------------------------------


def test_there_is_a_file_of_every_version_that_was_ever_written():
    assert [path.name for path in STORES] == [f"store-{number + 1}.kv.xz" for number in range(FORMAT_VERSION)]
    assert [path.name for path in DUMPS] == [f"dump-{number + 1}.jsonl.xz" for number in range(dump.VERSION)]


@LITTLE_64_BIT
@pytest.mark.parametrize("golden", STORES, ids=lambda path: path.name)
def test_a_store_is_read_and_not_changed_by_it(unpacked, golden):
    path = unpacked(golden)
    before = path.read_bytes(), path.stat().st_mtime_ns
    with kvstore.open(path, readonly=True) as store:
        for _ in ("from the file", "from memory"):
            assert_holds_the_records(store)
        assert_holds_the_structures(store)
        assert store.verify().ok
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@LITTLE_64_BIT
@pytest.mark.parametrize("golden", STORES, ids=lambda path: path.name)
def test_a_store_is_written_to_and_goes_on(unpacked, golden):
    path = unpacked(golden)
    path.chmod(0o600)
    with kvstore.open(path, durability="none") as store:
        store["new"] = 1
        del store["new"]
        store.list("list").append("new")
        assert store.list("list").pop() == "new"
        store.compact()
        assert_holds_the_records(store)
        assert_holds_the_structures(store)
        assert store.verify().ok


@LITTLE_64_BIT
def test_what_is_written_today_has_the_same_bytes(unpacked, store_path):
    with kvstore.open(store_path, clock=lambda: content.NOW, durability="none") as store:
        content.fill(store)
        content.fill_structures(store)
    assert records(store_path) == records(unpacked(STORES[-1]))


@LITTLE_64_BIT
@pytest.mark.skipif(
    not shutil.which("mdb_dump") or not shutil.which("mdb_stat"), reason="LMDB's tools are not installed"
)
@pytest.mark.parametrize("golden", STORES, ids=lambda path: path.name)
def test_lmdbs_own_tools_read_it(unpacked, golden):
    path = unpacked(golden)
    expected = records(path)

    def run(*command):
        return subprocess.run([*command, path], capture_output=True, text=True, check=True).stdout

    counts = [int(line.split()[1]) for line in run("mdb_stat", "-n", "-a").splitlines() if "Entries" in line]
    databases = len(expected) - 1
    # The main database comes first, and counts the names of the others among its entries.
    assert counts == [len(expected[b""]) + databases] + [len(expected[name]) for name in sorted(expected) if name]
    lines = run("mdb_dump", "-n", "-s", "ns:n").splitlines()
    pairs = [bytes.fromhex(line) for line in lines if line.startswith(" ")]
    assert dict(zip(pairs[::2], pairs[1::2], strict=True)) == expected[b"ns:n"]


# -- dumps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("golden", DUMPS, ids=lambda path: path.name)
def test_a_dump_is_loaded_and_dumped_again_to_the_byte(golden, store_path):
    with kvstore.open(store_path, durability="none") as store:
        with dump.reading(golden) as stream:
            dump.load(store, stream)
        assert_holds_the_records(store)
        if golden.name != "dump-1.jsonl.xz":
            assert_holds_the_structures(store)
        again = io.BytesIO()
        dump.write(store, again)
    assert again.getvalue() == lzma.decompress(golden.read_bytes())


def test_what_is_dumped_today_has_the_same_bytes(store_path):
    with kvstore.open(store_path, clock=lambda: content.NOW, durability="none") as store:
        content.fill(store)
        for golden, fill in zip(DUMPS, (lambda _: None, content.fill_structures), strict=True):
            fill(store)
            today = io.BytesIO()
            dump.write(store, today)
            assert today.getvalue() == lzma.decompress(golden.read_bytes())


@LITTLE_64_BIT
def test_a_store_and_the_dump_of_its_time_tell_the_same(unpacked):
    with kvstore.open(unpacked(STORES[-1]), readonly=True) as store:
        today = io.BytesIO()
        dump.write(store, today)
    assert today.getvalue() == lzma.decompress(DUMPS[-1].read_bytes())
