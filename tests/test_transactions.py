"""Transactions: all or nothing over any namespaces. (Inside, the mapping contract: test_mapping.)"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvstore
from kvstore import StoreBusyError, StoreClosedError, StoreFullError, TransactionError
from kvstore.backends import lmdb_write
from tests.mapping_contract import contents, shared_out
from tests.mapping_judge import Judge, outcome, steps_on
from tests.other_process import with_store
from tests.strategies import same
from tests.threads import PATIENCE_SECONDS, at_once, switching_often, until
from tests.tiers import assert_books_balance, assert_memory_is_true, in_memory


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store


@pytest.fixture
def fresh(store_path, store):
    """A reader without memory."""
    with kvstore.open(store_path, durability="none", cache_size=0) as fresh:
        yield fresh


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A path whose store is held open, so that opening another handle is cheap."""
    path = tmp_path_factory.mktemp("transactions") / "store.kv"
    with kvstore.open(path, cache_size=0, durability="none"):
        yield path


def commits_of(store):
    return max(cell[0] for cell in store._engine.backend.commits)


# -- however much it changes -----------------------------------------------------------------------


WAYS_TO_CHANGE_MANY = {
    "one by one": lambda tx, numbers: [tx.set(number, "new") for number in numbers],
    "together": lambda tx, numbers: tx.set_many(dict.fromkeys(numbers, "new")),
    "by halves": lambda tx, numbers: [
        tx.set_many(dict.fromkeys(half, "new")) for half in (numbers[:200], numbers[200:])
    ],
    "deleting": lambda tx, numbers: [tx.delete(number) for number in numbers],
}


@pytest.mark.parametrize("change", WAYS_TO_CHANGE_MANY.values(), ids=WAYS_TO_CHANGE_MANY)
def test_what_is_noted_of_a_transaction_is_bounded_and_memory_is_true_all_the_same(store, fresh, monkeypatch, change):
    monkeypatch.setattr(lmdb_write, "_MOST_CHANGES", 100)
    with kvstore.open(store._engine.identity, durability="none") as other:
        handles = [(handle, handle.namespace("n"), handle.namespace("untouched")) for handle in (store, other)]
        for space in handles[0]:
            space.set_many(dict.fromkeys(range(400), "old"))
        for space in (*handles[0], *handles[1]):
            assert space[1] == space[399] == "old"
        with store.transaction() as tx:
            change(tx, range(400))
            change(tx.namespace("n"), range(400))
            assert len(tx._open_txn().changed) <= 100
        for here, named, untouched in handles:
            assert here.get(399) == named.get(399) == fresh.get(399) != "old"
            assert 1 in untouched._front
        for handle in (store, other):
            assert_memory_is_true(handle, fresh)
            assert_books_balance(handle)


# -- all or nothing --------------------------------------------------------------------------------


def change_everything(tx):
    """Every kind of write, in three spaces."""
    tx["a"] = "new"
    tx.set_many({"b": [1], "new": {"x": 1}})
    tx.incr("n")
    tx.modify("list", lambda found: [*found, 4])
    tx.compare_and_set("text", "old", "swapped")
    tx.touch("touched", 1_000)
    assert tx.pop("popped") == [1]
    assert tx.delete("deleted")
    tx.namespace("old").clear()
    tx.namespace("old").add("again", 1)
    tx.namespace("new").setdefault("k", [5])
    tx.namespace("gone").popitem()


BEFORE = {
    "": {"a": 1, "n": 1, "list": [3], "text": "old", "touched": "t", "popped": [1], "deleted": {"d": 1}},
    "old": {"x": [1], "y": 2},
    "gone": {"only": 1},
}
AFTER = {
    "": {
        "a": "new",
        "b": [1],
        "new": {"x": 1},
        "n": 2,
        "list": [3, 4],
        "text": "swapped",
        "touched": "t",
    },
    "old": {"again": 1},
    "new": {"k": [5]},
}


def spaces(store):
    """All records of a store, or of what looks like one, by namespace."""
    names = ("", *store.namespaces())
    return {name: dict((store.namespace(name) if name else store).items()) for name in names}


@pytest.fixture
def filled(store):
    """The store with records in three spaces, and all of them in memory."""
    for name, items in BEFORE.items():
        space = store.namespace(name) if name else store
        space.set_many(items)
        assert space.get_many(items) == items
    return store


def test_the_end_of_the_block_commits_everything_at_once(filled, fresh):
    commits = commits_of(filled)
    with filled.transaction() as tx:
        change_everything(tx)
        assert spaces(fresh) == spaces(filled) == BEFORE
        assert dict(filled.get_many(BEFORE[""])) == BEFORE[""]
        assert filled["a"] == 1
    assert spaces(fresh) == spaces(filled) == AFTER
    assert commits_of(filled) == commits + 1
    assert filled.ttl("touched") == pytest.approx(1_000, abs=PATIENCE_SECONDS)
    assert filled.get_many(AFTER[""]) == AFTER[""]
    assert filled.get_many(BEFORE[""].keys() - AFTER[""].keys()) == {}
    assert_memory_is_true(filled, fresh)
    assert_books_balance(filled)


def test_what_a_transaction_has_written_is_in_memory_afterwards(store):
    with store.transaction() as tx:
        tx.set_many({"a": 1, "b": [2]})
        tx.namespace("n")["c"] = {"x": 3}
    assert [store["a"], store["b"], store.namespace("n")["c"]] == [1, [2], {"x": 3}]
    assert store.stats().misses == 0


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, StoreBusyError, GeneratorExit])
def test_an_exception_rolls_everything_back_and_memory_shows_nothing_of_it(filled, fresh, error):
    commits, in_memory_before = commits_of(filled), list(in_memory(filled))
    assert len(in_memory_before) == sum(map(len, BEFORE.values()))
    with pytest.raises(error), filled.transaction() as tx:
        change_everything(tx)
        raise error
    assert spaces(fresh) == spaces(filled) == BEFORE
    assert commits_of(filled) == commits
    assert list(in_memory(filled)) == in_memory_before
    filled["a"] = "goes on"
    assert filled["a"] == fresh["a"] == "goes on"


def test_a_transaction_without_a_write_commits_nothing(filled):
    commits = commits_of(filled)
    with filled.transaction() as tx:
        assert tx["a"] == 1
        assert tx.delete("none") is False
        assert tx.namespace("none").get("a") is None
    assert commits_of(filled) == commits


def test_reads_see_the_transactions_own_writes(filled):
    with filled.transaction() as tx:
        change_everything(tx)
        found = {name: dict((tx.namespace(name) if name else tx).items()) for name in AFTER}
        assert found == AFTER
        assert tx.get_many(["a", "popped", "b"]) == {"a": "new", "b": [1]}
        assert "deleted" not in tx
        assert len(tx) == len(AFTER[""])
        assert list(reversed(tx)) == sorted(AFTER[""], reverse=True)
        assert tx.ttl("touched") > 0
        assert tx.ttl("a") is None
        assert list(tx.scan_keys(prefix="t")) == ["text", "touched"]
        assert len(tx.namespace("gone")) == 0


two_spaces = st.sampled_from(("", "n"))
few_keys = st.sampled_from(("a", "b", "c", 1, ("a", 1)))


@shared_out
@given(steps=st.lists(st.tuples(two_spaces, steps_on(few_keys)), max_size=20), commits=st.booleans())
def test_any_steps_in_a_transaction_leave_memory_true(place, steps, commits):
    with (
        kvstore.open(place, durability="none") as store,
        kvstore.open(place, durability="none", cache_size=0) as fresh,
    ):
        store.clear()
        store.drop_namespace("n")
        store.set_many({"a": [1], "b": 2})
        judges = {"": Judge(store), "n": Judge()}
        before = {name: contents(judge) for name, judge in judges.items()}
        with contextlib.suppress(ZeroDivisionError), store.transaction() as tx:
            for name, step in steps:
                space = tx.namespace(name) if name else tx
                assert outcome(space, step) == outcome(judges[name], step)
            if not commits:
                raise ZeroDivisionError
        expected = {name: contents(judge) for name, judge in judges.items()} if commits else before
        for reader in (fresh, store):
            assert {"": contents(reader), "n": contents(reader.namespace("n"))} == expected
        for key in ("a", "b", "c", 1, ("a", 1)):
            for name in ("", "n"):
                one, other = (handle.namespace(name) if name else handle for handle in (store, fresh))
                assert same(one.get_many([key]), other.get_many([key]))
        assert_memory_is_true(store, fresh)
        assert_books_balance(store)


@pytest.mark.parametrize(
    "undo",
    [
        lambda space: space.__delitem__("a"),
        lambda space: space.pop("a"),
        lambda space: space.popitem(),
        lambda space: space.clear(),
        lambda space: space.delete_many(["a"]),
    ],
    ids=["del", "pop", "popitem", "clear", "delete_many"],
)
@pytest.mark.parametrize("name", ["", "n"])
def test_what_is_written_and_removed_again_is_not_there(store, undo, name):
    with store.transaction() as tx:
        space = tx.namespace(name) if name else tx
        space["a"] = [1]
        undo(space)
    assert (store.namespace(name) if name else store).get("a") is None


# -- one call that fails ---------------------------------------------------------------------------


@pytest.mark.parametrize("first_of_its_space", [True, False])
def test_a_call_that_fails_is_undone_alone(store_path, first_of_its_space):
    with kvstore.open(store_path, durability="none", max_size=500_000) as store:
        with store.transaction() as tx:
            tx["before"] = 1
            space = tx.namespace("n")
            if not first_of_its_space:
                space["there"] = 0
            with pytest.raises(StoreFullError):
                space.set_many({"large": bytes(490_000), "small": 1})
            assert "small" not in space
            with pytest.raises(TypeError):
                tx.incr("before", "1")
            with pytest.raises(ZeroDivisionError):
                tx.modify("before", lambda _: 1 / 0)
            space["after"] = [2]
            tx["after"] = 3
        with kvstore.open(store_path, durability="none", max_size=500_000, cache_size=0) as fresh:
            expected = {"": {"before": 1, "after": 3}, "n": {"after": [2]}}
            if not first_of_its_space:
                expected["n"]["there"] = 0
            assert spaces(fresh) == spaces(store) == expected
            assert store.namespace("n").get_many(["large", "small", "after"]) == {"after": [2]}
            assert_memory_is_true(store, fresh)


# -- order -----------------------------------------------------------------------------------------

EVERY_USE = {
    "[]": lambda tx: tx["a"],
    "get": lambda tx: tx.get("a"),
    "in": lambda tx: "a" in tx,
    "len": len,
    "list": list,
    "reversed": lambda tx: list(reversed(tx)),
    "items": lambda tx: list(tx.items()),
    "scan": lambda tx: list(tx.scan()),
    "get_many": lambda tx: tx.get_many(["a"]),
    "ttl": lambda tx: tx.ttl("a"),
    "a list": lambda tx: list(tx.list("a")),
    "a list's end": lambda tx: len(tx.list("a")),
    "a set": lambda tx: 1 in tx.set_of("a"),
    "structures": lambda tx: list(tx.structures()),
}
EVERY_WRITE = {
    "set": lambda tx: tx.set("a", 1),
    "[]=": lambda tx: tx.__setitem__("a", 1),
    "del": lambda tx: tx.__delitem__("a"),
    "add": lambda tx: tx.add("a", 1),
    "pop": lambda tx: tx.pop("a"),
    "popitem": lambda tx: tx.popitem(),
    "setdefault": lambda tx: tx.setdefault("a", 1),
    "set_many": lambda tx: tx.set_many({"a": 1}),
    "update": lambda tx: tx.update(a=1),
    "delete": lambda tx: tx.delete("a"),
    "delete_many": lambda tx: tx.delete_many(["a"]),
    "clear": lambda tx: tx.clear(),
    "incr": lambda tx: tx.incr("n"),
    "compare_and_set": lambda tx: tx.compare_and_set("a", 1, 2),
    "modify": lambda tx: tx.modify("a", lambda found: found),
    "touch": lambda tx: tx.touch("a", 5),
    "expire": lambda tx: tx.expire(),
    "get_or_set": lambda tx: tx.get_or_set("none", int),
    "append": lambda tx: tx.list("a").append(1),
    "a set's add": lambda tx: tx.set_of("b").add(1),
}


@pytest.mark.parametrize("use", [*EVERY_USE, *EVERY_WRITE])
def test_a_transaction_is_used_in_its_block_by_its_thread_and_nowhere_else(filled, use):
    call = (EVERY_USE | EVERY_WRITE)[use]
    tx = filled.transaction()
    inside = tx.namespace("old")
    for mapping in (tx, inside):
        with pytest.raises(TransactionError, match="with"):
            call(mapping)
    with tx:
        for mapping in (tx, inside):
            with ThreadPoolExecutor(1) as pool, pytest.raises(TransactionError, match="thread"):
                pool.submit(call, mapping).result(PATIENCE_SECONDS)
        tx["done"] = 1
    for mapping in (tx, inside):
        with pytest.raises(TransactionError, match="with"):
            call(mapping)
    assert spaces(filled) == {**BEFORE, "": {**BEFORE[""], "done": 1}}


def test_a_transaction_is_used_once(store):
    tx = store.transaction()
    with tx:
        tx["a"] = 1
        with pytest.raises(TransactionError):
            tx.__enter__()
        tx["b"] = 2
    with pytest.raises(TransactionError, match="once"), tx:
        pytest.fail("it began again")
    assert dict(store) == {"a": 1, "b": 2}


def test_an_iterator_ends_with_its_transaction(store):
    store.set_many((number, number) for number in range(1_000))
    with store.transaction() as tx:
        iterators = [iter(tx), iter(tx.items()), reversed(tx)]
        for iterator in iterators:
            next(iterator)
    for iterator in iterators:
        with pytest.raises(TransactionError):
            list(iterator)


def test_a_second_transaction_in_the_same_thread_is_an_error_and_the_first_goes_on(store):
    with store.transaction() as tx:
        tx["a"] = 1
        with pytest.raises(TransactionError, match="transaction"), store.transaction():
            pytest.fail("it began")
        with pytest.raises(TransactionError):
            store.run(lambda inner: inner.set("b", 2))
        tx["c"] = 3
    assert dict(store) == {"a": 1, "c": 3}


@pytest.mark.parametrize("use", EVERY_WRITE)
def test_the_stores_own_writes_inside_a_transaction_are_an_error_and_it_goes_on(filled, fresh, use):
    expected = spaces(filled)
    with filled.transaction() as tx:
        tx["first"] = 1
        for handle in (filled, fresh):
            with pytest.raises(TransactionError, match="transaction"):
                EVERY_WRITE[use](handle)
        tx["last"] = 2
    expected[""] |= {"first": 1, "last": 2}
    assert spaces(filled) == expected


@pytest.mark.parametrize(
    "use",
    [
        lambda store, _: store.compact(),
        lambda store, _: store.verify(),
        lambda store, _: store.drop_namespace("old"),
        lambda store, _: store.import_records([], merge=True),
        lambda store, _: store.expire(),
        lambda store, _: store.close(),
    ],
    ids=["compact", "verify", "drop_namespace", "import_records", "expire", "close"],
)
def test_what_needs_the_writers_place_is_an_error_inside_a_transaction(filled, store_path, use):
    with filled.transaction() as tx:
        tx["first"] = 1
        with pytest.raises(TransactionError, match="transaction"):
            use(filled, tx)
        tx["last"] = 2
    assert filled.get_many(["first", "last"]) == {"first": 1, "last": 2}
    filled.close()
    with kvstore.open(store_path) as again:
        assert again.get_many(["first", "last"]) == {"first": 1, "last": 2}


def test_reads_of_the_store_inside_a_transaction_show_what_was_committed(filled, fresh):
    with filled.transaction() as tx:
        change_everything(tx)
        for reader in (filled, fresh):
            assert reader["a"] == 1
            assert len(reader) == len(BEFORE[""])
            assert spaces(reader) == BEFORE
            with reader.snapshot() as snapshot:
                assert spaces(snapshot) == BEFORE


def test_other_writers_wait_until_it_ends(store):
    with ThreadPoolExecutor(2) as pool:
        with store.transaction() as tx:
            tx["a"] = [1]
            tx["n"] = 1
            later = [pool.submit(store.set, "a", [2]), pool.submit(store.incr, "n")]
            until(lambda: len(store._engine.committer._waiting) == 2)
            assert not any(future.done() for future in later)
            assert tx["a"] == [1]
        assert [future.result(PATIENCE_SECONDS) for future in later] == [None, 2]
    assert dict(store) == {"a": [2], "n": 2}
    assert store["a"] == [2]


def test_transactions_of_many_threads_follow_one_another(store):
    accounts = store.namespace("accounts")
    accounts.set_many(dict.fromkeys("abcd", 100))
    store["moves"] = 0
    done = threading.Event()

    def move(seed):
        for step in range(25):
            source, target = "abcd"[(seed + step) % 4], "abcd"[(seed * step) % 4]
            with contextlib.suppress(ZeroDivisionError), store.transaction() as tx:
                inside = tx.namespace("accounts")
                inside[source] -= step
                inside[target] += step
                tx["moves"] += 1
                if step % 5 == 0:
                    raise ZeroDivisionError

    def watch():
        while not done.is_set():
            with store.snapshot() as snapshot:
                assert sum(snapshot.namespace("accounts").values()) == 400
            assert sum(accounts.get_many("abcd").values()) == 400

    def move_all():
        try:
            at_once(*(lambda seed=seed: move(seed) for seed in range(6)))
        finally:
            done.set()

    with switching_often():
        at_once(move_all, watch, watch)
    assert store["moves"] == 6 * 20
    assert sum(accounts.values()) == 400


def test_closing_waits_for_the_transaction_of_another_thread(store, store_path):
    with ThreadPoolExecutor(1) as pool:
        with store.transaction() as tx:
            closing = pool.submit(store.close)
            tx["a"] = 1
        closing.result(PATIENCE_SECONDS)
    with pytest.raises(StoreClosedError):
        store.get("a")
    with kvstore.open(store_path) as again:
        assert again["a"] == 1


def test_a_readonly_store_has_no_transactions(filled, store_path):
    with kvstore.open(store_path, readonly=True) as reader:
        with pytest.raises(kvstore.ReadOnlyError):
            reader.transaction()
        with reader.snapshot() as snapshot:
            assert spaces(snapshot) == BEFORE


# -- iterating while writing -----------------------------------------------------------------------


@pytest.mark.parametrize("many", [0, 1, 255, 256, 257, 511, 512, 513, 1_000])
def test_iterating_steps_over_any_number_of_keys(store, many):
    with store.transaction() as tx:
        tx.set_many({number: [number] for number in range(many)})
        assert list(tx) == list(tx.keys()) == list(range(many))
        assert list(reversed(tx)) == list(range(many))[::-1]
        assert list(tx.items()) == [(number, [number]) for number in range(many)]
        assert list(tx.values()) == [[number] for number in range(many)]
        assert list(tx.scan_keys(start=3, stop=600, reverse=True)) == list(range(3, min(many, 600)))[::-1]
        assert list(tx.scan_keys(limit=300)) == list(range(many))[:300]


def test_the_longest_keys_are_stepped_over(store):
    keys = [bytes([1 + number // 250, 1 + number % 250]).ljust(510, b"\xff") for number in range(600)]
    with store.transaction() as tx:
        tx.set_many(dict.fromkeys(keys, 1))
        assert list(tx) == sorted(keys)
        assert list(reversed(tx)) == sorted(keys, reverse=True)


def test_every_value_may_be_replaced_while_iterating(store):
    with store.transaction() as tx:
        tx.set_many(dict.fromkeys(range(1_000), 0))
        for key, value in tx.items():
            tx[key] = value + 1
    assert set(store.values()) == {1}


def test_every_key_may_be_removed_while_iterating(store):
    with store.transaction() as tx:
        tx.set_many(dict.fromkeys(range(1_000), 0))
        for key in tx:
            del tx[key]
        assert len(tx) == 0
    assert dict(store) == {}


@pytest.mark.parametrize("reverse", [False, True])
def test_an_iteration_gives_each_key_that_stays_once_and_in_order(store, reverse):
    with store.transaction() as tx:
        tx.set_many(dict.fromkeys(range(0, 3_000, 3), 0))
        seen = []
        for key in tx.scan_keys(reverse=reverse):
            seen.append(key)
            if len(seen) == 10:
                tx.set_many(dict.fromkeys(range(1, 3_000, 3), 0))
                tx.delete_many(range(0, 3_000, 30))
        assert seen == sorted(set(seen), reverse=reverse)
        stayed = {key for key in range(0, 3_000, 3) if key % 30}
        assert stayed <= set(seen) <= set(range(3_000))
        # What was written far ahead is met.
        assert (1 if reverse else 2_998) in seen


# -- store.run -------------------------------------------------------------------------------------


def test_run_gives_the_functions_result_once_it_is_durable(store, fresh):
    assert store.run(lambda tx: tx.incr("n", 5)) == 5
    assert fresh["n"] == 5


def test_run_rolls_back_and_lets_an_exception_through_at_once(store):
    calls = []

    def function(tx):
        calls.append(1)
        tx["a"] = 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.run(function)
    assert calls == [1]
    assert dict(store) == {}


@pytest.mark.parametrize(("attempts", "busy", "calls"), [(3, 2, 3), (3, 3, 3), (1, 1, 1), (5, 0, 1)])
def test_run_tries_again_where_the_store_is_busy(store, attempts, busy, calls):
    made = []

    def function(tx):
        made.append(1)
        tx.incr("n")
        if len(made) <= busy:
            raise StoreBusyError
        return "done"

    if busy < attempts:
        assert store.run(function, attempts=attempts) == "done"
        assert dict(store) == {"n": 1}
    else:
        with pytest.raises(StoreBusyError):
            store.run(function, attempts=attempts)
        assert dict(store) == {}
    assert len(made) == calls


def test_run_needs_an_attempt(store):
    with pytest.raises(ValueError, match="attempts"):
        store.run(lambda tx: None, attempts=0)


# -- other processes -------------------------------------------------------------------------------


def test_what_waits_for_another_processs_transaction_gives_up_in_time(store_path, store):
    store["a"] = [1]
    with with_store(store_path, durability="none") as other:
        other("tx = store.transaction(); tx.__enter__(); tx['a'] = 'theirs'")
        with pytest.raises(StoreBusyError, match="timeout"), store.transaction(timeout=0.01):
            pytest.fail("it began")
        with pytest.raises(StoreBusyError):
            store.run(lambda _: pytest.fail("it began"), attempts=2, timeout=0.01)
        with kvstore.open(store_path, durability="none", timeout=0.01) as hasty:
            for use, write in EVERY_WRITE.items():
                with contextlib.suppress(KeyError), pytest.raises(StoreBusyError):
                    write(hasty)
                assert hasty.get_many("ab") == {"a": [1]}, use
            with pytest.raises(StoreBusyError), hasty.transaction():
                pytest.fail("it began")
            with pytest.raises(StoreBusyError):
                hasty.import_records([], merge=True)
        with ThreadPoolExecutor(1) as pool:
            patient = pool.submit(store.run, lambda tx: tx["a"], timeout=PATIENCE_SECONDS)
            other("tx.__exit__(None, None, None)")
            assert patient.result(PATIENCE_SECONDS) == "theirs"


def test_a_transaction_waits_for_another_threads_no_longer_than_its_timeout(store):
    with ThreadPoolExecutor(1) as pool, store.transaction() as tx:
        tx["a"] = 1
        waiting = pool.submit(store.run, lambda _: pytest.fail("it began"), attempts=1, timeout=0.01)
        assert isinstance(waiting.exception(5), StoreBusyError)
    assert dict(store) == {"a": 1}


def test_a_transaction_sees_what_another_process_has_made_since(store_path, store):
    store["mine"] = 1
    with with_store(store_path, durability="none") as other:
        other("store.namespace('theirs').set_many({number: [number] for number in range(300)})")
        other("store['also'] = 2")
        with store.transaction() as tx:
            theirs = tx.namespace("theirs")
            assert len(theirs) == 300
            assert list(theirs) == list(range(300))
            assert dict(tx) == {"mine": 1, "also": 2}
            assert theirs.popitem() == (0, [0])
            theirs[1] = "mine"
        assert other("store.namespace('theirs').get_many([0, 1, 2])") == {1: "mine", 2: [2]}
        other("store.namespace('more')['a'] = 1")
        with store.transaction() as tx:
            tx.namespace("more").clear()
        assert other("store.namespaces()") == ["theirs"]


def test_the_transaction_of_a_process_that_was_killed_is_gone_and_holds_nobody_up(store_path, store):
    store["a"] = [1]
    with with_store(store_path, durability="none") as other:
        other("tx = store.transaction(); tx.__enter__(); tx['a'] = 'theirs'; tx.namespace('n')['b'] = 1")
        other.kill()
    with store.transaction(timeout=PATIENCE_SECONDS) as tx:
        assert tx["a"] == [1]
        tx["b"] = 2
    assert spaces(store) == {"": {"a": [1], "b": 2}}
