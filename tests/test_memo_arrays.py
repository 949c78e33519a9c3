"""Memoized functions of arrays: content in the key, rows as items, and an array out where the function gives one."""

from __future__ import annotations

import pytest

import kvstore

np = pytest.importorskip("numpy")


@pytest.fixture
def store(store_path):
    with kvstore.open(store_path, durability="none") as store:
        yield store


@pytest.fixture
def again(store_path):
    """The same file, with a memory tier of its own, as another process has it."""
    with kvstore.open(store_path, durability="none") as store:
        yield store


@pytest.fixture
def ran():
    return []


def same(one, other):
    """Equal arrays of one dtype and shape."""
    return type(one) is type(other) and one.dtype == other.dtype and one.shape == other.shape and (one == other).all()


# -- one call ------------------------------------------------------------------------------------------------------


def test_an_array_is_an_argument_by_its_content(store, ran):
    @store.memoize
    def total(image, options=None):
        ran.append(image)
        return float(image.sum())

    image = np.arange(12, dtype="f4").reshape(3, 4)
    calls = [image, image.copy(), np.asfortranarray(image), np.repeat(image, 2, axis=0)[::2]]
    assert {total(each, {"mask": [each]}) for each in calls} == {66.0}
    assert len(ran) == 1
    image[0, 0] = 1
    assert total(image, {"mask": [image]}) == 67.0
    assert total(image.astype("f8"), {"mask": [image]}) == 67.0
    assert len(ran) == 3


def test_an_array_is_the_same_result_the_first_time_and_every_time_after(store, again):
    def embed(text):
        return np.full(4, len(text), "f4")

    memoized = store.memoize(embed)
    for result in (memoized("abc"), memoized("abc"), again.memoize(embed)("abc")):
        assert same(result, embed("abc"))
        assert not result.flags.writeable


def test_arrays_of_objects_are_refused_by_name(store):
    @store.memoize
    def function(image):
        return 1

    @store.memoize(batch=True)
    def functions(images):
        return images

    with pytest.raises(TypeError, match=r"function\(\): the argument image is an array of the dtype object"):
        function(np.array([None]))
    with pytest.raises(TypeError, match=r"functions\(\): the argument images is an array of the dtype object"):
        functions(np.array([[None]]))


# -- rows ----------------------------------------------------------------------------------------------------------


def test_rows_go_in_and_rows_come_out(store, again, ran):
    def double(rows):
        ran.append(rows)
        return rows * 2

    memoized = store.memoize(batch=True)(double)
    rows = np.arange(20, dtype="f4").reshape(5, 4)
    assert same(memoized(rows[:3]), rows[:3] * 2)
    assert same(memoized(rows[[4, 0, 4, 1, 3]]), rows[[4, 0, 4, 1, 3]] * 2)
    assert same(memoized(np.asfortranarray(rows)), rows * 2)
    assert same(again.memoize(batch=True)(double)(rows[::-1]), rows[::-1] * 2)
    assert all(same(*pair) for pair in zip(ran, [rows[:3], rows[[4, 3]]], strict=True))


def test_an_array_that_comes_back_is_the_callers_own(store):
    double = store.memoize(batch=True, name="double")(lambda rows: rows * 2)
    rows = np.ones((3, 2))
    for _ in range(3):
        answer = double(rows)
        assert same(answer, rows * 2)
        answer[:] = 7


def test_a_row_in_a_list_is_the_row_of_an_array(store, ran):
    @store.memoize(batch=True)
    def function(rows):
        ran.append(rows)
        return [float(row.sum()) for row in rows]

    rows = np.arange(6.0).reshape(3, 2)
    assert function(rows) == function(list(rows)) == [1.0, 5.0, 9.0]
    assert function(rows.astype("f4")) == [1.0, 5.0, 9.0]
    assert len(ran) == 2
    assert ran[1].dtype == "f4"


@pytest.mark.parametrize(
    "answer",
    [
        lambda texts: np.array([[len(text), 1.5] for text in texts], "f4"),
        lambda texts: np.array([[len(text)] * 3 for text in texts], "f2"),
        lambda texts: np.array([[[len(text)]] for text in texts], ">i8"),
        lambda texts: np.array([len(text) for text in texts], "f4"),
        lambda texts: np.array([len(text) for text in texts], ">f4"),
        lambda texts: np.array([len(text) > 1 for text in texts]),
        lambda texts: np.array(texts),
        lambda texts: np.array([len(text) for text in texts], "M8[s]"),
        lambda texts: np.array([(len(text), 1.5) for text in texts], [("n", "i4"), ("score", "f8")]),
        lambda texts: np.zeros((len(texts), 0), "f4"),
    ],
    ids=["f4", "f2", ">i8", "scores", ">scores", "bool", "str", "time", "structured", "no columns"],
)
def test_a_list_goes_in_and_an_array_comes_out_where_the_function_gives_one(store, again, answer):
    memoized, later = (each.memoize(batch=True, name="f", max_batch=2)(answer) for each in (store, again))
    texts = ["a", "bb", "ccc", "a", "dddd"]
    for _ in range(2):
        for function in (memoized, later):
            assert same(function(texts), answer(texts))
            assert same(function(texts[:1]), answer(texts[:1]))


def test_an_empty_batch_is_an_empty_array_once_it_is_known_what_the_function_gives(store, again, ran):
    def embed(texts):
        ran.append(texts)
        return np.ones((len(texts), 3), "f4")

    memoized = store.memoize(batch=True)(embed)
    assert memoized([]) == []
    memoized(["a"])
    for function in (memoized, again.memoize(batch=True)(embed)):
        assert same(function([]), np.ones((0, 3), "f4"))
        assert same(function(np.zeros((0, 5))), np.ones((0, 3), "f4"))
        function([])[:] = 5
    assert ran == [["a"]]


def test_rows_of_different_shapes_are_an_error_that_says_the_way_out(store):
    @store.memoize(batch=True)
    def padded(texts):
        return np.zeros((len(texts), max(map(len, texts))))

    padded(["a"])
    with pytest.raises(ValueError, match=r"padded\(\) gives rows of different shapes.*return a list of arrays"):
        padded(["a", "bbb"])


def test_a_list_of_arrays_may_have_rows_of_any_shape(store):
    @store.memoize(batch=True)
    def tokens(texts):
        return [np.arange(len(text)) for text in texts]

    for _ in range(2):
        assert [array.tolist() for array in tokens(["a", "bbb", "a"])] == [[0], [0, 1, 2], [0]]


@pytest.mark.parametrize(
    "answer", [np.zeros(3), np.zeros((1, 2)), np.float32(1), np.array(1)], ids=lambda a: str(a.shape)
)
def test_an_array_with_another_number_of_rows_is_an_error(store, answer):
    function = store.memoize(batch=True, name="f")(lambda items: answer)
    with pytest.raises(
        (ValueError, TypeError), match=r"returned \d results for 2 items|must return a list, or an array"
    ):
        function(["a", "b"])


def test_an_array_without_rows_is_no_batch(store):
    function = store.memoize(batch=True, name="f")(lambda items: items)
    with pytest.raises(TypeError, match="must be a list, or an array of rows"):
        function(np.array(1))
