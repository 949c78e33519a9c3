"""A file system that is really full: an error that says so, nothing lost, and it goes on when there is room again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests import small_disk
from tests.conftest import ROOT


def on_a_small_disk(kind, folder):
    """What ``small_disk`` has found, with namespaces of its own where this user can't mount."""
    folder.mkdir(exist_ok=True)
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    allowed = subprocess.run(
        [*alone, "mount", "-t", "tmpfs", "none", folder], capture_output=True, text=True, check=False
    )
    if allowed.returncode:
        pytest.skip(f"mounting isn't permitted here: {allowed.stderr.strip()}")
    done = subprocess.run(
        [*alone, sys.executable, "-m", "tests.small_disk", kind, folder],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "failed to setup loop device" in done.stderr or "mount: " in done.stderr:
        pytest.skip(f"mounting isn't permitted here: {done.stderr.strip().splitlines()[0]}")
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("unshare") is None, reason="needs Linux's namespaces")
@pytest.mark.parametrize("kind", ["tmpfs", pytest.param("ext4", marks=pytest.mark.torture)])
def test_on_a_full_disk_nothing_is_lost_and_the_store_goes_on_when_there_is_room(tmp_path, kind):
    if kind == "ext4" and (os.geteuid() != 0 or shutil.which("mkfs.ext4") is None):
        pytest.skip("needs mkfs.ext4, and root for a loop device")
    found = on_a_small_disk(kind, tmp_path / "small")
    # A dump is a file of the user's own.
    rounds = len(small_disk.ROOMS[kind])
    assert found["OSError"] == rounds
    assert found["StoreFullError"] == (len(small_disk.OPERATIONS) - 1) * rounds
    assert found["sets until it was full"] > 100
