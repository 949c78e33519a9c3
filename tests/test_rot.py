"""Bit rot: whatever a medium makes of a store's file, no value is wrong, and verifying survives it and names what is damaged.

``-s`` shows what came of how many damages, which is what docs/reliability.md tells.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections import Counter

import pytest

from tests import rot

# Where LMDB is led astray itself, see docs/reliability.md.
DEADLY = {"SIGSEGV", "SIGBUS", "SIGABRT"}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "store.kv"
    rot.build(path)
    return path


@pytest.fixture(scope="module")
def examine(sample, tmp_path_factory):
    copy = tmp_path_factory.mktemp("examined") / "store.kv"
    shutil.copy(sample, copy)
    examiner = rot.Examiner(copy)
    yield examiner
    examiner.close()


def judged(found):
    """What came of one damage, for who reads and for ``verify``; nothing may be worse than promised."""
    assert "raised" not in found, found
    stage = found["stage"][-1]
    assert found["died"] is None or (found["died"] in DEADLY and stage in {"read", "scan", "len", "write"}), found
    if stage == "open":
        return f"not opened: {found['error'][0]}", "not opened"
    (kinds,), (covered,), (strangers,) = (found[name] for name in ("kinds", "covered", "strangers"))
    bad = dict(zip(found.get("key", ()), found.get("read", ()), strict=True))
    for key, outcome in bad.items():
        assert outcome != "wrong", found
        renamed = outcome == "missing" and strangers
        assert key in covered or renamed, (key, found)
    assert kinds or not (bad or found["died"] or "write" in found or "scan" in found or "len" in found), found
    verdict = "+".join(kinds) or "no problems"
    if found["died"] and stage != "write":
        return f"killed by {found['died']}", verdict
    outcomes = {*bad.values(), *(f"scan: {outcome}" for outcome in found.get("scan", ()))}
    outcomes |= {f"len: {outcome}" for outcome in found.get("len", ())}
    # The worst of several, which is the one that is told.
    order = ["earlier", "missing", "scan: incomplete", "scan: endless", "CorruptRecordError", "StoreCorruptError"]
    return next((name for name in order if name in outcomes), "+".join(sorted(outcomes)) or "right"), verdict


def written(found):
    """What came of the writes that followed."""
    if "write" not in found["stage"]:
        return "not tried"
    return f"killed by {found['died']}" if found["died"] else "an error" if "write" in found else "done"


def shown(title, outcomes):
    lines = [f"{count:6} {' | '.join(what)}" for what, count in sorted(outcomes.items())]
    sys.stdout.write("\n".join(["", title, *lines, ""]))


def flip(data, bit):
    return [(bit // 8, bytes([data[bit // 8] ^ 1 << bit % 8]))]


def test_of_a_sound_file_everything_is_right(examine):
    assert judged(examine([])) == ("right", "no problems")


FULL = pytest.param(620, marks=pytest.mark.torture)


@pytest.mark.parametrize("region", ["anywhere", *rot.REGIONS])
@pytest.mark.parametrize("count", [12, FULL])
def test_a_flipped_bit_is_harmless_or_an_error_and_what_it_damages_is_named(sample, examine, region, count):
    data = sample.read_bytes()
    places = range(len(data)) if region == "anywhere" else rot.Regions(data).of[region]
    rng = random.Random(f"{region} {count}")
    outcomes = Counter()
    for _ in range(count):
        bit = rng.choice(places) * 8 + rng.randrange(8)
        found = examine(flip(data, bit))
        outcomes[judged(found)] += 1
        outcomes["and writes", written(found)] += 1
    shown(f"{count} bits of {region}", outcomes)
    assert not any(outcome == "earlier" for outcome, _ in outcomes)


@pytest.mark.parametrize("count", [10, pytest.param(500, marks=pytest.mark.torture)])
@pytest.mark.parametrize("harm", ["zeroed", "random", "swapped"])
def test_a_page_that_is_lost_is_an_error_and_what_was_in_it_is_named(sample, examine, harm, count):
    data = sample.read_bytes()
    size = rot.Regions(data).page_size
    rng = random.Random(f"{harm} {count}")
    outcomes = Counter()
    for _ in range(count):
        one, other = rng.sample(range(len(data) // size), 2)
        pages = {page: data[page * size : (page + 1) * size] for page in (one, other)}
        new = {"zeroed": bytes(size), "random": rng.randbytes(size), "swapped": pages[other]}[harm]
        patches = [(one * size, new)]
        if harm == "swapped":
            patches.append((other * size, pages[one]))
        found = examine(patches)
        outcomes[judged(found)] += 1
        outcomes["and writes", written(found)] += 1
    shown(f"{count} pages {harm}", outcomes)


@pytest.mark.parametrize(
    "inside",
    [(0,), pytest.param((0, 1, 15, 16, 17, 100, 2_048, 4_088, 4_095), marks=pytest.mark.torture)],
    ids=["pages", "bytes"],
)
def test_a_file_that_is_cut_off_is_an_error_wherever_it_ends(sample, examine, inside):
    whole = sample.stat().st_size
    size = rot.Regions(sample.read_bytes()).page_size
    outcomes = Counter()
    lengths = [page + more for page in range(0, whole, size) for more in inside]
    for number, length in enumerate(lengths):
        found = examine([], length)
        outcomes[judged(found)] += 1
        assert found["stage"] == ["open"]
        if number % 8 and number < len(lengths) - 3:
            continue
        readonly = examine([], length, "run_readonly")
        assert (readonly["died"], readonly["error"]) == (None, found["error"])
        command = examine([], length, "run_command")
        assert (command["died"], command["code"]) == (None, [1])
        assert any(word in command["shown"][0] for word in ("cut off", "is empty", "not a kvstore file"))
    shown("cut off", outcomes)


def test_the_command_names_what_is_damaged_and_lives(sample, examine):
    data = sample.read_bytes()
    regions = rot.Regions(data)
    for page in regions.pages[::3]:
        command = examine([(page * regions.page_size, bytes(regions.page_size))], way="run_command")
        assert (command["died"], command["code"]) == (None, [1])
        assert any(word in command["shown"][0] for word in ("structure: ", "is damaged"))
