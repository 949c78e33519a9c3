"""Memoized functions as threads call them."""

from __future__ import annotations

import functools
from typing import Any

from kvstore import keys
from kvstore.memo_batch import BatchFunction
from kvstore.memo_call import Bound
from kvstore.memo_function import MemoFunction
from kvstore.memo_once import Computing, One, ThreadPilot, run
from kvstore.missing import MISSING


def wrapped(memo: MemoFunction) -> Any:
    """The function to be called in its place."""
    memoized = _single(memo) if memo.batch is None else _batched(memo, memo.batch)

    def invalidate(*args: Any, **kwargs: Any) -> int:
        return memo.space.delete_many(memo.invalidated(*args, **kwargs))

    memoized.key = memo.key
    memoized.invalidate = invalidate
    memoized.clear = memo.results.clear
    memoized.drop_old_versions = memo.results.drop_old_versions
    memoized.stats = memo.results.stats
    return memoized


def _single(memo: MemoFunction) -> Any:
    space, counters = memo.space, memo.results.counters

    def missed(bound: Bound) -> Any:
        encoded = memo.encoded_key(bound)
        values = space._in_memory((encoded,))
        if values is not None:
            counters.hit()
            return values[0]
        wanted = {encoded: keys.decode(encoded)}
        found = space._get_encoded(wanted)
        if not found:
            space._engine.committer.refuse_own_turn()
            work = One(*memo.signature.call(bound))
            computing = Computing(memo.results, space, wanted, work, ThreadPilot())
            found = run(computing.steps(), space, memo.function)
            if computing.computed:
                return found[encoded]
        counters.hit()
        return found[encoded]

    return memo.hitting(missed, is_async=False)


def _batched(memo: MemoFunction, batch: BatchFunction) -> Any:
    space, results, bind = memo.space, memo.results, memo.signature.bind

    @functools.wraps(memo.function)
    def memoized(*args: Any, **kwargs: Any) -> Any:
        call = batch.call(bind(*args, **kwargs))
        values = space._in_memory(call.encoded)
        computed = 0
        if values is None:
            wanted = call.wanted()
            found = space._get_encoded(wanted)
            missing = {encoded: key for encoded, key in wanted.items() if encoded not in found}
            if missing:
                space._engine.committer.refuse_own_turn()
                computing = Computing(results, space, missing, call, ThreadPilot())
                found |= run(computing.steps(), space, memo.function)
                computed = computing.computed
            values = call.in_order(found)
        results.counters.add(hits=len(values) - computed)
        if batch.empty is MISSING:
            batch.empty = results.totals().empty
        return batch.put_together(values)

    return memoized
