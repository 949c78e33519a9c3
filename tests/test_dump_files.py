"""Files for dumps: compressed by name, replaced whole or not at all."""

from __future__ import annotations

import contextlib
import io
import lzma
import os
import stat
import subprocess
import threading
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.dump import packed, reading, unpacked, writing
from kvstore.dump_files import BROKEN_STREAM

NAMES = ["d.jsonl", "d.jsonl.gz", "d.jsonl.xz"]
LINES = b"".join(b'{"line":%d}\n' % number for number in range(20_000))


def pack(data, name):
    file = io.BytesIO()
    with packed(file, name) as stream:
        stream.write(data)
    return file.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read(tmp_path, name):
    with writing(tmp_path / name) as stream:
        stream.write(LINES)
    with reading(tmp_path / name) as stream:
        assert stream.readline() == b'{"line":0}\n'
        assert stream.read() == LINES[11:]


@pytest.mark.parametrize(("name", "program"), [("d.gz", "gzip"), ("d.xz", "xz")])
def test_the_usual_programs_read_and_write_the_same_files(tmp_path, name, program):
    with writing(tmp_path / name) as stream:
        stream.write(LINES)
    done = subprocess.run([program, "-dc", tmp_path / name], capture_output=True, check=True)
    assert done.stdout == LINES
    theirs = subprocess.run([program, "-9c"], input=LINES, capture_output=True, check=True).stdout
    assert unpacked(io.BytesIO(theirs), name).read() == LINES


@pytest.mark.parametrize("name", NAMES)
def test_equal_bytes_make_equal_files(tmp_path, name):
    for path in (tmp_path / "a" / name, tmp_path / "other" / name):
        path.parent.mkdir()
        with writing(path) as stream:
            stream.write(LINES)
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


@pytest.mark.parametrize("name", ["d.gz", "d.xz"])
def test_a_stream_that_is_cut_off_is_noticed_wherever_it_is_cut(name):
    whole = pack(b"some lines\n" * 50, name)
    for length in range(1, len(whole)):
        with pytest.raises(BROKEN_STREAM):
            unpacked(io.BytesIO(whole[:length]), name).read()


@pytest.mark.parametrize("name", ["d.gz", "d.xz"])
@given(data=st.data())
def test_a_damaged_stream_gives_the_same_bytes_or_one_of_the_errors(name, data):
    original = b"some lines\n" * 50
    whole = bytearray(pack(original, name))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(BROKEN_STREAM):
        assert unpacked(io.BytesIO(bytes(whole)), name).read() == original


def test_xz_that_something_follows_is_refused():
    with pytest.raises(lzma.LZMAError):
        unpacked(io.BytesIO(pack(b"a", "d.xz") + b"x"), "d.xz").read()


def test_xz_that_asks_for_a_gigabyte_of_memory_is_refused():
    greedy = bytearray(pack(b"a", "d.xz"))
    # The block header: its size, flags, LZMA2, one byte of properties, the dictionary's, padding, a CRC32.
    assert greedy[12:16] == bytes([2, 0, 0x21, 1])
    greedy[16] = 36
    greedy[20:24] = zlib.crc32(greedy[12:20]).to_bytes(4, "little")
    with pytest.raises(lzma.LZMAError, match="Memory usage limit"):
        unpacked(io.BytesIO(bytes(greedy)), "d.xz").read()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_there_only_when_all_of_it_is(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"the old one")

    def interrupted():
        with writing(path) as stream:
            stream.write(LINES)
            assert path.read_bytes() == b"the old one"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"the old one"
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_new_file_can_be_read_by_its_owner_alone(tmp_path):
    with writing(tmp_path / "d.jsonl") as stream:
        stream.write(b"secret")
    assert stat.S_IMODE((tmp_path / "d.jsonl").stat().st_mode) == 0o600


def test_a_replaced_file_keeps_its_mode_and_the_link_to_it(tmp_path):
    (tmp_path / "d.jsonl").touch(0o640)
    (tmp_path / "link").symlink_to("d.jsonl")
    with writing(tmp_path / "link") as stream:
        stream.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "d.jsonl").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "d.jsonl").stat().st_mode) == 0o640


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    with writing(path) as stream:
        stream.write(LINES)
    reader.join()
    assert got == [LINES]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_directory_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError), writing(tmp_path / "no" / "d.jsonl"):
        pass
    with pytest.raises(IsADirectoryError), writing(tmp_path):
        pass
