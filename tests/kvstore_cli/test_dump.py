"""kvstore dump"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import pty
from subprocess import PIPE

import pytest

import kvstore
from kvstore import dump


def whole(path, **options):
    stream = io.BytesIO()
    with kvstore.open(path, readonly=True) as store:
        dump.write(store, stream, **options)
    return stream.getvalue()


def test_a_dump_goes_to_standard_output(run, filled):
    assert run("dump", filled) == (0, whole(filled), "")
    assert run("dump", filled, "-").out == whole(filled)


@pytest.mark.parametrize(("name", "read"), [("d", bytes), ("d.gz", gzip.decompress), ("d.jsonl.xz", lzma.decompress)])
def test_a_dump_goes_to_a_file_compressed_by_its_name(run, filled, tmp_path, name, read):
    assert run("dump", filled, tmp_path / name) == (0, b"", "")
    assert read((tmp_path / name).read_bytes()) == whole(filled)


def test_a_prefix_dumps_some_of_the_keys(run, filled):
    assert run("dump", filled, "--prefix", "b/").out == whole(filled, prefix="b/")
    assert run("dump", filled, "--prefix", '["u"]', "-j").out == whole(filled, prefix=("u",))


def test_the_store_itself_is_no_target(fails, filled, tmp_path):
    before = filled.read_bytes()
    (tmp_path / "link").symlink_to(filled)
    assert "TARGET" in fails("dump", filled, filled, code=2)
    assert "TARGET" in fails("dump", filled, tmp_path / "link", code=2)
    assert "TARGET" in fails("dump", filled, f"{filled}-lock", code=2)
    assert filled.read_bytes() == before


def test_a_dump_that_fails_leaves_the_file_as_it_was(fails, run, large, tmp_path):
    target = tmp_path / "dumps" / "d.jsonl"
    target.parent.mkdir()
    target.write_text("the old one")
    assert "max_line" in fails("dump", large, target, "--max-line", "100")
    assert target.read_text() == "the old one"
    assert list(target.parent.iterdir()) == [target]


def test_a_damaged_record_is_an_error_that_names_its_key(fails, store_path, tmp_path):
    with kvstore.open(store_path) as store:
        store.set_many({"before": 1, "damaged": "needle in the file", "later": 2})
    store_path.write_bytes(store_path.read_bytes().replace(b"needle", b"noodle"))
    assert "damaged" in fails("dump", store_path, tmp_path / "d.jsonl")
    assert not (tmp_path / "d.jsonl").exists()


def on_terminal(start, *arguments, **options):
    """What the command writes to a terminal as its stderr."""
    ours, theirs = pty.openpty()
    process = start(*arguments, stderr=theirs, **options)
    os.close(theirs)
    written = b""
    while process.poll() is None or written:
        try:
            piece = os.read(ours, 1000)
        except OSError:  # Linux's way to say that all of it has come
            break
        written += piece
    os.close(ours)
    assert process.wait() == 0
    return written.decode()


@pytest.mark.parametrize("command", ["dump", "load"])
def test_progress_is_shown_on_a_terminal(start, large, tmp_path, command):
    (tmp_path / "d.jsonl").write_bytes(whole(large))
    arguments = {"dump": (large, tmp_path / "new.jsonl"), "load": (tmp_path / "new.kv", tmp_path / "d.jsonl")}
    written = on_terminal(start, command, *arguments[command])
    assert written.endswith("20,000 records\r\n")
    assert "%" in written


def test_no_progress_is_shown_where_the_dump_itself_is(start, filled):
    ours, theirs = pty.openpty()
    process = start("dump", filled, stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert process.wait() == 0
    assert os.read(ours, 10_000).replace(b"\r\n", b"\n") == whole(filled)
    os.close(ours)


@pytest.mark.parametrize("command", ["dump", "load"])
def test_no_progress_is_shown_in_a_pipe(start, large, tmp_path, command):
    (tmp_path / "d.jsonl").write_bytes(whole(large))
    arguments = {"dump": (large, tmp_path / "new.jsonl"), "load": (tmp_path / "new.kv", tmp_path / "d.jsonl")}
    process = start(command, *arguments[command], stdout=PIPE, stderr=PIPE)
    assert process.communicate() == (b"", b"")
    assert process.returncode == 0


def test_every_line_is_json(run, filled):
    lines = [json.loads(line) for line in run("dump", filled).lines]
    assert lines[-1]["count"] == len(lines) - 2 == 6


def test_namespaces_and_ends_travel(run, spaced, tmp_path):
    data = run("dump", spaced).out
    lines = [json.loads(line) for line in data.splitlines()]
    assert lines[0]["namespaces"] == ["", "n", "é m"]
    assert [(line["ns"], line["key"], line["expires"] is None) for line in lines[1:-1]] == [
        ("", "a", True),
        ("n", "a", True),
        ("n", "b", False),
        ("n", 5, True),
        ("é m", "a", False),
    ]
    assert run("load", tmp_path / "copy.kv", stdin=data).code == 0
    assert run("dump", tmp_path / "copy.kv").out == data
    assert run("verify", tmp_path / "copy.kv").lines == ["5 records, no problems"]


def test_one_namespace_may_be_dumped_alone(run, fails, spaced):
    assert run("dump", spaced, "-n", "n").out == whole(spaced, namespace="n")
    assert run("dump", spaced, "--namespace", "n", "--prefix", "b").out == whole(spaced, namespace="n", prefix="b")
    assert run("dump", spaced, "--namespace", "").out == whole(spaced, namespace="")
    assert fails("dump", spaced, "-n", "typo") == 'no such namespace: "typo"'
