"""Steps on a mapping, taken on a dict as well: they give the same, raise the same and leave the same."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.mapping_contract import contents, order, small_values
from tests.strategies import fingerprint, same

MISSING = object()

Step = tuple[str, tuple[Any, ...]]


def steps_on(keys: st.SearchStrategy[Any], values: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Step]:
    """One operation and its arguments."""
    values = small_values() if values is None else values
    pairs = st.lists(st.tuples(keys, values), max_size=4)
    forms: dict[str, tuple[st.SearchStrategy[Any], ...]] = {
        "__getitem__": (keys,),
        "__setitem__": (keys, values),
        "__delitem__": (keys,),
        "__contains__": (keys,),
        "__len__": (),
        "get": (keys, values),
        "pop": (keys,),
        "pop with default": (keys, values),
        "popitem": (),
        "setdefault": (keys, values),
        "update": (pairs,),
        "set": (keys, values),
        "set_many": (pairs,),
        "get_many": (st.lists(keys, max_size=4),),
        "add": (keys, values),
        "delete": (keys,),
        "delete_many": (st.lists(keys, max_size=4),),
    }
    named = [st.tuples(st.just(name), st.tuples(*arguments)) for name, arguments in forms.items()]
    return st.one_of(*named) | st.tuples(st.just("clear"), st.just(()))


class Judge(dict[Any, Any]):
    """A dict with the library's additions to the protocol, in the plainest way."""

    def popitem(self):
        if not self:
            raise KeyError
        first = min(self, key=order)
        return first, self.pop(first)

    def set(self, key, value):
        self[key] = value

    def set_many(self, items):
        self.update(items)

    def get_many(self, keys):
        return {key: self[key] for key in keys if key in self}

    def add(self, key, value):
        return self.setdefault(key, value) is value if key not in self else False

    def delete(self, key):
        return self.pop(key, MISSING) is not MISSING

    def delete_many(self, keys):
        return sum(self.delete(key) for key in set(keys))


def outcome(mapping: Any, step: Step) -> tuple[object, ...]:
    """What a step gives or raises, in a form that ``==`` compares to the last bit."""
    name, arguments = step
    try:
        return ("gives", fingerprint(getattr(mapping, name.split()[0])(*arguments)))
    except KeyError as error:
        return ("raises", KeyError, () if name == "popitem" else error.args)


def take_steps(make: Any, steps: list[Step]) -> None:
    """Take the steps on both, side by side: the same outcomes, and the same content after each."""
    judge = Judge()
    with make({}) as mapping:
        for step in steps:
            assert outcome(mapping, step) == outcome(judge, step)
            for key, value in judge.items():
                assert same(mapping[key], value)
        assert contents(mapping) == contents(judge)
        assert list(mapping) == sorted(judge, key=order)
        assert len(mapping) == len(judge)
