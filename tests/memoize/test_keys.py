"""Where the results of memoized functions are kept, and how they are forgotten: keys, versions, known keys."""

from __future__ import annotations

import inspect
import itertools

import pytest

import kvstore
from kvstore.memo_call import Known

MEMO = "memo"


def echo(argument):
    return [argument]


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
        store.memoize(version=1 << 3000)(echo)


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
        store.memoize(version=version)(echo).key(None)


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
