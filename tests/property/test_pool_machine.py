"""`PoolState` in random situations: workers that obey, forge messages, stall and die; callers that submit and cancel.

The machine plays the runtime. It carries out every command at once, except moves of pages, which it keeps in order, and the
hashing of sources; both happen in rules of their own. Each command is checked against the machine's model first.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, Phase, settings

from offloop.core.model.events import (
    CloseRequested,
)
from offloop.core.model.worker_state import WorkerState
from offloop.statistics import snapshot
from offloop.wire.messages import Failed

from .pool_invariants import PoolInvariants


class PoolMachine(PoolInvariants):
    """Rules send events; in the end, every request is answered and the pool is closed."""

    def settle_down(self) -> None:
        """Answer every request, until no task waits and the pool has all its workers."""
        begun = self.now
        most_steps = 600 + 20 * len(self.open_tasks)
        for _ in range(most_steps):
            if self.do_a_step():
                continue
            if self.at_rest:
                break
            missing = (self.inputs, self.growths, self.wanted, snapshot(self.core).workers)
            assert self.core.wake_at < math.inf, f"the pool waits without a timer: {missing}"
            self.let_time_pass(max(self.core.wake_at - self.now, 0.001))
            assert self.now - begun < 300.0
        else:
            raise AssertionError(f"the pool was not at rest after {most_steps} steps")
        assert (self.inputs, self.growths, self.requested) == ({}, {}, {}), "every source got memory or an error"
        s = snapshot(self.core)
        assert (s.waiting, s.running) == (0, 0)
        assert self.open_tasks == {}
        assert self.announced == 1

    @property
    def at_rest(self) -> bool:
        """Whether no source waits for memory, all desired workers are idle, and the circuit breaker is closed."""
        if self.inputs or self.growths or self.requested:
            return False
        wanted = self.wanted
        s = snapshot(self.core)
        if s.workers == ({"idle": wanted} if wanted else {}) and not any(slot.recycling for slot in self.core.worker_table):
            assert all(group.reconciler.converged for group in self.core.groups)
            return s.breaker == "closed"
        return False

    def do_a_step(self) -> bool:  # noqa: C901, PLR0911 (one branch and one return for each kind of step)
        """Do one step that is due. Returns whether there was one."""
        if self.moves:
            self.move_pages()
            return True
        if self.abandoned:
            self.an_abandoned_worker_exits(0)
            return True
        for slot, process in sorted(self.processes.items()):
            if process.killed or not process.channel_open or self.core.worker_table[slot].state is WorkerState.RETIRING:
                self.die(slot)
                return True
            if not process.said_ready:
                self.say_ready(slot)
                return True
            if process.task_id is not None and not process.waits:
                self.answer(slot, Failed(self.finish(process), "refused", "no", None, 1, 2))
                return True
            if process.unread:
                self.read(slot)
                return True
        if self.hashing:
            self.end_hashing(0, b"a")
            return True
        if self.delivering:
            self.end_delivery(0, fails=False)
            return True
        if self.settled_in_staging:
            self.a_stager_of_a_settled_task_ends(0, fails=False)
            return True
        if self.may_be_staged:
            self.prepare(0, 1 << 30, None, None, keep=True)
            return True
        if self.held:
            self.give_back(0)
            return True
        return False

    def run_until_closed(self) -> None:
        """Close the pool. Workers that do not exit are killed, and killed workers exit."""
        if not self.closed:
            self.closed = True
            self.handle(CloseRequested())
        while self.hashing:
            self.end_hashing(0, None)
        for _ in range(50):
            if self.core.closed:
                break
            for slot, process in sorted(self.processes.items()):
                if process.killed:
                    self.die(slot)
            while self.hashing:
                self.end_hashing(0, None)
            self.let_time_pass(1.0)
        assert self.core.closed
        assert self.processes == {}
        assert (len(self.core.worker_table), len(self.core.task_table)) == (0, 0)
        assert self.open_tasks == {}, "every task has its outcome"
        assert (self.inputs, self.growths, self.requested) == ({}, {}, {}), "every request for memory has an answer"

    def teardown(self) -> None:
        if not hasattr(self, "core"):
            return
        if not self.closed:
            self.settle_down()
        self.run_until_closed()
        while self.abandoned:
            self.an_abandoned_worker_exits(0)
        while self.delivering:
            self.end_delivery(0, fails=False)
        while self.staging:
            self.a_stager_of_a_settled_task_ends(0, fails=True)
        self.move_all_pages()
        leases = snapshot(self.core).leases
        assert leases == {**dict.fromkeys(leases, 0), "caller": len(self.held)}
        while self.held:
            self.give_back(0)
        assert snapshot(self.core).memory_used_bytes == 0
        assert self.core.arena._blocks == {}


# without Phase.explain, which traces each line of Python and would shrink a failure for many minutes
PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
TestPool = pytest.mark.timeout(420)(PoolMachine.TestCase)  # shrinking ends after 300 s
TestPool.settings = settings(
    max_examples=300,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    phases=PHASES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
