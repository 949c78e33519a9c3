"""Who writes to the log of changes, and whether it goes on.

Several in one process are as good as several processes, for their locks are.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from kvstore import companion as companion_module
from kvstore import keys
from kvstore.companion import _QUEUE_BYTE, Companion
from kvstore.errors import KvstoreError, StoreBusyError
from tests.rings import STORE, change
from tests.threads import PATIENCE_SECONDS, until


@pytest.fixture
def companions(tmp_path):
    """Makes companions of one store."""
    made = []

    def make():
        made.append(Companion(str(tmp_path / "store.kv-ring"), STORE))
        return made[-1]

    yield make
    for companion in made:
        companion.close()


@pytest.fixture(params=["lock_writing", "try_lock_writing"])
def lock(request):
    """A way to the write lock, which makes a writer of a companion."""

    def lock(companion):
        assert getattr(companion, request.param)(*[None][: request.param == "lock_writing"]) is not False

    return lock


def test_an_entry_counts_until_its_writer_ends(companions, lock):
    writer, reader = companions(), companions()
    lock(writer)
    writer.changes.publish(5, [change("a")])
    writer.unlock_writing()
    assert reader.between(4, 5) == writer.between(4, 5) == [change("a")]
    writer.changes.writer = 0
    writer.end_writer()
    assert reader.between(4, 5) is writer.between(4, 5) is None
    lock(writer)
    assert reader.between(4, 5) is writer.between(4, 5) is None
    writer.changes.publish_one(5, keys.encode("b"))
    assert reader.between(4, 5) == writer.between(4, 5) == [change("b")]


def test_each_writer_is_another_one(companions, lock):
    numbers = set()
    for _ in range(5):
        companion = companions()
        lock(companion)
        numbers.add(companion.changes.writer)
        companion.unlock_writing()
    assert len(numbers) == 5


def test_an_entry_of_a_writer_that_died_does_not_count_under_the_next_one(companions, lock):
    dying, next_, reader = companions(), companions(), companions()
    lock(dying)
    dying.changes.publish(5, [change("a")])
    dying.close(settle=False)
    assert reader.between(4, 5) is None
    lock(next_)
    assert reader.between(4, 5) is next_.between(4, 5) is None


def test_what_a_writer_has_published_is_told_after_it_has_closed(companions, lock):
    writer, reader = companions(), companions()
    lock(writer)
    writer.changes.publish(5, [change("a"), change("b" * 300)])
    writer.close()
    assert reader.between(4, 5) == [change("a"), change("b" * 300)]


def is_queueing(holder):
    """Whether anybody else holds the queue's byte."""
    if holder._lock(_QUEUE_BYTE, 0):
        holder._unlock(_QUEUE_BYTE)
        return False
    return True


def test_who_waits_for_the_write_lock_is_not_overtaken(companions, lock):
    holder, waiting = companions(), companions()
    lock(holder)
    with ThreadPoolExecutor(1) as pool:
        had = pool.submit(waiting.lock_writing, PATIENCE_SECONDS)
        until(lambda: is_queueing(holder))
        holder.unlock_writing()
        assert not holder.try_lock_writing()
        had.result(PATIENCE_SECONDS)
        waiting.unlock_writing()
    assert holder.try_lock_writing()


def test_the_first_to_open_a_store_forgets_what_the_ring_knew(companions, lock):
    first = companions()
    lock(first)
    first.changes.publish(5, [change("a")])
    second = companions()
    assert second.between(4, 5) == [change("a")]
    first.close()
    assert second.between(4, 5) == [change("a")]
    second.close()
    assert companions().between(4, 5) is None


def test_who_has_lost_the_name_of_its_ring_is_never_alone(companions, tmp_path):
    """Who comes then makes another ring, and finds itself alone as well."""
    companion = companions()
    with companion.alone():
        pass
    (tmp_path / "store.kv-ring").unlink()
    for _ in range(2):
        with pytest.raises(StoreBusyError, match="is not there"), companion.alone():
            pass
        companions()


@pytest.mark.parametrize("there", [True, False])
def test_a_ring_is_neither_made_nor_opened_through_a_link(companions, tmp_path, there):
    """Exchanged for one since the store's opening has looked at it."""
    victim = tmp_path / "victim"
    if there:
        victim.write_bytes(b"precious")
    (tmp_path / "store.kv-ring").symlink_to(victim)
    with pytest.raises(KvstoreError):
        companions()
    assert victim.exists() == there
    assert not there or victim.read_bytes() == b"precious"


@pytest.fixture
def clock(monkeypatch):
    """Time passes as it is slept."""
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(companion_module, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    return now


def test_who_waits_in_the_queue_waits_for_the_lock_as_long_as_is_left_of_his_time(companions, clock, monkeypatch):
    holder, before, waiting = companions(), companions(), companions()
    holder.lock_writing(0)
    assert before._lock(_QUEUE_BYTE, 0)
    sleep = companion_module.time.sleep

    def sleep_until_the_queue_moves(seconds):
        sleep(seconds)
        if clock[0] > 0.6:
            before._unlock(_QUEUE_BYTE)

    monkeypatch.setattr(companion_module.time, "sleep", sleep_until_the_queue_moves)
    with pytest.raises(StoreBusyError, match=r"for 1\.0 seconds"):
        waiting.lock_writing(1.0)
    assert 1.0 <= clock[0] < 1.1


def test_a_lease_is_waited_for_as_long_as_is_said(companions, clock):
    holder, waiting = companions(), companions()
    assert holder.lock_lease(b"key", 0)
    assert not waiting.lock_lease(b"key", 1.0)
    assert 1.0 <= clock[0] < 1.1
