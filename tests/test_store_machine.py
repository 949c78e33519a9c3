"""A store against a dict, through any sequence of operations, closings and openings.

After every step both tiers are looked into: the file has what the dict has, and memory has nothing that a
fresh reader would not read from the file.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import kvstore
from tests import policies, strategies
from tests.mapping_contract import order, small_values, spoil
from tests.mapping_judge import Judge, outcome, steps_on
from tests.strategies import same
from tests.threads import PATIENCE_SECONDS
from tests.tiers import assert_books_balance, assert_memory_is_true

few_keys = st.sampled_from(("a", "b", "c", 1, -1, b"a", ("a", 1), "é")) | strategies.keys()
cache_sizes = st.sampled_from((0, 300, 1_000, 3_000, 2**20))
any_policy = st.sampled_from((*policies.NAMED, *policies.OWN))


def has_clock(store):
    """Whether the memory tier's policy may hold an entry for gone because of the time alone."""
    return isinstance(store._tier._policy._cache, policies.Brief)


class StoreMachine(RuleBasedStateMachine):
    """Two handles with memory and one without on one file, and a dict that does the same."""

    durability = "none"

    @initialize(size=cache_sizes, policy=any_policy)
    def begin(self, size, policy):
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "store.kv"
        self.judge = Judge()
        self.other = None
        self.fresh = None
        self.open(size, policy)

    def open(self, size, policy, *, warm=False):
        self.store = kvstore.open(self.path, durability=self.durability, cache_size=size, policy=policy, warm=warm)
        assert self.store.warmed(PATIENCE_SECONDS) == (warm and size > 0)
        self.fresh = kvstore.open(self.path, durability=self.durability, cache_size=0)

    # -- through the one handle or the other ------------------------------------------------------

    @rule(step=steps_on(few_keys))
    def take_a_step(self, step):
        assert outcome(self.store, step) == outcome(self.judge, step)

    @rule(step=steps_on(few_keys))
    @precondition(lambda self: self.other is not None)
    def take_a_step_with_the_other_handle(self, step):
        assert outcome(self.other, step) == outcome(self.judge, step)

    @rule()
    def read_everything(self):
        for key, value in self.judge.items():
            assert same(self.store[key], value)
        assert same(dict(self.store.get_many(self.judge)), dict(self.judge))

    @rule(data=st.data())
    @precondition(lambda self: self.judge)
    def change_what_was_read(self, data):
        key = data.draw(st.sampled_from(sorted(self.judge, key=order)))
        for found in (self.store[key], self.store.get_many([key])[key], self.store.setdefault(key, 1)):
            assert same(found, self.judge[key])
            spoil(found)

    @rule(key=few_keys, value=small_values())
    def change_what_was_written(self, key, value):
        self.store[key] = value
        # The dict must not share what is about to be spoilt.
        self.judge[key] = self.fresh[key]
        spoil(value)

    @rule()
    def scan(self):
        before = self.store.stats()
        order_before = list(self.store._front)
        assert [key for key, _ in self.store.scan()] == sorted(self.judge, key=order)
        assert list(self.store) == list(reversed(list(reversed(self.store))))
        assert len(self.store) == len(self.judge)
        assert list(self.store._front) == order_before
        after = self.store.stats()
        if has_clock(self.store):
            assert after.memory_bytes <= before.memory_bytes
            after = after.replaced(memory_bytes=before.memory_bytes)
        assert after == before

    # -- opening and closing ----------------------------------------------------------------------

    @rule(size=cache_sizes, policy=any_policy, warm=st.booleans())
    def close_everything_and_reopen(self, size, policy, warm):
        self.close()
        self.open(size, policy, warm=warm)

    @rule(policy=any_policy)
    def reopen_with_half_the_memory(self, policy):
        size = self.store.stats().cache_size // 2
        self.store.close()
        self.store = kvstore.open(self.path, durability=self.durability, cache_size=size, policy=policy)

    @rule(size=cache_sizes, policy=any_policy)
    @precondition(lambda self: self.other is None)
    def open_another_handle(self, size, policy):
        self.other = kvstore.open(self.path, durability=self.durability, cache_size=size, policy=policy)

    @rule()
    @precondition(lambda self: self.other is not None)
    def close_the_other_handle(self):
        self.other.close()
        self.other = None

    def close(self):
        for handle in (self.store, self.other, self.fresh):
            if handle is not None:
                handle.close()
        self.other = None

    def teardown(self):
        if self.fresh is not None:
            self.close()
            shutil.rmtree(self.folder)

    # -- after every step -------------------------------------------------------------------------

    @invariant()
    def the_file_has_what_the_dict_has(self):
        assert len(self.fresh) == len(self.judge)
        for key, value in self.judge.items():
            assert same(self.fresh[key], value)

    @invariant()
    def memory_has_nothing_that_the_file_has_not(self):
        for handle in (self.store, self.other):
            if handle is not None:
                assert_memory_is_true(handle, self.fresh)
                assert_books_balance(handle, has_clock=has_clock(handle))


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=settings.default.max_examples // 2, stateful_step_count=30)
