"""Every system call of every operation fails once: the store says so, loses nothing, and goes on or says what to do."""

from __future__ import annotations

import shutil
import sys

import pytest

from tests import faulty
from tests.faulty_operations import OPERATIONS

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None, reason="needs Linux, and gcc for what stands before libc"
)

GROUPS = {
    "records": ["set", "set of a large value", "delete", "get_or_set", "set_many", "transaction", "load", "expire"],
    "reading": ["get, hit", "get, miss", "get_many", "iteration", "stats", "backup", "dump"],
    "the file": ["creation", "second handle", "compact", "close"],
}


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    return faulty.build(tmp_path_factory.mktemp("shim"))


def assert_survives(found):
    wrong = {operation: outcome["wrong"] for operation, outcome in found.items() if outcome["wrong"]}
    assert not wrong, "\n".join(f"{operation}: {line}" for operation, lines in wrong.items() for line in lines)


@pytest.mark.parametrize("operations", GROUPS.values(), ids=GROUPS)
def test_an_operation_of_which_any_system_call_fails_is_done_or_not_and_nothing_else_is_lost(
    shim, tmp_path, operations
):
    found = faulty.survey(shim, tmp_path, ["EIO"], operations)
    assert_survives(found)
    assert found.keys() == set(operations)
    if not any(name.startswith("get") for name in operations):
        # Each of them does call the system, and hears of it where that refuses.
        assert all(sum(outcome["calls"].values()) for outcome in found.values())


def test_however_a_call_fails_the_operation_is_done_or_not(shim, tmp_path):
    assert_survives(faulty.survey(shim, tmp_path, ["ENOSPC", "short", "EIO afterwards"], ["set_many"]))


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_survives_every_kind_of_failure_of_every_call(shim, tmp_path, operation, record_property):
    found = faulty.survey(shim, tmp_path, list(faulty.MORE_KINDS), [operation])
    record_property("faults", sum(found[operation]["calls"].values()))
    assert_survives(found)


def test_any_sequence_of_operations_with_calls_that_fail_among_them_agrees_with_a_dict(shim):
    said = faulty.with_faults(shim, "tests.faulty_machine", "5")
    assert int(said.split()[0]) > 0


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_long_sequences_of_operations_with_calls_that_fail_among_them_agree_with_a_dict(shim):
    said = faulty.with_faults(shim, "tests.faulty_machine", "1000")
    assert int(said.split()[0]) > 1_000
