"""Memoized functions as tasks call them."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Generator
from typing import Any, Final

from kvstore import keys
from kvstore.aio_cached import CachedFace, FileNeededError, computing
from kvstore.aio_posts import Posts, refuse_own_transaction
from kvstore.aio_space import made_by
from kvstore.aio_threads import Threads
from kvstore.cached import CachedSpace
from kvstore.engine import ClosedEngine
from kvstore.keys import Key
from kvstore.memo_batch import BatchFunction
from kvstore.memo_call import Args, Bound, Kwargs
from kvstore.memo_function import MemoFunction
from kvstore.memo_once import Call, Computing, Keep, Look, One, Step, Wait, Work
from kvstore.memo_results import MemoStats
from kvstore.missing import MISSING


def face_of(space: CachedSpace) -> CachedFace:
    """The asyncio face of a space whose store was opened without one."""
    refuse = ClosedEngine(space._engine.identity).refuse
    threads = Threads("kvstore-memo", None, refuse)
    space._dependents.append(lambda: threads.end(wait=False))
    return CachedFace(space, threads, Posts(space._engine.committer, refuse))


def wrapped(memo: MemoFunction, face: CachedFace) -> Any:
    """The coroutine function to be called in its place."""
    memoized = _single(memo, face) if memo.batch is None else _batched(memo, face, memo.batch)

    async def invalidate(*args: Any, **kwargs: Any) -> int:
        return await face.delete_many(memo.invalidated(*args, **kwargs))

    async def clear() -> int:
        refuse_own_transaction(face._engine.committer)
        return await face._run(memo.results.clear)

    async def drop_old_versions() -> int:
        refuse_own_transaction(face._engine.committer)
        return await face._run(memo.results.drop_old_versions)

    async def stats() -> MemoStats:
        return await face._run(memo.results.stats)

    memoized.key = memo.key
    memoized.invalidate = invalidate
    memoized.clear = clear
    memoized.drop_old_versions = drop_old_versions
    memoized.stats = stats
    return memoized


def _single(memo: MemoFunction, face: CachedFace) -> Any:
    space, counters = memo.space, memo.results.counters

    async def missed(bound: Bound) -> Any:
        encoded = memo.encoded_key(bound)
        values = space._in_memory((encoded,))
        if values is not None:
            counters.hit()
            return values[0]
        wanted = {encoded: keys.decode(encoded)}
        found = await _get_encoded(face, wanted)
        if not found:
            run = Run(memo, face, wanted, One(*memo.signature.call(bound)))
            found = await run.found()
            if run.computed:
                return found[encoded]
        counters.hit()
        return found[encoded]

    return memo.hitting(missed, is_async=True)


def _batched(memo: MemoFunction, face: CachedFace, batch: BatchFunction) -> Any:
    space, results, bind = memo.space, memo.results, memo.signature.bind

    @functools.wraps(memo.function)
    async def memoized(*args: Any, **kwargs: Any) -> Any:
        call = batch.call(bind(*args, **kwargs))
        values = space._in_memory(call.encoded)
        computed = 0
        if values is None:
            wanted = call.wanted()
            found = await _get_encoded(face, wanted)
            missing = {encoded: key for encoded, key in wanted.items() if encoded not in found}
            if missing:
                run = Run(memo, face, missing, call)
                found |= await run.found()
                computed = run.computed
            values = call.in_order(found)
        results.counters.add(hits=len(values) - computed)
        if batch.empty is MISSING:
            batch.empty = (await face._run(results.totals)).empty
        return batch.put_together(values)

    return memoized


class TaskPilot:
    """A task, as the pilot of what it computes."""

    def __init__(self) -> None:
        self.name: Final = object()

    def is_within(self, other: object) -> bool:
        """Tasks inherit whom they run within."""
        return other in computing.get()


class Run:
    """One computation of missing results, in a task of its own: it goes on for others who wait for it when its caller is gone."""

    def __init__(self, memo: MemoFunction, face: CachedFace, missing: dict[bytes, Key], work: Work) -> None:
        refuse_own_transaction(face._engine.committer)
        self._pilot = TaskPilot()
        self._computing = Computing(memo.results, face._near, missing, work, self._pilot)
        self._face = face
        self._function = memo.function

    @property
    def computed(self) -> int:
        """How many results were computed here, and not by others."""
        return self._computing.computed

    async def found(self) -> dict[bytes, Any]:
        """The results by their encoded keys."""
        task = asyncio.get_running_loop().create_task(self._steps(self._computing.steps()))
        self._face._computations.add(task)
        task.add_done_callback(self._face._computations.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not any(flight.passengers for flight in self._computing.claims.flights.values()):
                task.cancel()
            raise

    async def _steps(self, steps: Generator[Step, Any, dict[bytes, Any]]) -> dict[bytes, Any]:
        computing.set(computing.get() | {self._pilot.name})
        try:
            step = next(steps)
            while True:
                try:
                    answer = await self._take(step)
                except BaseException as error:  # the generator's, to give free what it claims
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            steps.close()

    async def _take(self, step: Step) -> Any:
        face = self._face
        match step:
            case Look():
                return await face._run(lambda: _read_many(face._space, step.keys))
            case Call():
                return await _called(self._function, step.args, step.kwargs)
            case Keep():
                return await face._write(lambda near: near._commit(step.apply))
            case Wait():
                return await (asyncio.sleep(step.seconds) if step.flight is None else face._landed(step.flight))


async def _get_encoded(face: CachedFace, wanted: dict[bytes, Key]) -> dict[bytes, Any]:
    try:
        return face._near._get_encoded(wanted)
    except FileNeededError:
        return await face._run(lambda: face._space._get_encoded(wanted))


def _read_many(space: CachedSpace, wanted: Any) -> dict[Key, Any]:
    with space._view() as view:
        return space._read_many(view, wanted)


async def _called(function: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """What the function gives: a coroutine function on the loop, any other in a thread."""
    if inspect.iscoroutinefunction(function):
        return await function(*args, **kwargs)
    made = await asyncio.to_thread(made_by, functools.partial(function, *args, **kwargs))
    return await made if inspect.isawaitable(made) else made
