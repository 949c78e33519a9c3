"""The state machine of ``test_store_machine``, on a file system of which a call fails now and then.

A program, for the shim of ``faults.c`` must be there from the start: ``python -m tests.faulty_machine EXAMPLES``.
"""

from __future__ import annotations

import copy
import os
import sys

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

import kvstore
from tests.faulty import KINDS, Faults
from tests.mapping_contract import contents
from tests.mapping_judge import outcome, steps_on
from tests.test_store_machine import StoreMachine, few_keys

kinds = st.sampled_from(sorted(KINDS))


class FaultyMachine(StoreMachine):
    """As the machine that it extends; where a call fails, a step is taken or not, and the dict follows what the file has."""

    durability = "full"
    struck = 0
    reopened = 0

    def open(self, size, policy, *, warm=False):
        self.faults = Faults(self.folder)
        super().open(size, policy, warm=warm)

    @rule(step=steps_on(few_keys), nth=st.integers(1, 12), kind=kinds)
    def take_a_step_while_a_call_fails(self, step, nth, kind):
        self.take_faultily(self.store, step, nth, kind)

    @rule(step=steps_on(few_keys), nth=st.integers(1, 12), kind=kinds)
    @precondition(lambda self: self.other is not None)
    def take_a_step_with_the_other_handle_while_a_call_fails(self, step, nth, kind):
        self.take_faultily(self.other, step, nth, kind)

    @rule(nth=st.integers(1, 60), kind=kinds)
    def compact_while_a_call_fails(self, nth, kind):
        self.goes_wrong(self.store.compact, nth, kind)
        self.reopen_where_needed()

    @rule(nth=st.integers(1, 60), kind=kinds)
    def reopen_while_a_call_fails(self, nth, kind):
        self.close()
        self.goes_wrong(lambda: kvstore.open(self.path, durability=self.durability).close(), nth, kind)
        self.open(1_000, "lru")

    def take_faultily(self, handle, step, nth, kind):
        done = copy.deepcopy(self.judge)
        expected = outcome(done, step)
        found = []
        if not self.goes_wrong(lambda: found.append(outcome(handle, step)), nth, kind):
            assert found == [expected]
            self.judge = done
            return
        self.reopen_where_needed()
        there = contents(self.fresh)
        assert there in (contents(self.judge), contents(done))
        if there == contents(done):
            self.judge = done

    def goes_wrong(self, call, nth, kind):
        """Whether it raises, with a call of it failing; it may raise nothing but what the store's errors are."""
        self.faults.arm(nth, kind)
        try:
            call()
        except kvstore.KvstoreError:
            return True
        finally:
            FaultyMachine.struck += bool(self.faults.disarm()[1])
        return False

    def reopen_where_needed(self):
        try:
            with self.store.transaction() as transaction:
                transaction["probe"] = 1
                del transaction["probe"]
        except kvstore.KvstoreError as error:
            if "open it again" not in str(error):
                raise
            FaultyMachine.reopened += 1
            self.close()
            self.open(1_000, "lru")


def main(examples):
    del os.environ["LD_PRELOAD"]
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        FaultyMachine,
        settings=settings(
            max_examples=int(examples),
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=checks,
        ),
    )
    sys.stdout.write(
        f"{FaultyMachine.struck} calls failed, {FaultyMachine.reopened} times the store had to be reopened\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
