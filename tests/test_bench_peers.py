"""The comparison with peers: each adapter does what the benchmark asks of it; what they measure is measured elsewhere."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.children import environment
from bench.rows import NotMeasurableError
from bench_peers import measuring
from bench_peers.contenders import CONTENDERS
from bench_peers.measuring import Done, Standing, in_turn, rate, work
from bench_peers.peer import PAYLOADS, SMALL, Locked
from bench_peers.report import Table
from bench_peers.workloads import WORKLOADS, YCSB, Drawn


def stood(contender, place, payload=SMALL, records=50):
    """The contender, filled; skipped where its library or server is absent."""
    if payload.name == "512 floats":
        pytest.importorskip("numpy")
    try:
        return Standing(contender, place / "standing", payload, records=records)
    except NotMeasurableError as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=CONTENDERS, ids=str)
def contender(request):
    return request.param


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.name)
def test_a_contender_reads_what_was_written_in_one_and_in_many(contender, payload, tmp_path):
    standing = stood(contender, tmp_path, payload, records=5)
    peer, values = standing.peer, standing.values
    try:
        for key, value in zip(standing.keys, values, strict=False):
            assert list(peer.get(key)) == list(value)
        peer.set(standing.keys[0], values[9])
        assert list(peer.get(standing.keys[0])) == list(values[9])
    finally:
        peer.close()


def test_a_contender_deletes_scans_and_keeps_order_as_it_says(contender, tmp_path):
    standing = stood(contender, tmp_path)
    peer, keys = standing.peer, standing.keys
    try:
        if contender.ordered:
            assert [key for key, _ in peer.range(keys[7], 5)] == keys[7:12]
        if contender.scans:
            assert sorted(key for key, _ in peer.scan()) == keys
            peer.delete(keys[0])
            assert sorted(key for key, _ in peer.scan()) == keys[1:]
    finally:
        peer.close()


def test_what_was_in_a_contender_is_there_when_it_is_opened_again_where_it_says_so(contender, tmp_path):
    if not contender.reopens:
        pytest.skip("it says that it isn't")
    standing = stood(contender, tmp_path, records=5)
    try:
        standing.reopen()
        assert standing.peer.get(standing.keys[4]) == standing.values[4]
    finally:
        standing.peer.close()


@pytest.mark.parametrize("workload", [*WORKLOADS, *YCSB[3:5]], ids=lambda workload: workload.name)
def test_a_workload_leaves_the_records_that_it_found(workload, tmp_path):
    standing = stood(CONTENDERS[0], tmp_path)
    try:
        assert standing.alone(workload)(0.002) > 0
        assert sorted(key for key, _ in standing.peer.scan()) == standing.keys
        assert standing.threaded(WORKLOADS[0], 2)(0.002) > 0
    finally:
        standing.peer.close()


def test_operations_that_may_not_be_repeated_are_done_once_and_the_others_as_long_as_it_takes():
    once, again = [], []
    work(Drawn(range(10), once.extend, once=True), 60)
    assert once == list(range(10))
    work(Drawn(range(10), again.extend), 0.001)
    assert again[:12] == [*range(10), 0, 1]


def test_what_one_did_after_the_others_had_ended_does_not_count_as_done_beside_them():
    assert rate(Done(50, 10.0, 11.0)) == 50
    assert rate(Done(10, 10.0, 11.0), Done(30, 10.5, 14.0)) == 10


def test_a_thread_that_got_to_do_many_at_once_looks_at_the_clock_again_when_it_has_to_wait(monkeypatch):
    now, parts = [0.0], []
    monkeypatch.setattr(measuring.time, "monotonic", lambda: now[0])

    def steps(part):
        parts.append(len(part))
        now[0] += 0.0001 if len(parts) < 6 else 0.001 * len(part)

    assert work(Drawn(range(1000), steps), 0.2).end < 0.21
    assert parts[5] == 32
    assert max(parts[-10:]) <= 2


def test_a_contender_that_fails_has_its_reason_in_its_cell_and_the_others_their_rates():
    def fails(seconds):
        raise NotMeasurableError("no such counter")

    assert in_turn({"a": fails, "b": lambda seconds: 7.0}, rounds=2, seconds=0) == {"b": 7.0, "a": "no such counter"}


def test_a_table_shows_the_best_of_each_column_and_says_what_is_missing():
    table = Table("write", "/s")
    table.add("2 KB", {"kvstore": 1_000.0, "shelve": 2_000.0, "zict": "keeps no key order"})
    shown = table.markdown()
    assert "| kvstore | 1 k/s |" in shown
    assert "| shelve | **2 k/s** |" in shown
    assert "| zict | — |" in shown
    assert "- zict: keeps no key order." in shown


def test_a_lock_around_a_peer_hands_on_what_it_does(tmp_path):
    standing = stood(CONTENDERS[0], tmp_path)
    locked = Locked(standing.peer)
    locked.set("key", "value")
    assert locked.get("key") == standing.peer.get("key") == "value"
    locked.close()


def test_one_command_prints_the_report(tmp_path):
    command = [
        sys.executable,
        "-m",
        "bench_peers",
        "--quick",
        "--only",
        "ycsb",
        "--peers",
        "^(kvstore|py-lmdb) .flushed",
    ]
    done = subprocess.run(
        [*command, "--place", tmp_path], env=environment(), capture_output=True, text=True, check=True
    )
    assert "| kvstore (flushed) |" in done.stdout
    assert "| py-lmdb (flushed) |" in done.stdout
