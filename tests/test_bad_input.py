"""What is at the path isn't always a store, and what the system says isn't always yes: each its own error."""

import errno
import os
import shutil
import subprocess
import sys

import lmdb
import pytest

import kvstore
from kvstore.backends.lmdb_errors import translate

LMDB_ERRORS = sorted(
    (kind for kind in vars(lmdb).values() if isinstance(kind, type) and issubclass(kind, lmdb.Error)),
    key=lambda kind: kind.__name__,
)


@pytest.fixture
def filled(store_path):
    with kvstore.open(store_path) as store:
        store.set_many({f"key {number}": "x" * 200 for number in range(500)})
    return store_path


# -- errors of LMDB --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LMDB_ERRORS, ids=lambda kind: kind.__name__)
def test_every_lmdb_error_becomes_one_of_ours_that_names_the_file_and_the_way_out(kind, tmp_path):
    error = translate(kind("mdb_put", 0), str(tmp_path / "a.kv"))
    assert isinstance(error, kvstore.KvstoreError)
    assert "a.kv" in str(error)
    assert ";" in str(error)


@pytest.mark.parametrize("code", sorted(errno.errorcode))
def test_every_error_number_of_lmdb_becomes_one_of_ours(code, tmp_path):
    raised = lmdb.Error("mdb_env_open", code)
    raised.code = code
    error = translate(raised, str(tmp_path / "a.kv"))
    assert isinstance(error, kvstore.KvstoreError)
    assert "a.kv" in str(error)


def test_no_lmdb_error_leaves_a_store(filled, monkeypatch):
    with kvstore.open(filled, cache_size=0) as store:
        environment = store._engine.backend._env

        def refuse(**_):
            raise lmdb.CorruptedError("mdb_txn_begin", -30796)

        monkeypatch.setattr(environment, "begin", refuse)
        for call in (
            lambda: store["key 1"],
            lambda: store.set("a", 1),
            lambda: list(store),
            lambda: len(store),
            lambda: "key 1" in store,
            lambda: store.get_many(["key 1"]),
            lambda: store.delete("key 1"),
            store.stats,
            store.snapshot,
            lambda: store.transaction().__enter__(),
            store.namespaces,
            lambda: store.modify("key 1", str),
        ):
            with pytest.raises(kvstore.StoreCorruptError):
                call()
        monkeypatch.undo()


# -- what is no store ------------------------------------------------------------------------------------------------


def test_a_directory_is_named_as_one(tmp_path):
    with pytest.raises(kvstore.StoreFormatError, match="directory"):
        kvstore.open(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello\n", b"x" * 100_000, b"SQLite format 3\0" * 500])
def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(kvstore.StoreFormatError, match=r"notes\.txt"):
        kvstore.open(path)
    assert path.read_bytes() == content


def test_a_foreign_lmdb_file_is_refused(tmp_path):
    path = tmp_path / "foreign.mdb"
    with lmdb.open(str(path), subdir=False) as env, env.begin(write=True) as txn:
        txn.put(b"a", b"b")
    with pytest.raises(kvstore.StoreFormatError, match="not of kvstore"):
        kvstore.open(path)


def test_a_newer_format_is_refused_and_says_so(filled):
    with lmdb.open(str(filled), subdir=False, max_dbs=8) as env, env.begin(write=True) as txn:
        txn.put(b"format", b"2", db=env.open_db(b"kvstore:meta", txn=txn))
    with pytest.raises(kvstore.StoreFormatError, match="Install a newer kvstore"):
        kvstore.open(filled)


def test_a_fifo_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(kvstore.StoreFormatError, match="regular file"):
        kvstore.open(tmp_path / "pipe")


def test_a_file_that_is_not_there_is_not_made_without_leave(tmp_path):
    for options in ({"create": False}, {"readonly": True}):
        with pytest.raises(kvstore.StoreIOError, match="no store here") as caught:
            kvstore.open(tmp_path / "a.kv", **options)
        assert caught.value.errno == errno.ENOENT
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems want file names to be text")
def test_a_path_that_is_not_unicode_is_a_path(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path / "caf") + b"\xe9.kv")
    with kvstore.open(path) as store:
        store["key"] = 1
    with kvstore.open(path, readonly=True) as store:
        assert store["key"] == 1
        assert store.verify().ok


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(kvstore.StoreIOError, match="create the folder first"):
        kvstore.open(tmp_path / "missing" / "a.kv")


# -- damage ----------------------------------------------------------------------------------------------------------


def test_a_truncated_file_is_an_error_at_every_page_and_never_a_signal(filled, tmp_path):
    whole = filled.stat().st_size
    program = (
        "import sys, kvstore\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        with kvstore.open(path) as store:\n"
        "            assert len(dict(store)) == 500\n"
        "    except (kvstore.StoreFormatError, kvstore.StoreCorruptError) as error:\n"
        "        print(error, flush=True)\n"
    )
    cuts = []
    for size in (0, 1, 100, 4095, *range(4096, whole, 4096), whole - 1):
        cuts.append(tmp_path / f"cut-{size}.kv")
        shutil.copy(filled, cuts[-1])
        os.truncate(cuts[-1], size)
    done = subprocess.run([sys.executable, "-c", program, *cuts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.returncode, done.stderr)
    for cut, said in zip(cuts, done.stdout.splitlines(), strict=True):
        assert cut.name in said


def in_a_snapshot(store, read):
    with store.snapshot() as snapshot:
        return read(snapshot)


def in_a_transaction(store, read):
    with store.transaction() as transaction:
        return read(transaction)


DAMAGE_IS_MET_BY = [
    lambda store: store.get("victim"),
    lambda store: store.get_many(["key 1", "victim"]),
    dict,
    lambda store: list(store.items()),
    lambda store: list(store.values()),
    lambda store: list(store.scan(prefix="vic")),
    lambda store: list(store.scan(reverse=True)),
    lambda store: list(store.export_records()),
    lambda store: store.export_record("victim"),
    lambda store: store.ttl("victim"),
    lambda store: store.touch("victim", 5),
    lambda store: store.pop("victim"),
    lambda store: store.incr("victim"),
    lambda store: store.modify("victim", str),
    lambda store: store.compare_and_set("victim", "find me " * 10, 1),
    lambda store: store.setdefault("victim", 1),
    lambda store: store.get_or_set("victim", lambda: 1),
    lambda store: in_a_snapshot(store, lambda snapshot: snapshot["victim"]),
    lambda store: in_a_snapshot(store, dict),
    lambda store: in_a_transaction(store, lambda transaction: transaction["victim"]),
    lambda store: in_a_transaction(store, dict),
]


def test_a_damaged_value_is_an_error_that_names_its_key_and_leaves_the_others(filled):
    content = bytearray(filled.read_bytes())
    with kvstore.open(filled) as store:
        store["victim"] = "find me " * 10
    content = bytearray(filled.read_bytes())
    content[content.index(b"find me ") + 3] ^= 1
    filled.write_bytes(content)
    with kvstore.open(filled) as store:
        with pytest.raises(kvstore.CorruptRecordError, match="'victim'") as caught:
            store["victim"]
        assert caught.value.key == "victim"
        assert store["key 1"] == "x" * 200
        for read in DAMAGE_IS_MET_BY:
            with pytest.raises(kvstore.CorruptRecordError, match="'victim'"):
                read(store)
        assert [problem.key for problem in store.verify().problems] == ["victim"]
        assert store.delete("victim")
        assert store.verify().ok


# -- the system says no ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not")
def test_a_file_without_permission_says_who_may(filled):
    for folder in filled.parents[:3]:
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(0o755)
    program = (
        "import os, sys\nsys.path[:0] = sys.argv[2:]\nimport kvstore\n"
        # What opening needs is imported with the first store, and may be where nobody else may look.
        "kvstore.open(sys.argv[1]).close()\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try:\n    kvstore.open(sys.argv[1])\nexcept kvstore.StoreIOError as error:\n    print(error.errno, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(filled), *filter(None, sys.path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith(f"{errno.EACCES} "), done.stderr
    assert "open it as a user who may" in done.stdout


def test_a_full_disk_is_store_full_loses_nothing_and_reads_and_deletes_go_on(tmp_path):
    """A limit on the size of files is a full disk that needs no root; the short write looks the same to LMDB."""
    program = (
        "import resource, signal, sys, kvstore\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "store = kvstore.open(sys.argv[1])\n"
        "store['first'] = 1\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, resource.RLIM_INFINITY))\n"
        "written = 0\n"
        "try:\n"
        "    while True:\n"
        "        store[written] = 'x' * 10_000\n"
        "        written += 1\n"
        "except (kvstore.StoreFullError, kvstore.StoreIOError) as error:\n"
        "    print(type(error).__name__, written)\n"
        "assert store['first'] == 1\n"
        "assert all(store[number] == 'x' * 10_000 for number in range(written))\n"
        "assert written not in store\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "store.close()\n"
        "store = kvstore.open(sys.argv[1])\n"
        "assert len(store) == written + 1 and store.verify().ok\n"
        "assert store.delete(0)\n"
        "store['again'] = 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.kv")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("StoreFullError", "StoreIOError")), done.stdout


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"cache_size": -1}, ValueError),
        ({"cache_size": 1.5}, TypeError),
        ({"max_size": 10}, ValueError),
        ({"policy": "mru"}, ValueError),
        ({"policy": dict}, TypeError),
        ({"durability": "some"}, ValueError),
    ],
)
def test_options_that_make_no_sense_are_refused_and_nothing_stays_open(store_path, options, error):
    with pytest.raises(error):
        kvstore.open(store_path, **options)
    with kvstore.open(store_path) as store:
        assert len(store) == 0


def test_a_url_names_what_is_missing():
    with pytest.raises(kvstore.KvstoreError, match="redis"):
        kvstore.open("redis://localhost/0")


# -- files and their names -------------------------------------------------------------------------------------------


def test_a_new_store_is_its_owners_alone(store_path):
    old = os.umask(0)
    try:
        kvstore.open(store_path).close()
    finally:
        os.umask(old)
    assert {path.name: path.stat().st_mode & 0o777 for path in store_path.parent.iterdir()} == {
        store_path.name: 0o600,
        f"{store_path.name}-lock": 0o600,
        f"{store_path.name}-ring": 0o600,
    }


def test_a_store_is_never_made_through_a_symbolic_link(tmp_path):
    (tmp_path / "link.kv").symlink_to(tmp_path / "elsewhere.kv")
    with pytest.raises(kvstore.StoreFormatError, match="symbolic link"):
        kvstore.open(tmp_path / "link.kv")
    assert not (tmp_path / "elsewhere.kv").exists()


@pytest.mark.parametrize("suffix", ["-lock", "-ring"])
def test_a_companion_that_is_a_symbolic_link_is_refused(filled, tmp_path, suffix):
    companion = filled.with_name(filled.name + suffix)
    companion.unlink(missing_ok=True)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    companion.symlink_to(victim)
    with pytest.raises(kvstore.KvstoreError):
        kvstore.open(filled)
    assert victim.read_text() == "precious"


def test_two_names_of_one_file_are_one_store(filled, tmp_path):
    (tmp_path / "alias.kv").symlink_to(filled)
    with kvstore.open(filled) as store, kvstore.open(tmp_path / "alias.kv") as alias:
        store["a"] = 1
        assert alias["a"] == 1
        assert not (tmp_path / "alias.kv-lock").exists()


def test_a_file_that_was_replaced_under_an_open_handle_is_not_taken_for_the_old_one(filled):
    with kvstore.open(filled):
        filled.unlink()
        with pytest.raises(kvstore.KvstoreError):
            kvstore.open(filled)


def test_nothing_is_left_of_a_creation_that_fails(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EIO, "injected")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(kvstore.StoreIOError):
        kvstore.open(tmp_path / "a.kv")
    assert not list(tmp_path.iterdir())


# -- cost ------------------------------------------------------------------------------------------------------------


def test_read_transactions_do_not_outlive_a_call(filled):
    with kvstore.open(filled) as store:
        store.get_many(["key 1", "key 2"])
        list(store)
        len(store)
        assert store["key 3"]
        assert not store._engine.backend._env._is_being_read()
        rows = iter(store)
        next(rows)
        assert store._engine.backend._env._is_being_read()
        del rows
        assert not store._engine.backend._env._is_being_read()


def test_len_of_a_store_scans_nothing(filled, monkeypatch):
    from kvstore.backends.lmdb_read import ReadTxn

    with kvstore.open(filled) as store:

        def refuse(*_, **__):
            raise AssertionError("scanned")

        monkeypatch.setattr(ReadTxn, "scan", refuse)
        monkeypatch.setattr(ReadTxn, "scan_keys", refuse)
        assert len(store) == 500


def test_the_commit_cells_say_what_lmdb_says(filled):
    with kvstore.open(filled) as store:
        for number in range(10):
            store["a"] = number
            backend = store._engine.backend
            _, commit = backend.get("", b"\x02a")
            assert max(backend.commits[0][0], backend.commits[1][0]) == commit
