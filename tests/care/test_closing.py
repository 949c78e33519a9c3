"""What a closed store lets go of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import kvstore
from kvstore import StoreClosedError


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's list of open files")
@pytest.mark.parametrize("used", [lambda store: None, lambda store: store.compact()], ids=["written", "compacted"])
def test_a_closed_store_has_no_file_open_though_it_is_kept(tmp_path, used):
    store = kvstore.open(tmp_path / "store.kv", durability="none")
    store["a"] = 1
    used(store)
    store.close()
    names = [
        os.readlink(f"/proc/self/fd/{number}")
        for number in os.listdir("/proc/self/fd")
        if number.isdigit() and os.path.lexists(f"/proc/self/fd/{number}")
    ]
    assert not [name for name in names if name.startswith(os.fspath(tmp_path))]
    assert os.fspath(tmp_path) not in Path("/proc/self/maps").read_text()
    with pytest.raises(StoreClosedError):
        store["a"]
