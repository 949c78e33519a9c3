"""Inputs that nobody wrote: what decodes them refuses them, or they are what it says; none takes long, or much memory."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.fuzz.mutator import inputs
from tests.fuzz.targets import TARGETS

QUICK = {"pages": 200, "hot-list": 1_000, "ring": 3_000}


@pytest.fixture(scope="module")
def targets():
    made = {name: make() for name, make in TARGETS.items()}
    yield made
    for target in made.values():
        target.close()


def fuzzed(*arguments, module="tests.fuzz"):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tools"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_nearly_right_is_refused_or_holds(targets, name):
    for data in itertools.islice(inputs(targets[name].samples, seed=1), QUICK.get(name, 5_000)):
        targets[name].run(data)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_or_hold(targets, name, data):
    targets[name].run(data)


def test_the_same_seed_makes_the_same_inputs():
    one, other, another = (list(itertools.islice(inputs([b"abc", b"defg"], seed), 50)) for seed in (1, 1, 2))
    assert one == other != another


def test_what_fails_is_told_with_the_input_that_it_fails_at(targets, monkeypatch):
    from tests.fuzz import __main__ as program

    def refuse(data):
        raise LookupError("found")

    monkeypatch.setattr(targets["key"], "run", refuse)
    monkeypatch.setitem(TARGETS, "key", lambda: targets["key"])
    with pytest.raises(LookupError) as caught:
        program.fuzz("key", 10, seed=3)
    assert caught.value.__notes__[0].startswith("key, seed 3, input 0: ")


@pytest.mark.torture
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("name", TARGETS)
def test_a_million_inputs_neither_crash_nor_hang_nor_grow(name):
    sys.stdout.write(fuzzed(name))


@pytest.mark.torture
@pytest.mark.timeout(3_600)
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris, which the extra `fuzz` has")
@pytest.mark.parametrize("name", ["record", "key", "dump", "ring"])
def test_inputs_that_coverage_leads_to_are_refused_or_hold(name):
    fuzzed(name, "-runs=200000", "-max_len=4096", "-rss_limit_mb=1024", "-timeout=10", module="tests.fuzz.guided")
