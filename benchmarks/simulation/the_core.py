"""The pool's own core in simulated time: it gets events, and its commands are simulated. Only this module uses the core."""

from __future__ import annotations

from functools import cache
from heapq import heappop, heappush
from math import inf
from random import Random
from time import process_time

import msgspec

from offloop.core.model.commands import Command, KillWorker, ReservePages, Send, SettleTask, StartWorker
from offloop.core.model.events import Event, PagesReserved, PoolStarted, TaskSubmitted, TimePassed, WorkerExited, WorkerReported
from offloop.core.model.settings import AdmissionMode, CoreSettings, GroupSettings
from offloop.core.model.task import Completed, TaskSpec
from offloop.core.pool_state import PoolState
from offloop.core.scheduling.backfill import RESERVATION_S
from offloop.core.scheduling.overtaking import MAX_OVERTAKING_S
from offloop.core.scheduling.policy import PRIORITY_HEAD_START_S
from offloop.operation import Estimate
from offloop.wire.handles import EncodedAt
from offloop.wire.messages import Done, Failed, Loading, Ready, Retire, Run, Stage

from .schedule import Schedule
from .traces import Arrival, Trace, size_of

__all__ = ["OVERTAKEN_S", "OVERTAKEN_S_PER_CLASS", "RESERVATION_S", "Replay", "cost_per_task"]

OVERTAKEN_S = MAX_OVERTAKING_S  # seconds of later work that may pass a task
OVERTAKEN_S_PER_CLASS = PRIORITY_HEAD_START_S  # seconds more for each higher priority

_PLENTY = 1 << 40
_START_S = 0.1  # duration of a worker's start in seconds


class Replay:
    """One trace in one pool.

    A worker beyond the number of CPUs does not slow down the others, and a task with several threads is not faster.
    """

    def __init__(self, trace: Trace, budget_bytes: int | None = None) -> None:
        self.trace = trace
        self.schedule = Schedule.empty("offloop", len(trace.arrivals), budget_bytes)
        self.refusals: dict[str, int] = {}  # name of the error -> number of refused tasks
        self.idle_in_vain: list[str] = []  # violations: a worker was idle while a task waited that it could have run
        self.held_back_s = 0.0  # seconds of workers that were idle while tasks waited, for memory or beside large tasks
        self.cpu_s = 0.0  # CPU time of the replay in seconds
        self._core = PoolState(_settings(trace, budget_bytes))
        self._due: list[tuple[float, int, Event]] = []  # a heap: time, number, event
        self._entries = 0
        self._running: dict[int, int] = {}  # slot -> task
        self._idle: set[int] = set()
        self._waiting: set[int] = set()
        self._told_at = 0.0
        self._held_back = 0  # number of workers that are idle while tasks wait

    def run(self) -> Schedule:
        """Replay the trace until no event is left. Returns the schedule."""
        began = process_time()
        self._tell(PoolStarted(), self.trace.arrivals[0].at - 1.0)
        for number, arrival in enumerate(self.trace.arrivals):
            self._let_happen(arrival.at)
            self._waiting.add(number)
            self._tell(TaskSubmitted(number, spec_of(arrival)), arrival.at)
        self._let_happen(inf)
        self.cpu_s = process_time() - began
        assert not self._waiting, f"{len(self._waiting)} tasks wait for ever"
        return self.schedule

    def _let_happen(self, until: float) -> None:
        """Handle all events until this time, timers of the core included. With infinity, until no task waits or runs."""
        while self._due or self._waiting or until < inf:
            wakes, due = self._core.wake_at, self._due[0][0] if self._due else inf
            if min(wakes, due) > until or wakes == due == inf:
                return
            if wakes < due:
                self._tell(TimePassed(), wakes)
            else:
                now, _, event = heappop(self._due)
                self._note_end(event, now)
                self._tell(event, now)

    def _tell(self, event: Event, now: float) -> None:
        self.held_back_s += self._held_back * (now - self._told_at)
        self._told_at = now
        for command in self._core.handle(event, now):
            self._obey(command, now)
        self._held_back = self._vacant if self._waiting else 0
        if self._held_back:
            self._note_idleness(now)

    def _obey(self, command: Command, now: float) -> None:
        match command:
            case Send(slot, Run() as run):
                self._begin(slot, run, now)
            case Send(slot, Retire()):
                self._idle.discard(slot)
                self._expect(now, WorkerExited(slot, 0))
            case SettleTask(task_id, outcome):
                self._settled(task_id, outcome)
            case StartWorker(slot):
                self._idle.discard(slot)
                self._expect(now + _START_S, WorkerReported(slot, Loading(pid=1000 + slot)))
                self._expect(now + _START_S, WorkerReported(slot, Ready(pid=1000 + slot)))
            case ReservePages(reservation):
                self._tell(PagesReserved(reservation), now)
            case KillWorker(slot):
                raise AssertionError(f"the core kills worker {slot}, which did nothing wrong")
            case _:
                pass

    def _expect(self, at: float, event: Event) -> None:
        self._entries += 1
        heappush(self._due, (at, self._entries, event))

    def _begin(self, slot: int, run: Run, now: float) -> None:
        number = run.task_id
        arrival = self.trace.arrivals[number]
        self._idle.discard(slot)
        self._waiting.discard(number)
        self.schedule.began[number] = now
        self._running[slot] = number
        if len(self._running) > self.trace.workers:
            self.schedule.beyond.add(number)
        if run.private_bytes is not None and arrival.peak_bytes > run.private_bytes:
            self.schedule.stopped[number] = run.private_bytes
            ends = now + arrival.cost_s * run.private_bytes / arrival.peak_bytes
            answer = Failed(number, "memory_limit", "", None, round(now * 1e9), round(ends * 1e9), 0, run.private_bytes)
        else:
            ends = now + arrival.cost_s
            took = (arrival.peak_bytes, round(arrival.cost_s * 1e9))
            answer = Done(number, EncodedAt(None), {}, round(now * 1e9), round(ends * 1e9), 0, *took)
        self._expect(ends, WorkerReported(slot, answer))

    def _note_end(self, event: Event, now: float) -> None:
        """Note that a worker has ended its task, or is ready for its first one."""
        if isinstance(event, WorkerReported):
            self._idle.add(event.slot)
            number = self._running.pop(event.slot, None)
            if number is not None:
                self.schedule.ended[number] = now

    def _settled(self, number: int, outcome: object) -> None:
        if not isinstance(outcome, Completed) and number not in self.schedule.stopped:
            self._waiting.discard(number)
            name = type(outcome).__name__
            self.refusals[name] = self.refusals.get(name, 0) + 1

    def _note_idleness(self, now: float) -> None:
        """Note a violation if a worker is idle while the first task waits and its memory is free."""
        if self._core.budget.fits(self._core.queue.lanes["default"].policy.first()):
            self.idle_in_vain.append(f"at {now:.3f} s {self._vacant} workers were idle, and {len(self._waiting)} tasks waited")

    @property
    def _vacant(self) -> int:
        """Number of further tasks that could run now. Other idle workers are only for small tasks beside large ones."""
        return max(min(len(self._idle), self.trace.workers - len(self._running)), 0)


def spec_of(arrival: Arrival) -> TaskSpec:
    """Returns the specification of a task, with its estimates."""
    return TaskSpec(
        sources=(EncodedAt(None),),
        stages=_stages(arrival.kind or size_of(arrival.cost_s)),
        timeout_s=None,
        estimate=Estimate(peak_bytes=arrival.estimated_bytes, work_s=arrival.estimated_s),
        priority=arrival.priority,
        tenant=arrival.tenant,
    )


def cost_per_task(waiting: int, tenants: int = 1, *, tasks: int = 2000, seed: int = 1) -> float:
    """Returns the core's CPU time in seconds for one arrival and one end of a task, while this many tasks wait."""
    random = Random(seed)
    core = PoolState(_settings(Trace("", [], 4)))
    running = [slot for command in core.handle(PoolStarted(), 0.0) for slot in _started(core, command)]
    now, number = 0.0, 0

    def submit() -> None:
        nonlocal number
        cost_s = 0.005 * random.paretovariate(1.1)
        tenant = f"tenant {random.randrange(tenants)}"
        # any priority, so that the task does not always go to the end of the queue
        arrival = Arrival(now, cost_s, 1, tenant, random.randint(-3, 3), estimated_s=cost_s, estimated_bytes=1)
        core.handle(TaskSubmitted(number, spec_of(arrival)), now)
        number += 1

    def end() -> None:
        nonlocal now
        now += 0.001
        slot = random.choice(running)
        task = core.worker_table[slot].task
        assert task is not None
        core.handle(WorkerReported(slot, Done(task.task_id, EncodedAt(None), {}, 0, 1)), now)

    for _ in range(waiting + len(running)):
        submit()
    began = process_time()
    for _ in range(tasks):
        submit()
        end()
    return (process_time() - began) / tasks


def _started(core: PoolState, command: Command) -> list[int]:
    """Returns the slot of a `StartWorker`. Its worker is ready at once."""
    if not isinstance(command, StartWorker):
        return []
    core.handle(WorkerReported(command.slot, Loading(pid=1)), 0.0)
    for answer in core.handle(WorkerReported(command.slot, Ready(pid=1)), 0.0):
        if isinstance(answer, ReservePages):
            core.handle(PagesReserved(answer.reservation), 0.0)
    return [command.slot]


def _settings(trace: Trace, budget_bytes: int | None = None) -> CoreSettings:
    return CoreSettings(
        groups=(GroupSettings(workers=trace.workers),),
        limit_bytes=_PLENTY,
        inbox_nbytes=_PLENTY // 2,
        max_queue=None,
        grace_s=1.0,
        start_timeout_s=10.0,
        tenant_weights=trace.weights,
        budget_bytes=budget_bytes,
        admission=AdmissionMode.ENFORCE,
    )


@cache
def _stages(kind: str) -> list[Stage]:
    """Returns one pipeline for each kind, because the pool learns a correction for each."""
    return [Stage("simulated", msgspec.Raw(msgspec.msgpack.encode([["Work", kind]])))]
