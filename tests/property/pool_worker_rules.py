"""Rules of workers: they answer, forge messages, take too long and die."""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from offloop.core.model.events import (
    AbandonedWorkerExited,
    CreditGranted,
    TaskSubmitted,
    TimePassed,
    WorkerDisconnected,
    WorkerExited,
    WorkerReported,
    WorkerSpawned,
    WorkerViolatedProtocol,
)
from offloop.wire.handles import INBOX, OUTBOX, EncodedAt, Handle, WrittenTo
from offloop.wire.messages import Done, Failed, FromWorker, Loading, Need, Output, Ready
from offloop.wire.status import Status

from .pool_model import (
    LIMIT,
    MAX_BYTES,
    SIZES,
    SPEC,
    P,
    Process,
    done_with,
    tenant_of,
)
from .pool_task_rules import TaskRules


class WorkerRules(TaskRules):
    """Rules of workers and of time."""

    # Time

    @rule(obeys=st.booleans(), output=st.integers(0, 3), nbytes=st.sampled_from(SIZES))
    def a_task_runs_too_long(self, obeys: bool, output: int, nbytes: int) -> None:
        self.submit_and_prepare(1 << 30, 0.5, None, keep=True)
        slots = self.talking(with_task=True)
        if slots:
            self.need_and_get(0, nbytes)
            self.let_time_pass(0.5)
            if obeys and self.processes[slots[0]].task_id is not None:
                self.done(0, output, 0)

    @rule(seconds=st.sampled_from([0.05, 0.5, 1.0, 5.0, 10.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.core.wake_at:
            self.handle(TimePassed())
            if self.core.wake_at <= self.now:
                self.handle(TimePassed())  # the timer of a back-off of no length, before an abandoned worker is replaced
            assert self.core.wake_at > self.now, "the core would be woken again and again at the same time"

    # Workers

    @precondition(lambda self: any(not process.said_loading for process in self.processes.values()))
    @rule(which=st.integers(0, 9))
    def load(self, which: int) -> None:
        slot = self.pick([slot for slot in self.talking() if not self.processes[slot].said_loading], which)
        if slot is not None:
            self.processes[slot].said_loading = True
            self.say(slot, Loading(1))

    @precondition(lambda self: any(not process.said_ready for process in self.processes.values()))
    @rule(which=st.integers(0, 9))
    def ready(self, which: int) -> None:
        slot = self.pick([slot for slot in self.talking() if not self.processes[slot].said_ready], which)
        if slot is not None:
            self.say_ready(slot)

    def finish(self, process: Process) -> int:
        """End the worker's task. It loses its blocks except the preallocated one."""
        assert process.task_id is not None
        process.note()
        task_id, process.task_id = process.task_id, None
        process.granted = []
        process.waits = False
        return task_id

    def output_of(self, process: Process, which: int, odd: int) -> EncodedAt:
        """Return one of its blocks as an output. A preallocated block is used up."""
        handle = self.pick([None, *process.memory], which)
        if handle is None:
            return EncodedAt(None)
        if handle is process.preallocated:
            process.preallocated = None
        return EncodedAt(Handle(OUTBOX, handle.offset, max(handle.nbytes - odd, 1), handle.generation))

    @precondition(lambda self: self.talking(with_task=True))
    @rule(
        which=st.integers(0, 9),
        output=st.integers(0, 3),
        odd=st.sampled_from([0, 1, 5000, 1 << 30]),
        private_bytes=st.sampled_from([0, 0, MAX_BYTES + 1]),
        is_read=st.booleans(),
    )
    def done(self, which: int, output: int, odd: int, private_bytes: int = 0, *, is_read: bool = True) -> None:
        slot = self.pick(self.talking(with_task=True), which)
        process = self.processes[slot]
        if not process.waits:
            place = None if process.outputs and not process.previews and odd == 1 else self.output_of(process, output, odd)
            self.answer(slot, Done(self.finish(process), place, {}, 1, 2, private_bytes), is_read=is_read)

    @precondition(lambda self: any(process.unread for process in self.processes.values()))
    @rule()
    def the_pool_reads(self) -> None:
        for slot in self.talking():
            self.read(slot)

    def submit_short_task(self, timeout_s: float | None, retries: int) -> None:
        task_id = self.number()
        self.open_tasks[task_id] = None
        self.retries[task_id] = retries
        group, tenant = self.group_of(task_id), tenant_of(task_id)
        self.handle(
            TaskSubmitted(
                task_id, msgspec.structs.replace(SPEC, group=group, tenant=tenant, timeout_s=timeout_s, retries=retries)
            )
        )

    @rule(
        more=st.integers(1, 6),
        ends=st.lists(st.booleans(), max_size=8),
        which=st.integers(0, 9),
        timeout_s=st.sampled_from([None, 0.5]),
        retries=st.integers(0, 1),
    )
    def short_tasks_run(self, more: int, ends: list[bool], which: int, timeout_s: float | None, retries: int) -> None:
        """Short tasks are submitted, and some end, read by the pool or not. So some are sent to busy workers."""
        if not self.are_short_tasks_known:
            self.are_short_tasks_known = True
            self.all_goes_well()
            for _ in range(12):
                self.submit_short_task(None, 0)
                for slot in self.talking(with_task=True):
                    self.done(slot, 0, 0)
        for _ in range(more):
            self.submit_short_task(timeout_s, retries)
        for is_read in ends:
            if self.talking(with_task=True):
                self.done(which, 0, 0, is_read=is_read)

    @precondition(lambda self: self.talking(with_task=True))
    @rule(which=st.integers(0, 9), output=st.integers(0, 3), odd=st.sampled_from([0, 1, 5000]))
    def hand_over(self, which: int, output: int, odd: int) -> None:
        """A worker hands over an output before the end of its task, within its credit."""
        slot = self.pick(self.talking(with_task=True), which)
        process = self.processes[slot]
        if not process.waits and process.outputs < process.credit:
            self.say(slot, self.next_output(process, output, odd))

    def next_output(self, process: Process, output: int, odd: int) -> Output:
        assert process.task_id is not None
        place = self.output_of(process, output, odd)
        process.granted = [
            block for block in process.granted if place.block is None or block.generation != place.block.generation
        ]
        process.note()
        process.outputs += 1
        return Output(process.task_id, "frame", place, {}, 1, 2)

    @precondition(lambda self: self.open_tasks)
    @rule(which=st.integers(0, 9), outputs=st.integers(0, 9))
    def grant_credit(self, which: int, outputs: int) -> None:
        self.handle(CreditGranted(self.pick(list(self.open_tasks), which), outputs))

    @precondition(lambda self: self.talking(with_task=True))
    @rule(which=st.integers(0, 9), code=st.sampled_from(["refused", "memory_limit", "invalid_task"]))
    def failed(self, which: int, code: str) -> None:
        slot = self.pick(self.talking(with_task=True), which)
        self.answer(slot, Failed(self.finish(self.processes[slot]), code, "text", None, 1, 2))

    @precondition(lambda self: any(not process.spawned for process in self.processes.values()))
    @rule()
    def pids_are_known(self) -> None:
        for slot, process in sorted(self.processes.items()):
            if not process.spawned:
                process.spawned = True
                self.handle(WorkerSpawned(slot, 100 + slot))

    @precondition(lambda self: self.talking(with_task=True))
    @rule(times=st.integers(1, 4), which=st.integers(0, 9), opened=st.booleans())
    def tasks_kill_their_workers(self, times: int, which: int, opened: bool) -> None:
        for _ in range(times):
            slots = self.talking(with_task=True)
            if slots:
                slot = self.pick(slots, which)
                self.processes[slot].note()
                self.die(slot, -11)
            if opened:
                self.all_goes_well()

    @rule(times=st.integers(1, 4))
    def starts_fail(self, times: int) -> None:
        for _ in range(times):
            slots = [slot for slot, process in sorted(self.processes.items()) if not process.said_ready]
            if slots:
                self.die(slots[0], 1)
            else:
                self.let_time_pass(5.0)

    @precondition(lambda self: self.talking(with_task=True))
    @rule(which=st.integers(0, 9), nbytes=st.sampled_from(SIZES))
    def need(self, which: int, nbytes: int) -> None:
        slot = self.pick(self.talking(with_task=True), which)
        process = self.processes[slot]
        if not process.waits:
            assert process.task_id is not None
            process.note()
            process.waits = not process.stopping
            self.say(slot, Need(process.task_id, nbytes))

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 9))
    def begin(self, which: int) -> None:
        process = self.pick(list(self.processes.values()), which)
        process.note()

    @precondition(lambda self: self.talking())
    @rule(
        which=st.integers(0, 9),
        kind=st.sampled_from(
            ["again", "ready", "foreign task", "generation", "offset", "length", "segment", "file", "need", "output"]
        ),
        foreign=st.integers(0, 9),
    )
    def forge(self, which: int, kind: str, foreign: int) -> None:
        slot = self.pick(self.talking(), which)
        process = self.processes[slot]
        self.read(slot)
        task_id = process.task_id or 0
        known = self.pick([*process.memory, *(handle for p in self.processes.values() for handle in p.memory)], foreign)
        handle = known or Handle(OUTBOX, P, 1, foreign)
        forged: dict[str, FromWorker | None] = {
            "again": process.last,
            "ready": Ready(1) if process.said_ready else Need(task_id, 0),
            "foreign task": Failed(task_id + 1 + foreign, "a", "b", None, 1, 2),
            "generation": done_with(task_id, Handle(OUTBOX, handle.offset, 1, handle.generation + 1000)),
            "offset": done_with(task_id, Handle(OUTBOX, handle.offset + P, 1, handle.generation)),
            "length": done_with(task_id, Handle(OUTBOX, handle.offset, LIMIT * 2, handle.generation)),
            "segment": done_with(task_id, Handle(INBOX, handle.offset, 1, handle.generation)),
            "file": Done(task_id, WrittenTo(5), {}, 1, 2),
            "need": Need(task_id, 0),
            "output": None if process.outputs < process.credit else Output(task_id, "", EncodedAt(None), {}, 1, 2),
        }
        message = forged[kind]
        answers_own = isinstance(message, Failed | Done) and message.task_id == process.task_id and kind == "again"
        if message is not None and not answers_own and not (kind == "again" and isinstance(message, Need | Output)):
            self.handle(WorkerReported(slot, message))

    @precondition(lambda self: self.talking(with_task=True))
    @rule(which=st.integers(0, 9), foreign=st.integers(0, 9))
    def guess_a_handle(self, which: int, foreign: int) -> None:
        """Name a block that was not granted to the worker: another worker's, a caller's, or one that is being reserved."""
        slot = self.pick(self.talking(with_task=True), which)
        process = self.processes[slot]
        assert process.task_id is not None
        if process.stopping:
            return  # its answer is dropped in any case
        self.read(slot)
        block = self.pick(list(self.core.arena._blocks.values()), foreign)
        sent = [*process.memory, *(run.grant for _, run in process.runs if run.grant is not None)]
        if block is not None and block.generation not in {handle.generation for handle in sent}:
            self.handle(WorkerReported(slot, done_with(process.task_id, Handle(OUTBOX, block.offset, 1, block.generation))))
            assert process.killed, "the handle of the block was not sent to it"

    @precondition(lambda self: self.processes)
    @rule(
        which=st.integers(0, 9),
        how=st.sampled_from(["dies", "dies", "dies", "misbehaves", "closes its channel", "never started"]),
        exit_code=st.sampled_from([0, 1, -9, -11, -40]),
        words=st.integers(0, 3),
        odd=st.sampled_from([0, 5000]),
    )
    def a_worker_fails(self, which: int, how: str, exit_code: int, words: int, odd: int) -> None:
        slot = self.pick(sorted(self.processes), which)
        process = self.processes[slot]
        if how == "never started" and not process.said_ready:
            del self.processes[slot]
            self.handle(WorkerExited(slot, None, reason="it could not be started"))
        elif how == "misbehaves" and process.channel_open:
            process.channel_open = False
            self.handle(WorkerViolatedProtocol(slot, "nonsense"))
        elif how == "closes its channel" and process.channel_open:
            self.read(slot)
            process.channel_open = False
            self.handle(WorkerDisconnected(slot))
        else:
            self.die(slot, exit_code, words, odd)

    @precondition(lambda self: any(process.killed for process in self.processes.values()))
    @rule(words=st.integers(0, 3))
    def killed_workers_exit(self, words: int) -> None:
        for slot, process in sorted(self.processes.items()):
            if process.killed:
                self.die(slot, -9, words, 0)

    def die(self, slot: int, exit_code: int = -9, words: int = 0, odd: int = 0) -> None:
        """The worker exits, possibly with an unread answer."""
        process = self.processes.pop(slot)
        last_words = tuple(process.unread) if process.channel_open else ()
        speaks = words and process.task_id is not None and not process.waits and process.channel_open
        if speaks and process.outputs < process.credit:
            last_words += (self.next_output(process, words, odd),)
        self.note_death(process)
        status = Status(process.noted_id, 0, 0.5)
        if speaks and process.task_id is not None and words < 3:
            self.killed_by[process.task_id] = 0
            last_words += (Done(process.task_id, self.output_of(process, words - 1, odd), {}, 1, 2),)
        self.handle(WorkerExited(slot, exit_code, status=status, last_words=last_words))

    @precondition(lambda self: self.abandoned)
    @rule(which=st.integers(0, 9))
    def an_abandoned_worker_exits(self, which: int) -> None:
        outbox_id = self.pick(sorted(self.abandoned), which)
        del self.abandoned[outbox_id]
        self.handle(AbandonedWorkerExited(outbox_id))

    # Pages

    @precondition(lambda self: self.talking(with_task=True))
    @rule(which=st.integers(0, 9), nbytes=st.sampled_from(SIZES))
    def need_and_get(self, which: int, nbytes: int) -> None:
        self.need(which, nbytes)
        self.move_all_pages()

    @rule(which=st.integers(0, 9), nbytes=st.sampled_from(SIZES))
    def run_with_a_new_source(self, which: int, nbytes: int) -> None:
        self.request_input(nbytes)
        self.move_all_pages()
        self.submit_and_prepare(len(self.held) - 1, None, None, keep=bool(which % 2))
