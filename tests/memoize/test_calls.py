"""What is a call of a memoized function, and what can be memoized."""

from __future__ import annotations

import functools
import inspect
import itertools

import pytest

import kvstore


class Counted:
    """A function that gives its arguments, and knows how often it ran."""

    def __init__(self):
        self.ran = []

    def __call__(self, *args, **kwargs):
        self.ran.append((args, kwargs))
        return [list(args), kwargs]


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
