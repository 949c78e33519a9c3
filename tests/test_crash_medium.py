"""What the model of a medium takes for certain, and what not: on it rests what the tests of crash states prove."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.crash_states.journal import Journal
from tests.crash_states.medium import Medium, Pick, Rules
from tests.crash_states.trace import TraceError, parse

FOLDER = "/d"
A, B = "a" * 512, "b" * 512


def hexed(text):
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def opened(descriptor, name, flags="O_RDWR|O_CREAT"):
    path = hexed(f"{FOLDER}/{name}")
    return f'7 openat(AT_FDCWD<{hexed("/")}>, "{path}", {flags}, 0600) = {descriptor}<{path}>'


def on(descriptor, name):
    return f"{descriptor}<{hexed(f'{FOLDER}/{name}')}>"


def put(descriptor, name, data, offset):
    return f'7 pwrite64({on(descriptor, name)}, "{hexed(data)}", {len(data)}, {offset}) = {len(data)}'


def flush(descriptor, name):
    return f"7 fdatasync({on(descriptor, name)}) = 0"


FLUSH_FOLDER = f"7 fsync(9<{hexed(FOLDER)}>) = 0"


def moved(call, old, new):
    return f'7 {call}("{hexed(f"{FOLDER}/{old}")}", "{hexed(f"{FOLDER}/{new}")}") = 0'


def left(*lines, rules=None):
    """Every folder that a power cut at the end of these calls can leave."""
    journal = Journal(parse(lines), Path(FOLDER), Path("/marks"), {"old": b"." * 1024})
    *_, moment = Medium(journal, rules or Rules()).moments()
    found = []
    places = [(file, sector) for file, sector, _ in moment.unsettled]
    for versions in itertools.product(*(range(count + 1) for _, _, count in moment.unsettled)):
        for namings in itertools.product([False, True], repeat=len(moment.namings)):
            chosen = frozenset(number for number, there in enumerate(namings) if there)
            folder = moment.build(Pick(chosen, dict(zip(places, versions, strict=True))))
            if folder not in found:
                found.append(folder)
    return found


def contents(*lines, **how):
    return {folder["old"].decode() for folder in left(opened(3, "old", "O_RDWR"), *lines, **how)}


DOTS = "." * 512


def test_of_what_was_written_each_sector_may_be_there_or_not():
    assert contents(put(3, "old", A + B, 0)) == {DOTS + DOTS, A + DOTS, DOTS + B, A + B}


def test_what_was_flushed_is_there():
    assert contents(put(3, "old", A + B, 0), flush(3, "old")) == {A + B}


def test_of_what_was_written_twice_the_medium_may_have_either():
    assert contents(put(3, "old", A, 0), put(3, "old", B, 0)) == {DOTS + DOTS, A + DOTS, B + DOTS}
    assert contents(put(3, "old", A, 0), flush(3, "old"), put(3, "old", B, 0)) == {A + DOTS, B + DOTS}


def test_a_later_write_may_be_there_without_an_earlier_one():
    assert DOTS + B in contents(put(3, "old", A, 0), put(3, "old", B, 512))


def test_a_part_of_a_sector_is_there_with_what_was_in_the_rest_of_it_by_then():
    assert contents(put(3, "old", "x", 3)) == {DOTS + DOTS, "...x" + "." * 1020}
    assert contents(put(3, "old", A, 0), put(3, "old", "x", 0)) == {DOTS + DOTS, A + DOTS, "x" + A[1:] + DOTS}


def test_a_write_through_is_there_alone():
    through = opened(4, "old", "O_WRONLY|O_DSYNC|O_CLOEXEC")
    assert contents(put(3, "old", A, 0), through, put(4, "old", B, 512)) == {DOTS + B, A + B}


def test_a_duplicated_descriptor_writes_through_as_the_first_one_does():
    through = opened(4, "old", "O_WRONLY|O_DSYNC")
    copied = f"7 fcntl({on(4, 'old')}, F_DUPFD_CLOEXEC, 0) = {on(5, 'old')}"
    assert contents(through, copied, put(5, "old", B, 512)) == {DOTS + B}


def test_a_write_that_had_not_returned_when_a_flush_began_is_not_flushed():
    half = put(3, "old", A, 0).replace(") = 512", " <unfinished ...>").replace("7 ", "8 ", 1)
    rest = "8 <... pwrite64 resumed>) = 512"
    threads = "7 clone3({flags=CLONE_VM|CLONE_FILES|CLONE_THREAD}) = 8"
    assert contents(threads, half, rest, flush(3, "old")) == {A + DOTS}
    assert contents(threads, half, flush(3, "old"), rest) == {DOTS + DOTS, A + DOTS}
    # And a flush that has not returned has flushed nothing for certain.
    begun = f"8 fdatasync({on(3, 'old')} <unfinished ...>"
    assert contents(threads, put(3, "old", A, 0), begun) == {DOTS + DOTS, A + DOTS}


def test_a_flush_by_another_process_counts_too():
    theirs = opened(3, "old", "O_RDWR").replace("7 ", "9 ", 1)
    assert contents(put(3, "old", A, 0), theirs, flush(3, "old").replace("7 ", "9 ", 1)) == {A + DOTS}


def test_a_file_is_written_to_where_the_one_before_has_ended():
    seek = f"7 lseek({on(3, 'old')}, 512, SEEK_SET) = 512"
    vector = f'7 writev({on(3, "old")}, [{{iov_base="{hexed("x")}", iov_len=1}}, {{iov_base="{hexed("y")}", iov_len=1}}], 2) = 2'
    plain = f'7 write({on(3, "old")}, "{hexed("z")}", 1) = 1'
    assert contents(seek, vector, plain, flush(3, "old")) == {DOTS + "xyz" + "." * 509}


def test_names_are_certain_once_their_folder_was_flushed():
    made = [opened(3, "new"), put(3, "new", A, 0), flush(3, "new"), moved("link", "new", "other")]
    old = {"old": b"." * 1024}
    both = old | {"new": A.encode(), "other": A.encode()}
    assert left(*made, FLUSH_FOLDER) == [both]
    found = left(*made)
    assert all(folder in found for folder in (old, both, old | {"other": A.encode()}))


def test_a_rename_is_one_step():
    found = left(opened(3, "new"), put(3, "new", A, 0), flush(3, "new"), FLUSH_FOLDER, moved("rename", "new", "old"))
    assert found == [{"old": b"." * 1024, "new": A.encode()}, {"old": A.encode()}]


def test_a_name_may_be_certain_where_what_it_names_is_not():
    found = left(opened(3, "new"), put(3, "new", A, 0), FLUSH_FOLDER)
    assert {folder["new"] for folder in found} == {bytes(512), A.encode()}


def test_where_flushes_mean_nothing_nothing_is_certain():
    assert contents(put(3, "old", A, 0), flush(3, "old"), rules=Rules(flushes=False)) == {DOTS + DOTS, A + DOTS}


def test_where_sectors_are_torn_a_part_of_one_may_be_there():
    assert "a" * 64 + "." * 960 in contents(put(3, "old", "a" * 128, 0), rules=Rules(sector=64))


@pytest.mark.parametrize(
    "line",
    [
        f"7 ftruncate({on(3, 'old')}, 5) = 0",
        f"7 copy_file_range(4<{hexed('/elsewhere')}>, NULL, {on(3, 'old')}, NULL, 5, 0) = 5",
        opened(4, "old", "O_WRONLY|O_TRUNC"),
        moved("rename", "old", "folder/old"),
        f'7 truncate("{hexed("/d/old")}", 5) = 0',
        put(3, "old", A, 0).replace('", 512', '"..., 512'),
        put(8, "old", A, 0),
        "7 sync() = 0",
    ],
)
def test_what_the_harness_does_not_follow_is_an_error_and_not_passed_over(line):
    with pytest.raises(TraceError):
        contents(line)
