"""Everything at once: two handles and a second process on one store, with transactions, snapshots, namespaces and expiry,
under a clock that the test moves; and dicts that do the same.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from functools import cache
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import kvstore
from kvstore import StoreBusyError, TransactionError
from kvstore.backends import lmdb_env
from tests.mapping_judge import Judge, steps_on
from tests.other_process import OtherProcess
from tests.strategies import fingerprint, same
from tests.threads import PATIENCE_SECONDS
from tests.tiers import assert_books_balance, assert_memory_is_true

SPACES = ("", "n", "m")
OVERWRITING = {"__setitem__", "set", "set_many", "update"}

keys = st.sampled_from(("a", "b", 1, ("a", 1)))
spaces = st.sampled_from(SPACES)
handles = st.sampled_from(("store", "second"))
actors = handles | st.just("other")
sizes = st.sampled_from((0, 600, 2_000, 2**20))
ttls = st.sampled_from((None, 1, 5, 20))

# Such as another process can tell of in Python's own words.
scalars = st.none() | st.booleans() | st.integers() | st.text("aé", max_size=3) | st.binary(max_size=3)
values = (
    scalars
    | st.lists(scalars, max_size=3)
    | st.dictionaries(st.text("ab", max_size=1), st.lists(scalars, max_size=2), max_size=2)
)
steps = steps_on(keys, values)
ends = st.tuples(st.sampled_from(("set", "add", "touch")), keys, values, ttls)

SERVANT = """
import kvstore
now = [0]

def within(name, tx):
    source = store if tx is None else tx
    return source.namespace(name) if name else source

def attempt(mapping, name, arguments, options={}):
    try:
        return "gives", getattr(mapping, name.split()[0])(*arguments, **options)
    except KeyError:
        return "raises", None

def everything(names):
    return {name: dict((store.namespace(name) if name else store).items()) for name in names}
"""


@cache
def servant():
    """The second process, for all the runs: starting one takes longer than a run."""
    return OtherProcess(SERVANT)


def attempt(mapping, name, arguments, options=MappingProxyType({})):
    """What a step gives, or that it finds no key."""
    try:
        return "gives", getattr(mapping, name.split()[0])(*arguments, **options)
    except KeyError:
        return "raises", None


def within(source, name):
    return source.namespace(name) if name else source


class Model:
    """A dict for each space, and when its records end."""

    def __init__(self):
        self.items = {name: Judge() for name in SPACES}
        self.ends = {name: {} for name in SPACES}

    def take(self, name, step):
        """Take a step on a space."""
        operation, arguments = step
        outcome = attempt(self.items[name], *copy.deepcopy(step))
        if operation in OVERWRITING:
            written = [arguments[0]] if len(arguments) == 2 else [key for key, _ in arguments[0]]
            for key in written:
                self.ends[name].pop(key, None)
        self.tidy()
        return outcome

    def tidy(self, now=0.0):
        """Let go of what is over, and of the ends of what is gone."""
        for name, items in self.items.items():
            for key, end in list(self.ends[name].items()):
                if end <= now:
                    items.pop(key, None)
                if key not in items:
                    del self.ends[name][key]

    def contents(self):
        return {name: {key: fingerprint(value) for key, value in items.items()} for name, items in self.items.items()}


class SharedStoreMachine(RuleBasedStateMachine):
    """What each actor does to the store, the model does."""

    @initialize(size=sizes, second=sizes)
    def begin(self, size, second):
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "store.kv"
        self.now = 1_000.0
        self.model = Model()
        self.snapshots = []
        self.writer = self.tx = self.pending = None
        self.handles = {"store": self.opened(size), "second": self.opened(second), "fresh": self.opened(0)}
        self.other = None
        self.open_the_other()

    def opened(self, size, *, warm=False):
        store = kvstore.open(self.path, durability="none", cache_size=size, clock=lambda: self.now, warm=warm)
        assert store.warmed(PATIENCE_SECONDS) == (warm and size > 0)
        return store

    def open_the_other(self):
        self.other = servant()
        self.other(f"now[0] = {self.now}")
        self.other(
            f"store = kvstore.open({str(self.path)!r}, durability='none', cache_size=3_000, clock=lambda: now[0])"
        )
        self.other("tx = None")

    def do(self, actor, name, step):
        """Have an actor take a step, inside the transaction where he has one."""
        if actor == "other":
            return self.other(f"attempt(within({name!r}, tx), *{step!r})")
        source = self.tx if actor == self.writer else self.handles[actor]
        return attempt(within(source, name), *copy.deepcopy(step))

    def may_write(self, actor):
        """The model that the actor's writes go to; None where he would wait for another one's transaction, or has left."""
        if actor == "other" and self.other is None:
            return None
        if self.writer is None:
            return self.model
        return self.pending if actor == self.writer else None

    def agree(self, actor, name, step):
        model = self.may_write(actor)
        if model is not None:
            given, expected = self.do(actor, name, step), model.take(name, step)
            assert given[0] == expected[0]
            assert same(given[1], expected[1])

    # -- steps ------------------------------------------------------------------------------------

    @rule(actor=actors, name=spaces, taken=st.lists(steps, min_size=1, max_size=5))
    def take_steps(self, actor, name, taken):
        for step in taken:
            self.agree(actor, name, step)

    @rule(actor=actors, name=spaces, given=st.lists(ends, min_size=1, max_size=4))
    def give_ends(self, actor, name, given):
        model = self.may_write(actor)
        if model is None:
            return
        for how, key, value, ttl in given:
            there = key in model.items[name]
            arguments = (key,) if how == "touch" else (key, value)
            expected = {"set": None, "add": not there, "touch": there}[how]
            assert self.do(actor, name, (how, arguments, {"ttl": ttl})) == ("gives", expected)
            if expected is False:
                continue
            if how != "touch":
                model.items[name][key] = copy.deepcopy(value)
            model.ends[name].pop(key, None)
            if ttl is not None:
                model.ends[name][key] = self.now + ttl

    @rule(actor=actors, name=spaces, delta=st.integers(-5, 5))
    def count(self, actor, name, delta):
        model = self.may_write(actor)
        if model is not None:
            total = model.items[name].get("count", 0) + delta
            assert self.do(actor, name, ("incr", ("count", delta))) == ("gives", total)
            model.items[name]["count"] = total

    @rule(actor=handles, name=spaces)
    def read_everything(self, actor, name):
        expected = self.model.items[name]
        space = within(self.handles[actor], name)
        assert same(space.get_many(expected), dict(expected))
        for key, value in expected.items():
            assert same(space[key], value)

    @rule()
    @precondition(lambda self: self.other is not None and self.writer is None)
    def the_other_process_sees_the_same(self):
        """Not during a transaction: its first iteration over a namespace that it has not met waits for that to end."""
        found = self.other(f"everything({SPACES!r})")
        assert {
            name: {k: fingerprint(v) for k, v in items.items()} for name, items in found.items()
        } == self.model.contents()

    @rule(actor=handles, name=st.sampled_from(("n", "m")))
    @precondition(lambda self: self.writer is None)
    def drop_a_namespace(self, actor, name):
        dropped = self.handles[actor].drop_namespace(name)
        # It may have had what is over and not purged.
        assert dropped or not self.model.items[name]
        self.model.items[name].clear()
        self.model.tidy()

    # -- time -------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((0.5, 1, 3, 10, 100)))
    def time_passes(self, seconds):
        self.now += seconds
        if self.other is not None:
            self.other(f"now[0] = {self.now}")
        for model in filter(None, (self.model, self.pending, *(model for _, model in self.snapshots))):
            model.tidy(self.now)

    @rule(actor=handles)
    @precondition(lambda self: self.writer is None)
    def purge(self, actor):
        assert self.handles[actor].expire() >= 0
        assert self.handles[actor].stats().records == sum(map(len, self.model.items.values()))

    # -- transactions and snapshots ---------------------------------------------------------------

    @rule(actor=actors)
    @precondition(lambda self: self.writer is None)
    def begin_a_transaction(self, actor):
        if actor == "other":
            if self.other is None:
                return
            self.other("tx = store.transaction(); tx.__enter__(); None")
        else:
            self.tx = self.handles[actor].transaction()
            self.tx.__enter__()
        self.writer, self.pending = actor, copy.deepcopy(self.model)

    @rule(commits=st.booleans())
    @precondition(lambda self: self.writer is not None)
    def end_the_transaction(self, commits):
        kind = None if commits else ZeroDivisionError
        if self.writer == "other":
            self.other(f"tx.__exit__({kind and kind.__name__}, None, None); tx = None")
        else:
            assert not self.tx.__exit__(kind, kind and kind(), None)
        if commits:
            self.model = self.pending
        self.writer = self.tx = self.pending = None

    @rule(actor=handles)
    @precondition(lambda self: len(self.snapshots) < 2 and self.writer != "other")
    def take_a_snapshot(self, actor):
        """Not during another process's transaction: where there is a namespace that is new to this one, it waits for its end."""
        self.snapshots.append((self.handles[actor].snapshot(), copy.deepcopy(self.model)))

    @rule()
    @precondition(lambda self: self.snapshots)
    def close_a_snapshot(self):
        self.snapshots.pop(0)[0].close()

    @invariant()
    def snapshots_are_of_their_moment(self):
        for snapshot, model in self.snapshots if hasattr(self, "snapshots") else ():
            for name, items in model.items.items():
                assert same(dict(within(snapshot, name)), {key: items[key] for key in within(snapshot, name)})
                assert len(within(snapshot, name)) == len(items)

    # -- opening, closing and compacting ----------------------------------------------------------

    @rule(actor=handles, size=sizes, warm=st.booleans())
    @precondition(lambda self: self.writer is None and not self.snapshots)
    def reopen(self, actor, size, warm):
        self.handles[actor].close()
        self.handles[actor] = self.opened(size, warm=warm)

    @rule(leaves=st.sampled_from((True, False, False, False)))
    @precondition(lambda self: self.writer != "other")
    def the_other_process_leaves_or_comes_back(self, leaves):
        if self.other is None:
            self.open_the_other()
        elif leaves:
            self.other("store.close()")
            self.other = None

    @rule(actor=handles)
    def compact(self, actor):
        before = lmdb_env._QUIESCE_SECONDS
        lmdb_env._QUIESCE_SECONDS = 0.01
        try:
            if self.writer in self.handles:
                with pytest.raises(TransactionError):
                    self.handles[actor].compact()
            elif self.other is not None or self.snapshots:
                with pytest.raises(StoreBusyError):
                    self.handles[actor].compact()
            else:
                self.handles[actor].compact()
        finally:
            lmdb_env._QUIESCE_SECONDS = before

    def teardown(self):
        if not hasattr(self, "handles"):
            return
        if self.writer is not None:
            self.end_the_transaction(commits=True)
        for snapshot, _ in self.snapshots:
            snapshot.close()
        report = self.handles["store"].verify()
        if self.other is not None:
            self.other("store.close()")
        for handle in self.handles.values():
            handle.close()
        shutil.rmtree(self.folder)
        assert report.ok

    # -- after every step -------------------------------------------------------------------------

    @invariant()
    def the_file_has_what_the_dicts_have(self):
        fresh = self.handles["fresh"]
        found = {name: {k: fingerprint(v) for k, v in within(fresh, name).items()} for name in SPACES}
        assert found == self.model.contents()
        assert [len(within(fresh, name)) for name in SPACES] == [len(items) for items in self.model.items.values()]

    @invariant()
    def a_transaction_sees_its_own_writes(self):
        if self.tx is not None:
            found = {name: {k: fingerprint(v) for k, v in within(self.tx, name).items()} for name in SPACES}
            assert found == self.pending.contents()

    @invariant()
    def memory_has_nothing_that_the_file_has_not(self):
        for actor in ("store", "second"):
            assert_memory_is_true(self.handles[actor], self.handles["fresh"])
            assert_books_balance(self.handles[actor])


TestSharedStore = SharedStoreMachine.TestCase
TestSharedStore.settings = settings(max_examples=settings.default.max_examples // 2, stateful_step_count=50)


@pytest.fixture(scope="module", autouse=True)
def _the_servant_leaves_with_the_last_test():
    yield
    with servant():
        servant.cache_clear()
