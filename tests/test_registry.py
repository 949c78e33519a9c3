"""Own types: stored by a name, read where they are registered."""

from __future__ import annotations

import dataclasses
import enum

import pytest

from kvstore import codec
from kvstore.codec import Opaque
from kvstore.errors import UnknownTypeError, UnstorableValueError


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int


class Box:
    """Mutable, and compared by identity."""

    def __init__(self, content):
        self.content = content


class Sub(Box):
    pass


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Broken:
    pass


class Liar:
    pass


class Endless:
    pass


def fail(_):
    raise LookupError("no way")


@pytest.fixture(autouse=True)
def registered():
    codec.register(Point, "point", lambda point: (point.x, point.y), lambda xy: Point(*xy))
    codec.register(Box, "box", lambda box: [box.content], lambda stored: Box(*stored))
    codec.register(Colour, "colour", lambda colour: colour.value, Colour)
    codec.register(Broken, "broken", fail, fail)
    codec.register(Liar, "liar", lambda _: None, lambda _: "no liar")
    codec.register(Endless, "endless", lambda value: [value], fail)


def through(value):
    return codec.decode(*codec.encode(value))


def test_a_registered_value_comes_back_wherever_it_is():
    point = Point(1, 2)
    for value in (
        point,
        [point],
        {"a": (point,)},
        {point},
        frozenset({point}),
        {point: 1},
        {(1, point): Colour.RED},
    ):
        assert through(value) == value
    assert through(Colour.BLUE) is Colour.BLUE


def test_registered_values_nest():
    inner = through(Box(Box({"point": Point(2**70, -1)}))).content
    assert type(inner) is Box
    assert inner.content == {"point": Point(2**70, -1)}


def test_read_as_opaque_a_registered_value_is_its_name_and_stored_form():
    payload, extended = codec.encode([Point(1, 2), {Colour.RED}])
    value = codec.decode_opaque(payload, extended)
    assert value == [Opaque("point", (1, 2)), {Opaque("colour", "red")}]
    assert codec.encode(value) == (payload, extended)


def test_an_opaque_is_read_as_the_registered_type():
    assert through(Opaque("point", (1, 2))) == Point(1, 2)


def test_an_unknown_type_is_named_with_what_to_do():
    payload, extended = codec.encode({"a": [Opaque("nobody's", 1)]})
    assert codec.decode_opaque(payload, extended) == {"a": [Opaque("nobody's", 1)]}
    with pytest.raises(UnknownTypeError, match=r"\"nobody's\".*kvstore\.register"):
        codec.decode(payload, extended)


def test_opaques_of_unhashable_values_may_be_members():
    boxes = {Box(1), Box(2), Box([])}
    payload, extended = codec.encode(boxes)
    opaques = codec.decode_opaque(payload, extended)
    assert opaques == {Opaque("box", [1]), Opaque("box", [2]), Opaque("box", [[]])}
    assert codec.encode(opaques) == (payload, extended)


def test_members_or_keys_that_are_one_when_stored_are_refused():
    with pytest.raises(UnstorableValueError, match=r"value\[0\] has members that differ in memory"):
        codec.encode([{Box(1), Box(1)}])
    with pytest.raises(UnstorableValueError, match=r"value\[0\] has keys that differ in memory"):
        codec.encode([{Box(1): 1, Box(1): 1}])
    assert len(through({Box(1): 1, Box(2): 1})) == 2


def test_an_instance_of_a_subclass_is_refused():
    with pytest.raises(UnstorableValueError, match=r"value\[1\] is of the type .*Sub"):
        codec.encode([Box(1), Sub(1)])


def test_what_an_encode_function_makes_must_be_storable():
    with pytest.raises(UnstorableValueError, match=r"value\[0\]\.stored_form\[0\] is of the type object"):
        codec.encode([Box(object())])


def test_an_error_in_an_encode_function_is_named_and_chained():
    with pytest.raises(UnstorableValueError, match=r"value\[0\] .*'broken' raised LookupError") as caught:
        codec.encode([Broken()])
    assert isinstance(caught.value.__cause__, LookupError)


def test_an_error_in_a_decode_function_is_named_and_chained():
    payload, extended = codec.encode(Opaque("broken", None))
    with pytest.raises(ValueError, match=r"'broken' raised LookupError") as caught:
        codec.decode(payload, extended)
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_decode_function_must_return_the_type():
    payload, extended = codec.encode(Liar())
    with pytest.raises(ValueError, match="'liar' returned a str"):
        codec.decode(payload, extended)


def test_an_encode_function_that_never_gets_to_an_end_is_refused():
    with pytest.raises(UnstorableValueError, match="contains itself"):
        codec.encode(Endless())


def test_registering_again_replaces_the_functions():
    codec.register(Point, "point", lambda point: [point.y, point.x], lambda yx: Point(yx[1], yx[0]))
    assert codec.decode_opaque(*codec.encode(Point(1, 2))) == Opaque("point", [2, 1])
    assert through(Point(1, 2)) == Point(1, 2)


def test_a_class_that_is_defined_again_takes_the_place_of_the_old_one():
    old, new = (type("Again", (), {"__module__": "notebook"}) for _ in range(2))
    for kind in (old, new):
        codec.register(kind, "again", lambda _: None, lambda _, kind=kind: kind())
    assert type(through(new())) is new
    with pytest.raises(UnstorableValueError, match=r"notebook\.Again"):
        codec.encode(old())


def test_a_name_stands_for_one_type_and_a_type_for_one_name():
    with pytest.raises(ValueError, match=r"name 'point' is already registered for .*Point"):
        codec.register(type("Other", (), {}), "point", repr, repr)
    with pytest.raises(ValueError, match="Point is already registered as 'point'"):
        codec.register(Point, "another", repr, repr)
    assert through(Point(1, 2)) == Point(1, 2)


@pytest.mark.parametrize("kind", sorted(codec.IMMUTABLE | {list, dict, tuple, set, bytearray, Opaque}, key=repr))
def test_a_type_of_the_model_cannot_be_registered(kind):
    with pytest.raises(ValueError, match="stored as it is"):
        codec.register(kind, "mine", repr, repr)


@pytest.mark.parametrize(
    "arguments",
    [
        (Box(1), "one", repr, repr),
        (Sub, "", repr, repr),
        (Sub, b"sub", repr, repr),
        (Sub, "sub", None, repr),
        (Sub, "sub", repr, "repr"),
    ],
)
def test_a_wrong_argument_is_a_type_error(arguments):
    with pytest.raises(TypeError):
        codec.register(*arguments)


def test_a_name_must_be_encodable():
    with pytest.raises(ValueError, match="surrogate"):
        codec.register(Sub, "\ud800", repr, repr)
    with pytest.raises(UnstorableValueError):
        codec.encode(Opaque("\ud800", 1))
    with pytest.raises(UnstorableValueError, match="name is not a non-empty str"):
        codec.encode(Opaque("", 1))
