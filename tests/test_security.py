"""What somebody who means harm can do with a dump, a store's file, its directory or what is shown: docs/security.md says what
is defended against, and names the tests below.
"""

from __future__ import annotations

import ast
import contextlib
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import stat
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import pytest

import kvstore
from kvstore import StoreFormatError, dump
from kvstore.codec import Opaque
from kvstore.errors import DumpFormatError, KvstoreError
from kvstore_cli.main import main
from tests.conftest import ROOT
from tests.payloads import EXTENDED_PAYLOADS, PAYLOADS

HOSTILE = "a\x1b[2J\x1b]0;title\x07\u202e\u2066\x9b\x7f\r\nERROR forged"
"""Clears a terminal, names its window, turns the direction of text, and begins a line of a log."""

PRECIOUS = b"precious" * 16
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users, and become one")


def is_harmless(text):
    return dump.escape(text) == text


@pytest.fixture
def filled(store_path):
    """A store of one record, closed, with nothing beside it."""
    with kvstore.open(store_path, durability="none") as store:
        store["a"] = 1
    for path in store_path.parent.iterdir():
        if path != store_path:
            path.unlink()
    return store_path


def dump_of(*lines, namespaces=("",)):
    """A dump that is right in everything but, perhaps, what its lines say."""
    head = json.dumps({"format": "kvstore dump", "version": 2, "namespaces": sorted(namespaces)})
    body = "".join(f"{line}\n" for line in (head, *lines)).encode()
    return body + json.dumps({"count": len(lines), "sha256": hashlib.sha256(body).hexdigest()}).encode() + b"\n"


def record_line(value="1", key='"a"', namespace='""'):
    return f'{{"ns":{namespace},"key":{key},"value":{value},"expires":null}}'


# -- files in a directory that others can write to -------------------------------------------------------------------


def plant_pipe(place, victim):
    os.mkfifo(place)


def plant_directory(place, victim):
    place.mkdir()


def plant_link(place, victim):
    place.symlink_to(victim)


def plant_dangling_link(place, victim):
    place.symlink_to(victim.with_name("nowhere"))


def plant_hard_link(place, victim):
    place.hardlink_to(victim)


PLANTED = [plant_pipe, plant_directory, plant_link, plant_dangling_link, plant_hard_link]


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("suffix", ["-lock", "-ring"])
@pytest.mark.parametrize("plant", PLANTED)
def test_a_companion_that_was_planted_is_refused_and_nothing_is_written_through_it(filled, plant, suffix, readonly):
    victim = filled.with_name("victim")
    victim.write_bytes(PRECIOUS)
    plant(filled.with_name(filled.name + suffix), victim)
    with pytest.raises(StoreFormatError, match=f"{suffix} .*remove it"):
        kvstore.open(filled, readonly=readonly)
    assert victim.read_bytes() == PRECIOUS
    assert not victim.with_name("nowhere").exists()


@pytest.mark.parametrize("plant", PLANTED)
def test_a_list_of_hot_keys_that_was_planted_is_not_read_and_nothing_is_written_through_it(filled, plant):
    victim = filled.with_name("victim")
    victim.write_bytes(PRECIOUS)
    plant(filled.with_name(filled.name + "-hot"), victim)
    with kvstore.open(filled, warm=True) as store:
        assert store["a"] == 1
    assert victim.read_bytes() == PRECIOUS
    assert not victim.with_name("nowhere").exists()


@AS_ROOT
@pytest.mark.parametrize("suffix", ["-lock", "-ring"])
def test_a_strangers_companion_is_refused_where_anybody_may_put_files(filled, suffix):
    companion = filled.with_name(filled.name + suffix)
    companion.touch(0o666)
    os.chown(companion, 12345, 12345)
    filled.parent.chmod(0o1777)
    with pytest.raises(StoreFormatError, match=r"belongs to user 12345.*directory of your own"):
        kvstore.open(filled)
    assert companion.read_bytes() == b""


@AS_ROOT
def test_those_who_share_a_directory_of_their_group_may_make_each_others_companions(filled):
    for suffix in ("-lock", "-ring"):
        companion = filled.with_name(filled.name + suffix)
        companion.touch(0o660)
        os.chown(companion, 12345, 12345)
    filled.parent.chmod(0o2770)
    with kvstore.open(filled) as store:
        store["a"] = 2


@pytest.mark.parametrize("plant", PLANTED)
def test_a_backup_is_written_over_and_through_nothing(filled, plant):
    victim = filled.with_name("victim")
    victim.write_bytes(PRECIOUS)
    plant(filled.with_name("backup.kv"), victim)
    with kvstore.open(filled) as store, pytest.raises(kvstore.StoreIOError, match="never overwrites"):
        store.backup(filled.with_name("backup.kv"))
    assert victim.read_bytes() == PRECIOUS
    assert not victim.with_name("nowhere").exists()


@pytest.mark.parametrize("action", ["create", "backup", "compact", "save the hot list"])
def test_a_temporary_name_that_is_taken_is_not_written_to(filled, monkeypatch, action):
    """Its random part can't be guessed; and if it could, the file wouldn't be opened."""
    victim = filled.with_name("victim")
    victim.write_bytes(PRECIOUS)
    monkeypatch.setattr(os, "urandom", bytes)
    drafts = {
        "create": "new.kv.new-" + "00" * 8,
        "backup": "backup.kv.new-" + "00" * 8,
        "compact": filled.name + ".compact-" + "00" * 8,
        "save the hot list": filled.name + "-hot.new-" + "00" * 8,
    }
    filled.with_name(drafts[action]).symlink_to(victim)
    with contextlib.suppress(KvstoreError):
        if action == "create":
            kvstore.open(filled.with_name("new.kv")).close()
        else:
            with kvstore.open(filled, warm=action == "save the hot list") as store:
                if action == "backup":
                    store.backup(filled.with_name("backup.kv"))
                elif action == "compact":
                    store.compact()
                else:
                    store.get("a")
    assert victim.read_bytes() == PRECIOUS


def make_every_file(folder):
    with kvstore.open(folder / "store.kv", warm=True, durability="none") as store:
        store.set("a", 1, ttl=1_000)
        store.get("a")
        store.compact()
        store.backup(folder / "backup.kv")
        for name in ("dump.jsonl", "dump.gz", "dump.xz"):
            with dump.writing(folder / name) as stream:
                dump.write(store, stream)
    assert main(["load", os.fspath(folder / "loaded.kv"), os.fspath(folder / "dump.gz")]) == 0


EVERY_FILE = {"backup.kv", "dump.gz", "dump.jsonl", "dump.xz", "loaded.kv", "store.kv", "store.kv-hot"} | {
    "store.kv-lock",
    "store.kv-ring",
}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_whatever_the_umask_every_file_is_its_owners_alone(tmp_path, umask):
    before = os.umask(umask)
    try:
        make_every_file(tmp_path)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(EVERY_FILE, 0o600)


@AS_ROOT
def test_another_user_can_read_none_of_the_files():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        make_every_file(folder)
        paths = sorted(map(os.fspath, folder.iterdir()))
        refused = subprocess.run(
            ["/bin/sh", "-c", 'for path; do cat "$path" >/dev/null 2>&1 && echo "$path"; done; id -u', "sh", *paths],
            user=65534,
            group=65534,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
        )
    assert len(paths) == len(EVERY_FILE)
    assert refused.stdout == "65534\n"


# -- what is shown ---------------------------------------------------------------------------------------------------

QUOTED = json.dumps(HOSTILE)

HOSTILE_VALUES = [
    f'{{"$datetime":"2024-05-01T12:00:00","zone":{QUOTED}}}',
    f'{{"$datetime":{QUOTED}}}',
    f'{{"$time":{QUOTED}}}',
    f'{{"$date":{QUOTED}}}',
    f'{{"$timedelta":[{QUOTED},1,2]}}',
    f'{{"$uuid":{QUOTED}}}',
    f'{{"$uuid":"12345678-1234-5678-1234-567812345678","is_safe":{QUOTED}}}',
    f'{{"$ndarray":{QUOTED},"shape":[1],"items":[1]}}',
    f'{{"$ndarray":"<f4","shape":[{QUOTED}],"items":[1]}}',
    f'{{"$scalar":{QUOTED},"item":1}}',
    f'{{"$scalar":"<M8[s]","item":{QUOTED}}}',
    f'{{"$decimal":{QUOTED}}}',
    f'{{"$bytes":{QUOTED}}}',
    f'{{"$int":{QUOTED}}}',
    f'{{"$float":{QUOTED}}}',
    f'{{"$complex":{QUOTED}}}',
    f'{{"$fraction":[{QUOTED},1]}}',
    f"{{{json.dumps('$' + HOSTILE)}:1}}",
    f"{{{QUOTED}:1,{QUOTED}:2}}",
    f'{{"$set":[[{QUOTED}]]}}',
    f'{{"$dict":[[[{QUOTED}],1]]}}',
]
HOSTILE_LINES = [
    *map(record_line, HOSTILE_VALUES),
    *(record_line(key=key) for key in HOSTILE_VALUES),
    record_line(namespace=QUOTED),
    f"{{{QUOTED}:1}}",
    record_line(value='"\x1b"'),
    record_line(key=QUOTED) + "\n" + record_line(key=QUOTED),
    f'{{"ns":"","key":1,"value":1,"expires":{QUOTED}}}',
]


@pytest.mark.parametrize("line", HOSTILE_LINES)
def test_the_error_of_a_hostile_dump_is_one_line_that_nothing_obeys(line, store_path):
    with kvstore.open(store_path, durability="none") as store:
        with pytest.raises(DumpFormatError) as caught:
            dump.load(store, io.BytesIO(dump_of(*line.split("\n"))))
        assert len(store) == 0
    assert is_harmless(str(caught.value))


def raised_by(*operations):
    for operation in operations:
        with pytest.raises(Exception) as caught:  # whichever it is
            operation()
        yield caught.value


def test_an_error_of_a_store_shows_names_and_keys_without_what_anything_obeys(store_path):
    with kvstore.open(store_path, durability="none") as store:
        store[HOSTILE] = HOSTILE
        store.list(HOSTILE).append(1)
        errors = raised_by(
            lambda: store.incr(HOSTILE),
            lambda: store.set(HOSTILE * 50, 1),
            lambda: store.set((HOSTILE,) * 50, 1),
            lambda: store.set("k", [HOSTILE, HOSTILE + "\ud800"]),
            lambda: store.set("k", {HOSTILE: object()}),
            lambda: store.set({HOSTILE: 1}, 1),
            lambda: store.set(HOSTILE + "\ud800", 1),
            lambda: store.set_of(HOSTILE).add(1),
            lambda: store.namespace("kvstore:" + HOSTILE),
            lambda: store.namespace(HOSTILE + "\0"),
            lambda: store.namespace(HOSTILE * 50),
        )
        assert [str(error) for error in errors if not is_harmless(str(error))] == []


@pytest.fixture
def hostile_store(store_path):
    """A store where whatever can have a name has a hostile one, loaded from a dump and closed."""
    line = record_line(value=f'{{"$type":{QUOTED},"value":{{{QUOTED}:{QUOTED}}}}}', key=QUOTED, namespace=QUOTED)
    with kvstore.open(store_path, durability="none") as store:
        dump.load(store, io.BytesIO(dump_of(line, namespaces=[HOSTILE])))
        store.namespace(HOSTILE).list(HOSTILE).append(HOSTILE)
        store[HOSTILE] = HOSTILE
        store[(HOSTILE, b"\x1b[2J")] = {HOSTILE: HOSTILE.encode()}
    return store_path


def test_a_type_that_is_not_registered_is_named_without_what_anything_obeys(hostile_store):
    with kvstore.open(hostile_store) as store, pytest.raises(kvstore.UnknownTypeError) as caught:
        store.namespace(HOSTILE)[HOSTILE]
    assert is_harmless(str(caught.value))


def test_a_damaged_record_is_named_without_what_anything_obeys(hostile_store):
    # A record's header, msgpack's head of a str, and the text.
    value = b"\x10\xd9" + bytes([len(HOSTILE.encode())]) + HOSTILE.encode()
    whole = hostile_store.read_bytes()
    assert value in whole
    hostile_store.write_bytes(whole.replace(value, value[:-1] + b"?"))
    with kvstore.open(hostile_store) as store:
        found = [problem.message for problem in store.verify().problems]
        with pytest.raises(kvstore.CorruptRecordError) as caught:
            store[HOSTILE]
    assert found
    assert [text for text in (*found, str(caught.value)) if not is_harmless(text)] == []


COMMANDS = [
    ["ls", "STORE"],
    ["ls", "-l", "STORE"],
    ["ls", "-n", HOSTILE, "STORE"],
    ["ls", "--structures", "-n", HOSTILE, "STORE"],
    ["get", "STORE", HOSTILE],
    ["get", "-n", HOSTILE, "STORE", HOSTILE],
    ["get", "STORE", HOSTILE * 2],
    ["get", "-n", HOSTILE * 2, "STORE", HOSTILE],
    ["get", "-j", "STORE", HOSTILE],
    ["get", "--raw", "-n", HOSTILE, "STORE", HOSTILE],
    ["stats", "STORE"],
    ["stats", "--json", "STORE"],
    ["verify", "STORE"],
    ["dump", "STORE"],
    ["dump", "STORE", "--prefix", HOSTILE],
    ["dump", "STORE", "-n", HOSTILE * 2],
    ["del", "STORE", HOSTILE * 2],
    ["del", "-n", HOSTILE, "STORE", HOSTILE * 2],
    ["set", "STORE", HOSTILE, HOSTILE],
    ["set", "STORE", HOSTILE * 50, "1"],
    ["load", "STORE", HOSTILE],
    ["backup", "STORE", HOSTILE + "/b.kv"],
    ["compact", HOSTILE],
    ["verify", HOSTILE],
    [HOSTILE],
    ["ls", f"--{HOSTILE}"],
]


@pytest.mark.parametrize(
    "command", COMMANDS, ids=lambda command: " ".join(command)[:20].encode("unicode_escape").decode()
)
def test_the_command_shows_nothing_that_a_terminal_or_a_log_would_obey(command, hostile_store, capsysbinary):
    main([os.fspath(hostile_store) if argument == "STORE" else argument for argument in command])
    for written in capsysbinary.readouterr():
        *lines, rest = written.decode().split("\n")
        assert rest == ""
        assert [line for line in lines if not is_harmless(line)] == []
        assert not any(line.startswith("ERROR forged") for line in lines)


# -- what a dump may ask for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "compress"), [("d.gz", gzip.compress), ("d.xz", lzma.compress)])
def test_a_bomb_of_one_line_is_given_up_on_at_the_longest_line(name, compress, store_path):
    bomb = compress(b'{"' + b" " * 64 * 2**20)
    with kvstore.open(store_path, durability="none") as store:
        tracemalloc.start()
        try:
            with pytest.raises(DumpFormatError, match="longer than max_line"):
                dump.load(store, dump.unpacked(io.BytesIO(bomb), name), max_line=2**20)
            assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
        finally:
            tracemalloc.stop()


def test_a_bomb_of_many_lines_is_given_up_on_at_the_stores_limit_and_leaves_nothing(store_path):
    lines = (record_line(key=str(number), value=f'"{"x" * 10_000}"') for number in range(1_000))
    bomb = gzip.compress(dump_of(*lines))
    assert len(bomb) < 100_000
    with kvstore.open(store_path, durability="none", max_size=2**20) as store:
        with pytest.raises(kvstore.StoreFullError):
            dump.load(store, dump.unpacked(io.BytesIO(bomb), "d.gz"))
        assert len(store) == 0
        store["goes on"] = 1
    assert store_path.stat().st_size <= 2**20


NESTS = {
    "arrays": ("[", "]"),
    "objects": ('{"a":', "}"),
    "tuples": ('{"$tuple":[', "]}"),
    "own types": ('{"$type":"x","value":', "}"),
    "sets": ('{"$frozenset":[', "]}"),
}


@pytest.mark.parametrize(("opening", "closing"), NESTS.values(), ids=NESTS)
@pytest.mark.parametrize("place", ["value", "key"])
def test_a_nest_is_refused_not_followed_until_the_stack_is_gone(opening, closing, place, store_path):
    nest = opening * 100_000 + "1" + closing * 100_000
    with kvstore.open(store_path, durability="none") as store, pytest.raises(DumpFormatError):
        dump.load(store, io.BytesIO(dump_of(record_line(**{place: nest}))))


@pytest.mark.parametrize(
    "value",
    [
        '{"$ndarray":"<f8","shape":[1000000000000],"base64":""}',
        '{"$ndarray":"<f8","shape":[0,1000000000000000000000],"base64":""}',
        '{"$ndarray":"<U1000000000","shape":[1],"items":["a"]}',
        '{"$decimal":"1E+9999999999999999999"}',
        '{"$timedelta":[1e400,0,0]}',
        '{"$fraction":[1,0]}',
        "1" * 100_000,
        "1e" + "9" * 100_000,
    ],
)
def test_a_length_or_number_is_not_believed_before_there_is_as_much(value, store_path):
    with kvstore.open(store_path, durability="none") as store:
        tracemalloc.start()
        try:
            with pytest.raises(DumpFormatError):
                dump.load(store, io.BytesIO(dump_of(record_line(value=value))))
            assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
        finally:
            tracemalloc.stop()


# -- no code from data -----------------------------------------------------------------------------------------------

RUNS_CODE = {
    "pickle",
    "marshal",
    "shelve",
    "code",
    "codeop",
    "runpy",
    "ctypes",
    "subprocess",
    "yaml",
    "cloudpickle",
    "dill",
}
MAY_EVALUATE = {"memo_source.py"}
"""Makes the function that stands for a memoized one, of the names of its parameters."""
MAY_IMPORT = {("lmdb_fork.py", "ctypes")}
"""Parts a child of a fork from LMDB's lock: calls mmap."""


def test_nothing_in_the_library_or_the_command_could_run_what_it_reads():
    found = []
    for path in [*(ROOT / "kvstore").rglob("*.py"), *(ROOT / "tools" / "kvstore_cli").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in {"eval", "exec", "compile", "__import__"} and path.name not in MAY_EVALUATE:
                    found.append((path.name, node.func.id))
                continue
            else:
                continue
            found += [
                (path.name, name)
                for name in names
                if name.partition(".")[0] in RUNS_CODE and (path.name, name) not in MAY_IMPORT
            ]
    assert found == []


_READ_EVERYTHING = """
import sys
import kvstore, kvstore.dump
path, *dumps = sys.argv[1:]

def read(path):
    with kvstore.open(path, readonly=True) as store:
        for key in store:
            store[key]
        for _ in store.export_records():
            pass
        store.verify()
    for name in dumps:
        with kvstore.open(path + ".loaded", durability="none") as store:
            with kvstore.dump.reading(name) as stream:
                kvstore.dump.load(store, stream, merge=True)

read(path)  # whatever is to be imported is imported now
events = []
sys.addaudithook(lambda event, _: events.append(event))
read(path)
print(sorted({event for event in events if event.partition(".")[0] in
    {"exec", "compile", "import", "pickle", "marshal", "os.system", "subprocess", "ctypes", "code", "socket"}
    or event in {"os.system", "os.exec", "os.fork", "os.posix_spawn"}}))
"""


def test_reading_a_store_and_a_dump_of_every_type_compiles_imports_and_starts_nothing(store_path, tmp_path):
    values = [*PAYLOADS.values(), *(value for value in EXTENDED_PAYLOADS.values() if not isinstance(value, Opaque))]
    with kvstore.open(store_path, durability="none") as store:
        store.set_many(enumerate(values))
        store.list("l").extend(values)
        with dump.writing(tmp_path / "d.jsonl") as stream:
            dump.write(store, stream)
    done = subprocess.run(
        [sys.executable, "-c", _READ_EVERYTHING, store_path, tmp_path / "d.jsonl"],
        env=os.environ | {"PYTHONPATH": os.fspath(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


# -- the page --------------------------------------------------------------------------------------------------------


def test_every_test_that_the_page_names_is_there_and_every_test_here_is_on_the_page():
    page = (ROOT / "docs" / "security.md").read_text()
    named = set(re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", page))
    assert len(named) > 40
    missing = [
        (path, name)
        for path, name in named
        if not (ROOT / path).is_file() or (name and f"def {name}(" not in (ROOT / path).read_text())
    ]
    assert missing == []
    here = {name for name in globals() if name.startswith("test_")}
    here.remove("test_every_test_that_the_page_names_is_there_and_every_test_here_is_on_the_page")
    assert here == {name for path, name in named if path == "tests/test_security.py"}
