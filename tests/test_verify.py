"""Verifying: each damaged record is named, a damaged structure is reported, and nothing brings the process down."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
import sys
import threading

import pytest

import kvstore
from kvstore import CorruptRecordError, elements, expiry, keys, record
from kvstore.backends import lmdb
from kvstore.verify import Problem, VerifyReport
from tests.conftest import ROOT

ITEMS = {
    "a": "value-of-a",
    "b": ["value-of-b"],
    ("t", 1): {"x": b"value-of-tuple"},
    5: "value-of-five" * 500,
    "last": "value-of-last",
}
IN_N = {"a": "value-in-n", "z": [1, "value-of-z"]}
NEEDLES = {
    b"value-of-a": ("", "a"),
    b"value-of-b": ("", "b"),
    b"value-of-tuple": ("", ("t", 1)),
    b"value-of-five": ("", 5),
    b"value-in-n": ("n", "a"),
    b"value-of-z": ("n", "z"),
    b"value-of-ends": ("n", "ends"),
}


@pytest.fixture
def filled(store_path):
    """A store with records in two spaces, closed."""
    with kvstore.open(store_path, durability="none") as store:
        store.set_many(ITEMS)
        store.namespace("n").set_many(IN_N)
        store.namespace("n").set("ends", "value-of-ends", ttl=1_000_000)
    return store_path


def damage(path, needle):
    """Flip a bit in the bytes wherever they are in the file: pages that are free by now may have them too."""
    data = path.read_bytes()
    assert needle in data
    path.write_bytes(data.replace(needle, bytes([needle[0] ^ 1]) + needle[1:]))


def test_a_sound_store_has_no_problems(filled):
    with kvstore.open(filled) as store:
        report = store.verify()
        assert report.ok
        assert (report.records, report.problems) == (8, ())
        store.clear()
        assert store.verify() == report.replaced(records=3)


@pytest.mark.parametrize("smaller", [1, 3_000, 10_000])
def test_a_value_that_a_transaction_has_itself_replaced_by_a_smaller_one_is_sound(store_path, smaller):
    # LMDB keeps the pages that the larger one took, until the record goes.
    with kvstore.open(store_path) as store:
        with store.transaction() as transaction:
            transaction["a"] = bytes(40_000)
            transaction["a"] = bytes(smaller)
        assert store.verify() == VerifyReport(1, ())
        store.compact()
        assert store.verify() == VerifyReport(1, ())
        del store["a"]
        store["b"] = bytes(40_000)
        assert store.verify() == VerifyReport(1, ())


def test_an_empty_store_has_none_either(store_path):
    with kvstore.open(store_path) as store:
        assert store.verify().ok
        assert store.verify().records == 0


def test_it_says_how_far_it_is(filled):
    seen = []
    with kvstore.open(filled) as store:
        store.verify(progress=seen.append)
    assert seen == list(range(1, 9))


def test_a_readonly_store_can_be_verified(filled):
    damage(filled, b"value-of-a")
    with kvstore.open(filled, readonly=True) as store:
        assert [problem.key for problem in store.verify().problems] == ["a"]


@pytest.mark.parametrize("needle", NEEDLES, ids=lambda needle: needle.decode())
def test_a_damaged_record_is_named_and_the_others_are_read(filled, needle):
    namespace, key = NEEDLES[needle]
    damage(filled, needle)
    with kvstore.open(filled, durability="none") as store:
        report = store.verify()
        assert not report.ok
        assert report.records == 8
        (problem,) = report.problems
        assert (problem.kind, problem.namespace, problem.key) == ("record", namespace, key)
        assert "checksum" in problem.message
        space = store.namespace(namespace) if namespace else store
        with pytest.raises(CorruptRecordError) as caught:
            space[key]
        assert (caught.value.namespace, caught.value.key) == (namespace, key)
        for name, items in (("", ITEMS), ("n", IN_N)):
            for other, value in items.items():
                if (name, other) != (namespace, key):
                    assert (store.namespace(name) if name else store)[other] == value
        assert space.delete(key) is True
        assert store.verify().ok


def test_every_damaged_record_is_named(filled):
    for needle in NEEDLES:
        damage(filled, needle)
    with kvstore.open(filled) as store:
        found = [(problem.namespace, problem.key) for problem in store.verify().problems]
        assert sorted(found, key=repr) == sorted(NEEDLES.values(), key=repr)


def test_a_record_under_another_key_is_damaged(filled):
    with kvstore.open(filled, durability="none") as store:
        with store._engine.backend.transaction() as txn:
            txn.put("", keys.encode("b"), txn.get("", keys.encode("a")))
            txn.put("", keys.encode("c"), txn.get("n", keys.encode("a")))
            txn.commit()
        assert [problem.key for problem in store.verify().problems] == ["b", "c"]


@pytest.mark.parametrize("extended", [False, True])
def test_a_record_of_which_the_checksum_is_right_and_the_content_is_no_value_is_named(filled, extended):
    key = keys.encode("a")
    with kvstore.open(filled, durability="none") as store:
        with store._engine.backend.transaction() as txn:
            txn.put("", key, record.pack(key, b"\xc1", extended, None))
            txn.commit()
        (problem,) = store.verify().problems
        assert (problem.kind, problem.namespace, problem.key) == ("record", "", "a")


def test_what_is_no_key_is_named_by_its_bytes(filled):
    with kvstore.open(filled, durability="none") as store:
        with store._engine.backend.transaction() as txn:
            txn.put("n", b"\x02\xff", txn.get("", keys.encode("a")))
            txn.commit()
        problems = store.verify().problems
        assert {(problem.kind, problem.namespace, problem.key) for problem in problems} >= {("key", "n", b"\x02\xff")}


def test_a_record_that_the_expiry_index_does_not_know_is_named(filled):
    with kvstore.open(filled, durability="none") as store:
        with store._engine.backend.transaction() as txn:
            for when in list(txn.scan_keys(expiry.INDEX, b"", None)):
                txn.delete(expiry.INDEX, when)
            txn.commit()
        (problem,) = store.verify().problems
        assert problem == Problem("expiry", "n", "ends", problem.message)
        assert store.namespace("n")["ends"] == "value-of-ends"
        store.namespace("n").touch("ends", 5)
        assert store.verify().ok


def an_entry_of(space, key, damage):
    """The expiry index's entry of a record, as it is after some damage that its key knows nothing of."""

    def damage_it(store):
        with store._engine.backend.transaction() as txn:
            for when, what in list(txn.scan(expiry.INDEX, b"", None)):
                if what == space.encode() + b"\0" + keys.encode(key):
                    txn.put(expiry.INDEX, when, damage(what))
            txn.commit()

    return damage_it


@pytest.mark.parametrize(
    "damage",
    [
        lambda what: b"\xff" + what[1:],
        lambda what: what.replace(b"\0", b""),
        lambda what: b"\0" + keys.encode("a"),
        lambda what: b"n\0" + b"x" * 600,
        lambda what: b"",
    ],
    ids=["no UTF-8", "no end of the name", "another record", "a key too long", "nothing"],
)
def test_a_damaged_entry_of_the_expiry_index_is_reported_stops_nobody_and_harms_no_other_record(filled, damage):
    with kvstore.open(filled, durability="none") as store:
        an_entry_of("n", "ends", damage)(store)
        (problem,) = store.verify().problems
        assert (problem.kind, problem.namespace, problem.key) == ("expiry", "n", "ends")
    with kvstore.open(filled, durability="none", clock=lambda: 4e9) as later:
        assert len(later) == len(ITEMS)
        later["a"] = "written"
        assert later.expire() == 0
        assert "ends" not in later.namespace("n")
        assert later["a"] == "written"
        with later._engine.backend.read() as view:
            assert not view.count(expiry.INDEX)


def test_a_damaged_entry_of_what_was_given_up_frees_nothing_else(filled):
    with kvstore.open(filled, durability="none") as store:
        store.list("kept").extend(range(10))
        store.list("gone").extend(range(3_000))
        store.list("gone").clear()
        with store._engine.backend.transaction() as txn:
            head = elements.head_at(txn, "", keys.encode("kept"))
            ((when, what),) = txn.scan(expiry.INDEX, b"", bytes(8) + b"\xff" * 16)
            txn.put(expiry.INDEX, when, what.partition(b"\0")[0] + b"\0" + head.prefix)
            txn.commit()
        store["a"] = "written"
        store.expire()
        assert list(store.list("kept")) == list(range(10))


def test_a_damaged_name_in_the_directory_of_lists_and_sets_is_reported(filled):
    with kvstore.open(filled, durability="none") as store:
        store.namespace("n").list("list").append(1)
        with store._engine.backend.transaction() as txn:
            txn.put(elements.SPACE, b"\x01\xee", txn.get(elements.SPACE, b"\x01n"))
            txn.delete(elements.SPACE, b"\x01n")
            txn.commit()
        assert {problem.kind for problem in store.verify().problems} == {"record"}
        with pytest.raises(CorruptRecordError, match="directory of lists and sets"):
            store.namespaces()


# -- the structure ---------------------------------------------------------------------------------


def test_writers_wait_while_the_structure_is_checked(filled, monkeypatch):
    checking = lmdb._structural_problems
    seen = []

    def check(path, own):
        # Who has this has LMDB's own write lock besides, which keeps other processes away.
        seen.append((store._engine.backend._env.gate.lock.locked(), with_own_lock(store)))
        return checking(path, own)

    with kvstore.open(filled, durability="none") as store:
        monkeypatch.setattr(lmdb, "_structural_problems", check)
        assert store.verify().ok
    assert seen == [(True, True)]


def with_own_lock(store):
    """Whether the write transaction of the calling thread is under way."""
    return store._engine.backend._env.gate.holder == threading.get_ident()


EXAMINER = """
import json, sys
import kvstore

for path in sys.argv[1:]:
    try:
        with kvstore.open(path, durability="none") as store:
            report = store.verify()
            found = ["problems", sorted({problem.kind for problem in report.problems})]
            if report.ok:
                records = [[r.namespace, repr(r.key), repr(r.value)] for r in store.export_records()]
                found = ["ok", records]
    except kvstore.KvstoreError as error:
        found = ["refused", type(error).__name__]
    print(json.dumps(found), flush=True)
"""


def examined(paths):
    """What a process of its own says of each file; it must live to say it."""
    done = subprocess.run(
        [sys.executable, "-c", EXAMINER, *map(str, paths)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def tall(store_path):
    """A store whose trees have branches, closed, and its page size."""
    with kvstore.open(store_path, durability="none") as store:
        store.set_many({f"key {number:05}": f"value {number}" for number in range(1600)})
        store.namespace("n").set_many({number: bytes(6_000) for number in range(4)})
        store.set("ends", 1, ttl=1_000_000)
        # Nothing freed by earlier commits is left to be found.
        store.compact()
        page_size = store._engine.backend._env.raw.stat()["psize"]
    return store_path, page_size


def copies(path, folder, changes):
    """A copy of the file for each change, which is offset -> bytes."""
    data = path.read_bytes()
    made = []
    for number, change in enumerate(changes):
        copy = folder / f"copy{number}.kv"
        changed = bytearray(data)
        for offset, new in change.items():
            changed[offset : offset + len(new)] = new
        copy.write_bytes(changed)
        made.append(copy)
    return made


def test_a_page_that_is_overwritten_is_reported(tall, tmp_path):
    path, page_size = tall
    pages = range(2, path.stat().st_size // page_size)
    assert len(pages) > 20
    rng = random.Random(1)
    chosen = [2, 3, pages[-1], pages[-2], *rng.sample(pages, 12)]
    changes = [{page * page_size: rng.randbytes(page_size)} for page in chosen]
    for page, (verdict, what) in zip(chosen, examined(copies(path, tmp_path, changes)), strict=True):
        assert verdict in {"problems", "refused"}, (page, what)


@pytest.mark.parametrize("by", [-2, 2, 16, 256])
def test_a_node_that_says_that_it_is_longer_or_shorter_than_it_is_is_reported(tall, tmp_path, by):
    path, page_size = tall
    data = path.read_bytes()
    changes = []
    for page in range(2 * page_size, len(data), page_size):
        flags, _, upper = struct.unpack_from("=HHH", data, page + 10)
        size, kind, length = struct.unpack_from("=IHH", data, page + upper)
        if flags == 2 and not kind and size + by >= 0 and page + upper + 8 + length + size + by <= page + page_size:
            changes.append({page + upper: struct.pack("=I", size + by)})
    assert len(changes) > 10
    for (verdict, what), change in zip(examined(copies(path, tmp_path, changes[-12:])), changes[-12:], strict=True):
        assert verdict == "problems", (change, what)
        assert "structure" in what, (change, what)


@pytest.mark.parametrize(
    ("name", "offset", "new"),
    [
        ("page number", 0, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("flags", 10, b"\x40\x00"),
        ("lower bound", 12, b"\xff\xff"),
        ("upper bound", 14, b"\x00\x00"),
        ("first node", 16, b"\xff\xff"),
    ],
)
def test_a_page_whose_head_is_damaged_is_reported_and_never_followed(tall, tmp_path, name, offset, new):
    path, page_size = tall
    pages = range(2, path.stat().st_size // page_size)
    data = path.read_bytes()
    places = [page * page_size + offset for page in random.Random(name).sample(pages, 12)]
    changes = [{place: new} for place in places if data[place : place + len(new)] != new]
    assert changes
    for (verdict, what), change in zip(examined(copies(path, tmp_path, changes)), changes, strict=True):
        # The rest of a long value's pages have no head: there it is the value that is damaged.
        assert verdict in {"problems", "refused"}, (change, what)


@pytest.mark.parametrize("seed", range(3))
def test_of_a_file_with_flipped_bits_that_verify_finds_nothing_wrong_with_everything_is_right(tall, tmp_path, seed):
    path, page_size = tall
    size = path.stat().st_size
    rng = random.Random(seed)
    data = path.read_bytes()
    changes = []
    for _ in range(25):
        places = [rng.randrange(2 * page_size, size) for _ in range(rng.randrange(1, 4))]
        changes.append({place: bytes([data[place] ^ (1 << rng.randrange(8))]) for place in places})
    ((_, right),) = examined([shutil.copy(path, tmp_path / "whole.kv")])
    verdicts = examined(copies(path, tmp_path, changes))
    for (verdict, what), change in zip(verdicts, changes, strict=True):
        assert verdict != "ok" or what == right, change
    assert any(verdict != "ok" for verdict, _ in verdicts)


def test_a_file_that_is_cut_off_is_refused(tall, tmp_path):
    path, page_size = tall
    data = path.read_bytes()
    cut = []
    for number, length in enumerate((0, 10, page_size, 2 * page_size, len(data) // 2, len(data) - page_size)):
        copy = tmp_path / f"cut{number}.kv"
        copy.write_bytes(data[:length])
        cut.append(copy)
    assert {verdict for verdict, _ in examined(cut)} == {"refused"}
