"""KeyboardInterrupt, raised at every place where Python may deliver a signal, one place a run.

The interpreter looks for signals when a function starts, when a generator goes on, and when a call into C
has returned; those are the events of a profiler. A tracer's lines are other places: it can raise between the
end of a ``with`` block and the call of ``__exit__``, or between the end of a ``try`` and its ``finally``,
where no signal is ever delivered and no program could defend itself. (Jumps backwards, where the interpreter
looks too, are left out: a loop without a call in it does nothing that could be left half done.)
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


class Interrupter:
    """Counts the places where a signal may strike while a call runs, and strikes at one of them."""

    def __init__(self, strike_at: int) -> None:
        self.struck: str | None = None
        """Where it struck."""
        self._left = strike_at

    def run(self, call: Callable[[], Any]) -> None:
        """Run the call, interrupted."""
        sys.setprofile(self._look)
        try:
            call()
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)

    def _look(self, frame: FrameType, event: str, argument: Any) -> None:
        if event not in {"call", "c_return"} or frame.f_code.co_filename == __file__:
            return
        self._left -= 1
        if not self._left:
            after = f"after {argument.__qualname__}" if event == "c_return" else "at its start"
            code = frame.f_code
            self.struck = f"{code.co_filename}:{frame.f_lineno}, in {code.co_qualname}, {after}"
            sys.setprofile(None)
            raise KeyboardInterrupt


def everywhere(call: Callable[[], Any]) -> Iterator[str]:
    """Run the call again and again, interrupted at the first place, at the second, until it runs through.

    Gives the place after each interrupted run. The garbage that others have left is collected before, not meanwhile: what its
    finalizers would do with an interrupt is not the call's.
    """
    place = 0
    gc.collect()
    gc.disable()
    try:
        while True:
            place += 1
            interrupter = Interrupter(place)
            interrupter.run(call)
            if interrupter.struck is None:
                return
            yield interrupter.struck
    finally:
        gc.enable()
