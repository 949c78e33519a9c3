"""Memoized functions: what is a call, what is kept of it, and what is forgotten."""

from __future__ import annotations

import functools
import inspect
import itertools
import threading

import pytest

import kvstore
from kvstore.engine import ClosedEngine
from kvstore.memo_call import Known
from tests import forks
from tests.threads import PATIENCE_SECONDS, at_once, switching_often

MEMO = "memo"


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store
        if not isinstance(store._engine, ClosedEngine):
            assert not store._engine.flights._flights  # whatever a test did, nothing is left claimed


@pytest.fixture
def again(store_path):
    """Handles of the same file with a memory tier of their own, as another process has."""
    handles = []

    def opened(**options):
        handles.append(kvstore.open(store_path, durability="none", **options))
        return handles[-1]

    yield opened
    for handle in handles:
        handle.close()


class Counted:
    """A function that gives its arguments, and knows how often it ran."""

    def __init__(self):
        self.ran = []

    def __call__(self, *args, **kwargs):
        self.ran.append((args, kwargs))
        return [list(args), kwargs]


@pytest.fixture
def ran():
    return []


# -- calls ---------------------------------------------------------------------------------------------------------


def test_a_function_runs_once_for_the_same_arguments_and_its_result_is_the_callers_own(store, ran):
    @store.memoize
    def square(n):
        ran.append(n)
        return [n * n]

    first = square(3)
    first.append("mine")
    assert square(3) == square(3) == [9]
    assert square(4) == [16]
    assert ran == [3, 4]


def test_a_result_outlives_the_process_memory(store, again, ran):
    def compute(n):
        ran.append(n)
        return {"n": n}

    assert store.memoize(compute)(1) == {"n": 1}
    assert again().memoize(compute)(1) == {"n": 1}
    assert again(cache_size=0).memoize(compute)(1) == {"n": 1}
    assert ran == [1]


def test_what_is_called_alike_is_one_call(store, ran):
    @store.memoize
    def function(a, b=2, /, c=3, *, d=4, e=5):
        ran.append((a, b, c, d, e))
        return (a, b, c, d, e)

    calls = [
        lambda: function(1),
        lambda: function(1, 2),
        lambda: function(1, 2, 3),
        lambda: function(1, c=3),
        lambda: function(1, e=5, d=4),
        lambda: function(1, 2, c=3, e=5),
    ]
    assert {call() for call in calls} == {(1, 2, 3, 4, 5)}
    assert ran == [(1, 2, 3, 4, 5)]
    assert function(1, 3) == (1, 3, 3, 4, 5)
    assert function(1, e=4) == (1, 2, 3, 4, 4)
    assert len(ran) == 3


def test_variable_arguments_are_arguments(store, ran):
    @store.memoize
    def function(first, *rest, flag=False, **others):
        ran.append((first, rest, flag, others))
        return (first, rest, flag, others)

    assert function(1, 2, 3, x=1, y=2) == function(1, 2, 3, y=2, x=1) == (1, (2, 3), False, {"x": 1, "y": 2})
    assert function(1) == function(first=1) == (1, (), False, {})
    assert function(1, (2, 3)) == (1, ((2, 3),), False, {})
    assert function(1, flag=True) == (1, (), True, {})
    assert function(1, Flag=True) == (1, (), False, {"Flag": True})
    assert len(ran) == 5


def test_arguments_that_python_holds_equal_are_different_calls(store):
    @store.memoize
    def function(value, more=None):
        return [repr(value), repr(more)]

    values = [1, True, 1.0, "1", b"1", 0, False, 0.0, -0.0, None, (1,), (True,), [1], 2**70, float(2**70), "", b""]
    for value, more in itertools.product(values, repeat=2):
        assert function(value, more) == [repr(value), repr(more)]
    for value, more in itertools.product(values, repeat=2):
        assert function(value, more=more) == [repr(value), repr(more)]
    assert function.stats().misses == len(values) ** 2
    assert all(function(value) == [repr(value), "None"] for value in values)


def test_parameters_may_have_any_names(store):
    @store.memoize
    def function(_, __shelf, type, len, missed, _tier=1, *_make, **_limit):
        return [_, __shelf, type, len, missed, _tier, _make, _limit]

    for _ in range(2):
        assert function(1, 2, 3, 4, 5, 6, 7, x=8) == [1, 2, 3, 4, 5, 6, (7,), {"x": 8}]
        assert function(1, 2, 3, 4, 5) == [1, 2, 3, 4, 5, 1, (), {}]
    assert function.stats().misses == 2


@pytest.mark.parametrize(
    "call",
    [lambda f: f(), lambda f: f(1, 2, 3), lambda f: f(1, a=1), lambda f: f(1, c=2), lambda f: f(b=2)],
    ids=["missing", "too many", "twice", "unknown", "first missing"],
)
def test_a_call_that_does_not_fit_is_refused_as_the_function_would(store, call):
    def function(a, b=2):
        return a

    with pytest.raises(TypeError) as plain:
        call(function)
    memoized = store.memoize(function)
    for attempt in (memoized, memoized.key, memoized.invalidate):
        with pytest.raises(TypeError) as refused:
            call(attempt)
        assert str(refused.value) == str(plain.value)
    assert memoized.stats().calls == 0


def test_it_looks_like_the_function(store):
    def function(a: int, *, b: str = "x") -> str:
        """What it does."""
        return b * a

    memoized = store.memoize(function)
    assert memoized.__wrapped__ is function
    assert (memoized.__name__, memoized.__doc__, memoized.__module__) == ("function", "What it does.", __name__)
    assert memoized.__qualname__ == function.__qualname__
    assert inspect.signature(memoized) == inspect.signature(function)
    assert memoized.__annotations__ == function.__annotations__


def test_none_is_a_result(store, ran):
    @store.memoize
    def nothing(n):
        ran.append(n)

    assert nothing(1) is None
    assert nothing(1) is None
    assert ran == [1]


def test_an_exception_is_the_callers_and_not_kept(store, ran):
    @store.memoize
    def fails_at_first(n):
        ran.append(n)
        if len(ran) == 1:
            raise LookupError("not yet")
        return "value"

    with pytest.raises(LookupError, match="not yet"):
        fails_at_first(1)
    assert fails_at_first(1) == fails_at_first(1) == "value"
    assert ran == [1, 1]


def test_a_call_that_is_not_a_hit_may_call_itself(store, ran):
    @store.memoize
    def fibonacci(n):
        ran.append(n)
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(30) == 832040
    assert sorted(ran) == list(range(31))


def test_a_function_that_asks_for_what_it_is_computing_does_not_wait_for_itself(store, ran):
    @store.memoize
    def function(n):
        ran.append(n)
        return "inner" if len(ran) == 2 else [function(n)]

    assert function(1) == ["inner"]


def test_a_result_ends_with_its_time(store_path, ran):
    now = 1_000.0
    with kvstore.open(store_path, durability="none", clock=lambda: now) as store:

        @store.memoize(ttl=60)
        def function(n):
            ran.append(n)
            return "value"

        function(1), function(1)
        now += 59
        function(1)
        assert ran == [1]
        now += 1
        function(1), function(1)
        assert ran == [1, 1]


def test_a_result_that_ends_before_it_is_stored_is_returned(store_path):
    now = itertools.count(1_000.0, 10.0)
    with kvstore.open(store_path, durability="none", clock=lambda: next(now)) as store:
        function = store.memoize(ttl=1, name="f")(lambda n: [n])
        assert function(1) == function(1) == [1]


# -- keys ----------------------------------------------------------------------------------------------------------


def test_a_key_is_name_version_and_digest_and_finds_the_result(store):
    @store.memoize(version=3)
    def function(a, b=2):
        return [a, b]

    function(1)
    key = function.key(1, b=2)
    assert key[:2] == (f"{__name__}.{function.__qualname__}", 3)
    assert type(key[2]) is bytes
    assert len(key[2]) == 16
    assert store.namespace(MEMO)[key] == [1, 2]


def test_long_names_and_versions_leave_room_in_a_key(store):
    for version in ("v" * 10_000, "\0" * 300, "ß" * 300, 2**1000, "", -1):
        memoized = store.memoize(name="ü" * 1_000 + "x", version=version)(lambda n: n)
        assert memoized(1) == memoized(1) == 1
        assert memoized.stats().hits == 1
    names = {store.memoize(name="n" * 1_000 + end)(len).key("a")[0] for end in "ab"}
    assert len(names) == 2
    with pytest.raises(kvstore.InvalidKeyError, match="at most 255 bytes"):
        store.memoize(version=1 << 3000)(Counted.__call__)


def test_a_namespace_keeps_results_of_its_own(store, ran):
    def function(n):
        ran.append(n)
        return n

    store.memoize(function)(1)
    images = store.namespace("images")
    memoized = images.memoize(function)
    memoized(1)
    assert ran == [1, 1]
    assert images[memoized.key(1)] == 1


@pytest.mark.parametrize("value", [object(), len, itertools.count()], ids=lambda value: type(value).__name__)
def test_an_argument_that_can_not_be_part_of_a_key_is_refused_by_name(store, ran, value):
    @store.memoize
    def embed(text, options=None):
        ran.append(text)

    with pytest.raises(TypeError, match=r"embed\(\): the argument options\[\"a\"\]\[1\] is of the type") as refused:
        embed("a", {"a": [0, value]})
    assert isinstance(refused.value, kvstore.KvstoreError)
    assert 'ignore=("options",)' in str(refused.value)
    assert "__memo_key__" in str(refused.value)
    assert not ran


def test_what_is_ignored_is_no_part_of_a_key(store, ran):
    @store.memoize(ignore=("verbose", "model"))
    def function(model, text, verbose=False, **others):
        ran.append(text)
        return text

    function(object(), "a"), function(object(), "a", True), function(text="a", verbose=print, model=None)
    assert ran == ["a"]
    function(None, "b", x=1)
    assert ran == ["a", "b"]


def test_a_single_name_may_be_ignored_as_it_is(store, ran):
    @store.memoize(ignore="lo")
    def function(l, o, lo):  # noqa: E741
        ran.append((l, o))

    function(1, 2, 3), function(1, 2, 4), function(1, 3, 4)
    assert ran == [(1, 2), (1, 3)]


def test_a_keyword_without_a_parameter_may_be_ignored(store, ran):
    @store.memoize(ignore=["verbose"])
    def function(n, **others):
        ran.append(others)

    function(1), function(1, verbose=True), function(1, verbose=object())
    function(1, other=True)
    assert ran == [{}, {"other": True}]


def test_the_name_of_a_script_is_that_under_which_it_would_be_imported(store, monkeypatch):
    from kvstore.memo_call import name_of

    def function():
        """Of the main program."""

    function.__qualname__ = "function"
    main = type(inspect)("__main__")
    main.__file__ = "/somewhere/train.py"
    for name in ("__main__", "__mp_main__"):
        function.__module__ = name
        monkeypatch.setitem(__import__("sys").modules, name, main)
        assert name_of(function) == "train.function"
    main.__spec__ = type("Spec", (), {"name": "package.train"})()
    assert name_of(function) == "package.train.function"
    del main.__file__
    main.__spec__ = None
    assert name_of(function) == "__mp_main__.function"


# -- versions ------------------------------------------------------------------------------------------------------


def test_a_version_finds_its_own_results_alone(store, ran):
    def function(n):
        ran.append(n)
        return n

    for version in (1, 2, "1", ""):
        memoized = store.memoize(version=version)(function)
        memoized(1), memoized(1)
    assert len(ran) == 4


def test_a_version_that_is_a_function_is_asked_once_and_late(store, ran):
    asked = []

    @store.memoize(version=lambda: asked.append(1) or "sha256:abc")
    def function(n):
        return n

    assert not asked
    function(1), function(2), function.key(3)
    assert asked == [1]
    assert function.key(1)[1] == "sha256:abc"


def test_a_version_that_can_not_be_told_is_asked_again(store):
    answers = iter([OSError("no model yet"), "v1"])

    def version():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @store.memoize(version=version)
    def function(n):
        return n

    with pytest.raises(OSError, match="no model yet"):
        function(1)
    assert function(1) == 1


@pytest.mark.parametrize("version", [1.5, None, True, b"v", lambda: 1.5, lambda: None])
def test_a_version_is_a_str_or_an_int(store, version):
    with pytest.raises(TypeError, match="must be a str or an int"):
        store.memoize(version=version)(Counted.__call__).key(None)


@pytest.mark.parametrize("version", [2, "b", "", -1])
def test_old_versions_are_dropped_in_one_call(store, version):
    versions = [1, 2, 3, -1, "", "a", "b", "b\0", "ba", "c"]

    def function(n):
        return n

    for each in versions:
        memoized = store.memoize(name="f", version=each)(function)
        memoized(1), memoized(2)
    other = store.memoize(name="f2", version=1)(function)
    other(1)
    kept = store.memoize(name="f", version=version)(function)
    assert kept.drop_old_versions() == 2 * (len(versions) - 1)
    assert kept.drop_old_versions() == 0
    assert {key[:2] for key in store.namespace(MEMO)} == {("f", version), ("f2", 1)}
    kept(1), kept(2), other(1)
    assert (kept.stats().hits, other.stats().hits) == (2, 1)


def test_forgetting_goes_in_several_commits_where_there_is_much(store, monkeypatch):
    monkeypatch.setattr("kvstore.memo_results.DELETED_AT_ONCE", 3)
    for version in (1, 2):
        memoized = store.memoize(name="f", version=version, batch=True)(lambda items: items)
        memoized(list(range(20)))
    assert memoized.drop_old_versions() == 20
    assert memoized.clear() == 20
    assert not store.namespace(MEMO)


# -- forgetting ----------------------------------------------------------------------------------------------------


def test_one_result_is_forgotten_by_its_arguments(store, ran):
    @store.memoize
    def function(n, m=1):
        ran.append(n)
        return n

    function(1), function(2)
    assert function.invalidate(n=1, m=1) == 1
    assert function.invalidate(1) == 0
    function(1), function(2)
    assert ran == [1, 2, 1]


def test_all_results_of_a_function_are_forgotten_and_no_others(store, ran):
    def function(n):
        ran.append(n)
        return n

    one, other = (store.memoize(name=name)(function) for name in ("one", "one.more"))
    one(1), one(2), other(1)
    store.memoize(name="one", version=2)(function)(1)
    assert one.clear() == 3
    one(1), other(1)
    assert ran == [1, 2, 1, 1, 1]


# -- methods -------------------------------------------------------------------------------------------------------


def test_a_method_needs_to_know_what_its_object_means_for_the_result(store):
    class Model:
        @store.memoize
        def embed(self, text):
            return text

    with pytest.raises(TypeError, match=r"the argument self is of the type .*Model.*; name it in ignore=\(\"self\",\)"):
        Model().embed("a")


def test_a_method_that_ignores_its_object_is_one_function(store, ran):
    class Model:
        @store.memoize(ignore="self")
        def embed(self, text, *, lower=True):
            ran.append(text)
            return [text, lower]

    one, other = Model(), Model()
    assert one.embed("a") == other.embed("a") == Model.embed(other, "a", lower=True) == ["a", True]
    assert one.embed("a", lower=False) == ["a", False]
    assert ran == ["a", "a"]
    assert Model.embed.key(None, "a") == Model.embed.key(other, "a")
    assert Model.embed.invalidate(one, "a") == 1
    assert Model.embed.stats().hits == 2


def test_a_method_of_an_object_with_a_hook_knows_objects_apart_by_it(store, ran):
    class Model:
        def __init__(self, weights):
            self.weights = weights

        def __memo_key__(self):
            return self.weights

        @store.memoize
        def embed(self, text):
            ran.append((self.weights, text))
            return text

    Model("a").embed("x"), Model("a").embed("x"), Model("b").embed("x")
    assert ran == [("a", "x"), ("b", "x")]


class Shared:
    """A class with a name of its own, as class methods need it."""


def test_static_and_class_methods_are_memoized_in_either_order(store, ran):
    def static(n):
        ran.append(n)
        return n

    def of_class(cls, n):
        ran.append((cls.__name__, n))
        return n

    for number, decorate in enumerate([lambda f, kind: kind(store.memoize(f)), lambda f, kind: store.memoize(kind(f))]):
        ran.clear()
        static.__qualname__ = of_class.__qualname__ = f"function{number}"
        Shared.static, Shared.of_class = decorate(static, staticmethod), decorate(of_class, classmethod)
        try:
            assert Shared.static(1) == Shared().static(1) == 1
            assert Shared.of_class(2) == Shared().of_class(2) == 2
        finally:
            del Shared.static, Shared.of_class
        assert ran == [1, ("Shared", 2)]


def test_a_bound_method_is_memoized_as_it_is(store):
    counted = Counted()
    memoized = store.memoize(counted.__call__)
    assert memoized(1) == memoized(1) == [[1], {}]
    assert len(counted.ran) == 1


# -- what can't be memoized ----------------------------------------------------------------------------------------


def generator():
    yield 1


async def async_generator():
    yield 1


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (generator, "is a generator function"),
        (async_generator, "is a generator function"),
        (lambda: 1, "no name of its own.*give name="),
        (functools.partial(len, "a"), "no name of its own.*give name="),
        (Counted(), "no name of its own.*give name="),
        (Counted, "a function can be memoized"),
        (5, "a function can be memoized"),
        (type, "a function can be memoized"),
        (max, "doesn't say what its parameters are"),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__) if callable(value) else None,
)
def test_what_can_not_be_memoized_is_refused_at_once(store, function, reason):
    with pytest.raises(TypeError, match=reason):
        store.memoize(function)


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"ignore": "model"}, ValueError, r"ignore names \['model'\], and the parameters of .* are \['a'\]"),
        ({"ttl": 0}, ValueError, "ttl must be above 0"),
        ({"ttl": "1"}, TypeError, "ttl must be a number"),
        ({"name": ""}, TypeError, "name must be a str"),
        ({"name": 5}, TypeError, "name must be a str"),
        ({"batch": 1}, TypeError, "batch must be True"),
        ({"batch": "b"}, ValueError, "batch='b' names no parameter"),
        ({"max_batch": 3}, ValueError, "say batch=True"),
        ({"batch": True, "max_batch": 0}, ValueError, "at least 1"),
        ({"batch": True, "max_batch": 1.5}, ValueError, "at least 1"),
        ({"batch": True, "ignore": "a"}, TypeError, "no parameter that could take the items"),
        ({"Version": 1}, TypeError, "unexpected keyword"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused_at_once(store, options, error, reason):
    def function(a):
        return a

    with pytest.raises(error, match=reason):
        store.memoize(**options)(function)


def test_a_result_that_can_not_be_stored_is_an_error_that_names_the_function(store):
    @store.memoize
    def function():
        return [object()]

    with pytest.raises(kvstore.UnstorableValueError) as refused:
        function()
    assert function.__qualname__ in refused.value.__notes__[0]


# -- stores that can't be written to -------------------------------------------------------------------------------


def test_a_full_store_computes_and_does_not_keep(store_path, ran):
    with kvstore.open(store_path, durability="none", max_size=256 * 1024) as store:

        @store.memoize
        def function(n):
            ran.append(n)
            return bytes(100_000)

        for n in range(5):
            assert function(n) == bytes(100_000)
        stats = function.stats()
        assert stats.misses == 5
        assert 0 < stats.unstored < 5
        assert len(store.namespace(MEMO)) == 1 + 5 - stats.unstored


def test_a_read_only_store_answers_what_it_has_and_computes_the_rest(store, store_path, ran):
    def function(n):
        ran.append(n)
        return [n]

    store.memoize(function)(1)
    store.close()
    with kvstore.open(store_path, readonly=True) as reader:
        memoized = reader.memoize(function)
        assert memoized(1) == [1]
        assert memoized(2) == memoized(2) == [2]
        assert ran == [1, 2, 2]
        assert memoized.stats().unstored == 2


def test_a_closed_store_answers_nothing(store):
    @store.memoize
    def function(n):
        return n

    function(1)
    store.close()
    for call in (lambda: function(1), lambda: function(2), function.stats, function.clear):
        with pytest.raises(kvstore.StoreClosedError):
            call()


def test_a_hit_works_inside_a_transaction_and_a_miss_is_refused_before_it_is_computed(store, ran):
    @store.memoize
    def function(n):
        ran.append(n)
        return n

    function(1)
    with store.transaction():
        assert function(1) == 1
        with pytest.raises(kvstore.TransactionError):
            function(2)
    assert ran == [1]


# -- once ----------------------------------------------------------------------------------------------------------


def test_threads_that_ask_at_once_have_it_computed_once(store, again, ran):
    def function(n):
        ran.append(n)
        threading.Event().wait(0.05)
        return [n]

    functions = [store.memoize(function), again().memoize(function)]
    assert at_once(*(functools.partial(functions[n % 2], 7) for n in range(8))) == [[7]] * 8
    assert ran == [7]
    assert sum(each.stats().hits for each in functions) == 7


def test_who_waits_for_one_that_fails_takes_a_turn(store, ran):
    inside, go_on = threading.Event(), threading.Event()

    @store.memoize
    def function(n):
        ran.append(n)
        if len(ran) == 1:
            inside.set()
            go_on.wait(PATIENCE_SECONDS)
            raise ValueError("the first one's alone")
        return [n]

    def first():
        with pytest.raises(ValueError, match="the first one's alone"):
            function(1)

    def second():
        inside.wait(PATIENCE_SECONDS)
        threading.Timer(0.02, go_on.set).start()
        return function(1)

    assert at_once(first, second)[1] == [1]
    assert ran == [1, 1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration])
def test_an_interrupt_leaves_nothing_claimed(store, again, ran, error):
    def function(n):
        ran.append(n)
        if len(ran) == 1:
            raise error
        return n

    # A generator between the function and its caller turns this one into a RuntimeError, as Python's own do.
    with pytest.raises(RuntimeError if error is StopIteration else error):
        store.memoize(function)(1)
    assert at_once(functools.partial(again().memoize(function), 1)) == [1]


def test_counters_are_exact_under_threads(store):
    @store.memoize
    def function(n):
        return n

    with switching_often():
        at_once(*[lambda: [function(n % 50) for n in range(500)]] * 8)
    stats = function.stats()
    assert (stats.hits, stats.misses, stats.calls) == (3950, 50, 4000)


# -- stats ---------------------------------------------------------------------------------------------------------


def test_stats_say_what_was_asked_and_what_that_saved(store, again, monkeypatch):
    now = itertools.count()
    monkeypatch.setattr("kvstore.memo_once.time.perf_counter", lambda: float(next(now)))

    def function(n):
        return n

    memoized = store.memoize(function)
    assert memoized.stats().hit_rate is None
    memoized(1), memoized(2), memoized(1), memoized(1), memoized(n=[1])
    stats = memoized.stats()
    assert (stats.calls, stats.hits, stats.misses, stats.hit_rate) == (5, 2, 3, 0.4)
    assert (stats.seconds_computed, stats.seconds_saved) == (3.0, 2.0)
    # After a restart the store knows still what a computation takes.
    later = again().memoize(function)
    later(1)
    assert (later.stats().seconds_computed, later.stats().seconds_saved) == (0.0, 1.0)
    assert memoized.stats() - stats == stats - stats


def test_a_call_that_raises_is_a_miss_and_one_that_is_refused_is_no_call(store):
    @store.memoize
    def function(n):
        raise ValueError

    with pytest.raises(ValueError):
        function(1)
    with pytest.raises(TypeError):
        function(object())
    assert (function.stats().calls, function.stats().misses) == (1, 1)


def test_a_hit_counts_as_one_lookup_of_the_store(store):
    @store.memoize
    def function(n):
        return n

    function(1), function("a")
    before = store.stats()
    for _ in range(10):
        function(1), function("a"), function(n=1)
    counted = store.stats() - before
    assert (counted.hits, counted.misses) == (30, 0)


def test_a_hit_stays_one_in_memory_when_others_write_something_else(store, again):
    one = store.memoize(name="one")(lambda n: n)
    all_of_them = store.memoize(name="all", batch=True)(lambda items: items)
    one(1), all_of_them([1, 2])
    other = again()
    before = store.stats()
    for n in range(3):
        other["other"] = n
        one(1)
        other["other"] = -n
        all_of_them([1, 2])
    counted = store.stats() - before
    assert (counted.hits, counted.misses) == (9, 0)


# -- known keys ----------------------------------------------------------------------------------------------------


def test_known_keys_are_bounded(store):
    known = Known()
    for number in range(20_000):
        known.add_call((number, "x" * 500), b"key")
    assert 0 < sum(map(len, known.shelves.values())) < 2_000
    known.add_call(("y" * 100_000,), b"key")
    known.add_call(([],), b"key")
    assert str not in known.shelves
    assert list not in known.shelves


def test_a_call_whose_key_is_known_no_more_is_a_hit_still(store, monkeypatch):
    monkeypatch.setattr("kvstore.memo_call._KNOWN_BYTES", 3_000)

    @store.memoize
    def function(text):
        return text

    texts = [f"{n}" for n in range(50)]
    for text in [*texts, *texts]:
        assert function(text) == text
    assert function.stats().misses == 50


# -- other processes -----------------------------------------------------------------------------------------------


def test_a_forked_child_uses_what_is_known_and_adds_to_it(store, ran):
    @store.memoize
    def function(n):
        ran.append(n)
        return [n]

    function(1)
    assert forks.Child(lambda: (function(1), function(2), list(ran))).answer() == ([1], [2], [1, 2])
    assert function(2) == [2]
    assert ran == [1]
