"""Under a mixed load by four processes, on a store that is full, nothing piles up. As long as ``KVSTORE_SOAK_SECONDS`` says."""

from __future__ import annotations

import os

import pytest

from tests import soak

SECONDS = float(os.environ.get("KVSTORE_SOAK_SECONDS", "60"))

pytestmark = [
    pytest.mark.torture,
    pytest.mark.timeout(SECONDS * 2 + 120),
    pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the figures are those of Linux's /proc"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return soak.soak(tmp_path_factory.mktemp("soak") / "store.kv", SECONDS)


def halves(report):
    """Of each process: what it had in the second quarter, and in the last."""
    return [(soak.quarter(samples, 2), soak.quarter(samples, 4)) for samples in report.samples]


def test_the_store_was_full_and_in_use(report):
    assert all(samples[-1].operations > 1_000 for samples in report.samples)
    assert sum(samples[-1].full for samples in report.samples) > 0


def test_memory_is_flat(report):
    for before, after in halves(report):
        assert soak.median(after, "rss") < soak.median(before, "rss") * 1.05 + (4 << 20)


def test_the_tier_is_full_and_within_its_bound(report):
    for samples in report.samples:
        assert all(sample.tier <= soak.CACHE_SIZE for sample in samples)
    for samples in report.samples[1:]:
        assert soak.median(soak.quarter(samples, 4), "tier") > 0.9 * soak.CACHE_SIZE


def test_the_file_is_flat_and_within_its_bound(report):
    for samples in report.samples:
        assert all(sample.file <= soak.MAX_SIZE for sample in samples)
    for before, after in halves(report):
        assert soak.median(after, "file") <= soak.median(before, "file") * 1.02


def test_the_hit_rate_is_steady(report):
    for before, after in halves(report)[1:]:
        assert soak.hit_rate(after) == pytest.approx(soak.hit_rate(before), abs=0.05)


def test_no_descriptor_and_no_thread_is_leaked(report):
    for before, after in halves(report):
        for field in ("descriptors", "threads"):
            assert max(getattr(sample, field) for sample in after) <= max(getattr(sample, field) for sample in before)


def test_no_reader_slot_is_leaked(report):
    # Each thread has one at the most, and so has whatever thread of the library's own reads.
    assert max(report.slots) <= soak.PROCESSES * (soak.THREADS + 4)
    assert report.slots_left == 0


def test_what_is_left_is_sound(report):
    assert report.problems == []
