"""Rules of callers: they submit and cancel tasks, request memory and return it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from offloop.core.memory.arena import INBOX_ID
from offloop.core.model.blocks import CALLER_MEMORY, Block
from offloop.core.model.events import (
    BlocksReturned,
    CloseRequested,
    DrainRequested,
    Event,
    GrowthRequested,
    InputCancelled,
    InputCompleted,
    InputRequested,
    ResizeRequested,
    SourceHashed,
    SourceMemoryRequested,
    SourcesDelivered,
    StagingFailed,
    TaskCancelled,
    TaskStaged,
    TaskSubmitted,
)
from offloop.core.model.task import StreamLimits, TaskSpec
from offloop.errors import InvalidTask
from offloop.wire.handles import INBOX, OUTBOX, EncodedAt, Handle

from .pool_model import (
    INBOX_NBYTES,
    SIZES,
    SPEC,
    STAGES,
    tenant_of,
)
from .pool_runtime import PoolRuntime


class TaskRules(PoolRuntime):
    """Rules of callers."""

    # Callers

    @rule()
    def submit(self) -> None:
        task_id = self.number()
        self.open_tasks[task_id] = None
        self.preparing[task_id] = None
        spec = msgspec.structs.replace(SPEC, group=self.group_of(task_id), tenant=tenant_of(task_id))
        copy_nbytes = self.pick([0, 0, *SIZES], task_id)
        if copy_nbytes:
            self.requested[task_id] = copy_nbytes
        self.handle(TaskSubmitted(task_id, spec, copy_nbytes, staged=False, copy_nbytes=copy_nbytes))

    @property
    def may_request(self) -> list[int]:
        """Return the tasks whose stagers have neither a block nor a request for one."""
        return [task_id for task_id in self.preparing if task_id not in self.requested and task_id not in self.staging]

    @precondition(lambda self: self.may_request)
    @rule(which=st.integers(0, 9), nbytes=st.sampled_from(SIZES))
    def request_source_memory(self, which: int, nbytes: int) -> None:
        task_id = self.pick(self.may_request, which)
        self.requested[task_id] = nbytes
        self.handle(SourceMemoryRequested(task_id, nbytes))

    @precondition(lambda self: self.preparing)
    @rule(which=st.integers(0, 9))
    def interrupt_staging(self, which: int) -> None:
        task_id = self.pick(list(self.preparing), which)
        self.requested.pop(task_id, None)
        self.staging.pop(task_id, None)
        self.handle(StagingFailed(task_id, None))

    @property
    def settled_in_staging(self) -> list[int]:
        """Return the settled tasks whose stagers still write."""
        return [task_id for task_id in self.staging if task_id not in self.open_tasks]

    @precondition(lambda self: self.settled_in_staging)
    @rule(which=st.integers(0, 9), fails=st.booleans())
    def a_stager_of_a_settled_task_ends(self, which: int, fails: bool) -> None:
        task_id = self.pick(self.settled_in_staging, which)
        del self.staging[task_id]
        self.handle(StagingFailed(task_id, None) if fails else TaskStaged(task_id, SPEC))

    @property
    def may_be_staged(self) -> list[int]:
        """Return the tasks whose stagers do not wait for memory."""
        return [task_id for task_id in self.preparing if task_id not in self.requested]

    @precondition(lambda self: self.may_be_staged)
    @rule(
        which=st.integers(0, 9),
        source=st.integers(0, 9),
        timeout_s=st.sampled_from([None, 0.5, 5.0]),
        queue_timeout_s=st.sampled_from([None, None, 2.0]),
        keep=st.booleans(),
        retries=st.integers(0, 2),
    )
    def prepare(
        self, which: int, source: int, timeout_s: float | None, queue_timeout_s: float | None, keep: bool, retries: int = 0
    ) -> None:
        task_id = self.pick(self.may_be_staged, which)
        del self.preparing[task_id]
        self.retries[task_id] = retries
        self.tell_with_source(TaskStaged, task_id, source, timeout_s, queue_timeout_s, keep, retries)

    @rule(
        source=st.integers(0, 9),
        timeout_s=st.sampled_from([None, 0.5, 5.0]),
        queue_timeout_s=st.sampled_from([None, None, 2.0]),
        keep=st.booleans(),
        retries=st.integers(0, 2),
    )
    def submit_prepared(
        self, source: int, timeout_s: float | None, queue_timeout_s: float | None, keep: bool, retries: int
    ) -> None:
        task_id = self.number()
        self.open_tasks[task_id] = None
        self.retries[task_id] = retries
        self.tell_with_source(TaskSubmitted, task_id, source, timeout_s, queue_timeout_s, keep, retries)

    def tell_with_source(
        self,
        event: Callable[[int, TaskSpec], Event],
        task_id: int,
        source: int,
        timeout_s: float | None,
        queue_timeout_s: float | None,
        keep: bool,
        retries: int,
    ) -> None:
        own = self.staging.pop(task_id, None)
        growing = [block for block, _ in self.growths.values()]  # a stream that has not ended is no source yet
        held = [pair for pair in self.held[source : source + 1 + self.numbers % 3] if pair[0] not in growing]
        first = INBOX_ID if own is not None or not held else held[0][0].segment_id
        held = [pair for pair in held if pair[0].segment_id == first]
        in_outbox = bool(held) and held[0][0].segment_id != INBOX_ID
        segment = OUTBOX if in_outbox else INBOX
        blocks = held if own is None else [own, *held]
        places = [EncodedAt(Handle(segment, block.offset, nbytes, block.generation)) for block, nbytes in blocks]
        in_files = not blocks and self.numbers % 3 == 1
        if in_files:
            places = [EncodedAt(Handle(CALLER_MEMORY, 0, 100_000, 0))]
        spec = TaskSpec(
            sources=(*places, EncodedAt(None), *places[:1])[: self.numbers % 5 + 1],
            stages=STAGES,
            group=self.group_of(task_id),
            tenant=tenant_of(task_id),
            timeout_s=timeout_s,
            queue_timeout_s=queue_timeout_s,
            outbox_id=held[0][0].segment_id if in_outbox else None,
            stageable_again=bool(blocks) and not in_outbox and not keep,
            in_files=in_files,
            retries=retries,
            credit=(0, 0, 1, 3)[self.numbers % 4],
            previews=int(self.numbers % 8 == 2),
            stream=StreamLimits(2.0, (None, 4.0)[self.numbers % 8 == 3]) if self.numbers % 4 == 3 else None,
        )
        self.handle(event(task_id, spec))
        if held and not keep:
            self.held = [pair for pair in self.held if pair not in held]
            self.handle(BlocksReturned(tuple(block.generation for block, _ in held)))

    @rule(
        source=st.integers(0, 9),
        timeout_s=st.sampled_from([None, 0.5, 5.0]),
        queue_timeout_s=st.sampled_from([None, None, 2.0]),
        keep=st.booleans(),
        retries=st.integers(0, 2),
    )
    def submit_and_prepare(
        self, source: int, timeout_s: float | None, queue_timeout_s: float | None, keep: bool, retries: int = 0
    ) -> None:
        self.submit()
        if self.numbers in self.may_be_staged:
            self.prepare(len(self.may_be_staged) - 1, source, timeout_s, queue_timeout_s, keep, retries)

    @precondition(lambda self: self.preparing)
    @rule(which=st.integers(0, 9))
    def refuse(self, which: int) -> None:
        task_id = self.pick(list(self.preparing), which)
        self.staging.pop(task_id, None)
        self.handle(StagingFailed(task_id, InvalidTask("no such file")))

    @precondition(lambda self: self.open_tasks)
    @rule(which=st.integers(0, 9))
    def cancel(self, which: int) -> None:
        self.handle(TaskCancelled(self.pick(list(self.open_tasks), which)))

    @precondition(lambda self: self.hashing)
    @rule(which=st.integers(0, 9), digest=st.sampled_from([b"a", b"a", b"b", None]))
    def end_hashing(self, which: int, digest: bytes | None) -> None:
        task_id = self.pick(list(self.hashing), which)
        del self.hashing[task_id]
        self.handle(SourceHashed(task_id, digest))

    @precondition(lambda self: self.delivering)
    @rule(which=st.integers(0, 9), fails=st.sampled_from([False, False, False, True]))
    def end_delivery(self, which: int, *, fails: bool) -> None:
        delivery_id = self.pick(list(self.delivering), which)
        del self.delivering[delivery_id]
        self.handle(SourcesDelivered(delivery_id, InvalidTask("it has changed") if fails else None))

    @rule(workers=st.integers(1, 4), which=st.integers(0, 1))
    def resize(self, workers: int, which: int) -> None:
        group = self.pick(list(self.settings), which)
        if not self.closed:
            self.concurrency[group] = workers
        self.handle(ResizeRequested(workers, group))

    @precondition(lambda self: self.events_sent >= self.close_after)
    @rule()
    def drain(self) -> None:
        self.draining = True
        self.handle(DrainRequested())

    @rule(nbytes=st.sampled_from(SIZES))
    def request_input(self, nbytes: int) -> None:
        input_id = self.number()
        self.inputs[input_id] = nbytes
        self.handle(InputRequested(input_id, nbytes))

    @rule(nbytes=st.sampled_from(SIZES[:-2]))
    def request_a_stream(self, nbytes: int) -> None:
        input_id = self.number()
        self.inputs[input_id] = nbytes
        self.handle(InputRequested(input_id, nbytes, INBOX_NBYTES))

    @precondition(lambda self: self.may_grow)
    @rule(which=st.integers(0, 9), nbytes=st.sampled_from(SIZES), wanted=st.sampled_from(SIZES))
    def grow(self, which: int, nbytes: int, wanted: int) -> None:
        block = self.pick(self.may_grow, which)
        if nbytes > block.nbytes:
            input_id = self.number()
            self.growths[input_id] = (block, nbytes)
            self.handle(GrowthRequested(input_id, block.generation, nbytes, wanted))

    @precondition(lambda self: self.may_grow)
    @rule(which=st.integers(0, 9), nbytes=st.sampled_from(SIZES))
    def a_stream_ends(self, which: int, nbytes: int) -> None:
        block = self.pick(self.may_grow, which)
        index = next(n for n, (held, _) in enumerate(self.held) if held is block)
        self.handle(InputCompleted(block.generation, nbytes))
        assert block.nbytes == block.addresses_nbytes
        self.held[index] = (block, min(nbytes, block.nbytes))

    @property
    def may_grow(self) -> list[Block]:
        """Return the blocks of streams without a request for growth."""
        waiting = [block for block, _ in self.growths.values()]
        blocks = [block for block, _ in self.held if block.addresses_nbytes > block.nbytes and block not in waiting]
        return [block for block in blocks if len(block.leases) == 1]

    @precondition(lambda self: self.growths)
    @rule(which=st.integers(0, 9))
    def abandon_growth(self, which: int) -> None:
        input_id = self.pick(list(self.growths), which)
        block, _ = self.growths.pop(input_id)
        self.handle(InputCancelled(input_id))
        self.held = [(held, nbytes) for held, nbytes in self.held if held is not block]
        self.handle(BlocksReturned((block.generation,)))

    @precondition(lambda self: self.inputs)
    @rule(which=st.integers(0, 9))
    def abandon_input(self, which: int) -> None:
        input_id = self.pick(list(self.inputs), which)
        del self.inputs[input_id]
        self.handle(InputCancelled(input_id))

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 9))
    def give_back(self, which: int) -> None:
        block, _ = held = self.pick(self.held, which)
        for input_id, (growing, _) in tuple(self.growths.items()):
            if growing is block:
                del self.growths[input_id]
                self.handle(InputCancelled(input_id))
        self.held.remove(held)
        self.handle(BlocksReturned((block.generation,)))

    # Pages

    @precondition(lambda self: self.events_sent >= self.close_after)
    @rule()
    def close(self) -> None:
        self.closed = True
        self.handle(CloseRequested())
