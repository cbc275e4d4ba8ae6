"""A source is copied into the own inbox of its task's worker: where, in which order, and what happens without memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import anyio
import anyio.lowlevel
import pytest
from own_background import background

from offloop import Pool
from offloop.core.model.blocks import CALLER_MEMORY
from offloop.core.model.settings import KEPT_INBOX_NBYTES
from offloop.runtime.memory.page_manager import INLINE_NBYTES
from offloop.runtime.memory.segments import Segment
from offloop.runtime.workers.source_delivery import SourceDelivery
from offloop.runtime.workers.worker_inbox import WorkerInbox
from offloop.testing.faults import Echo, FaultsPlugin, Hang
from offloop.wire.handles import INBOX, OUTBOX, EncodedAt, Handle, RasterAt
from offloop.wire.messages import Cancel, Failed, FromSupervisor, Run

MIB = 1 << 20
PAGE = 4096


def run_of(task_id: int, *sources: EncodedAt | RasterAt) -> Run:
    return Run(task_id, sources, [], None)


def encoded(offset: int, nbytes: int, segment: int = INBOX) -> EncodedAt:
    return EncodedAt(Handle(segment, offset, nbytes, 7))


def pages_of(inbox: WorkerInbox) -> int:
    return os.fstat(inbox.worker_fd).st_blocks * 512


class Scene:
    """A pool's inbox full of bytes, an inbox of a worker, and a caller's memory."""

    def __init__(self) -> None:
        self.pool_inbox = Segment(64 * MIB, workers_write=False)
        self.inbox = WorkerInbox(128 * MIB)
        self.content = os.urandom(2 * MIB) * 16
        self.pool_inbox.write(0, memoryview(self.content))
        self.memory: dict[int, Sequence[memoryview]] = {}
        self.sent: list[FromSupervisor] = []
        self.failed: list[Failed] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool_inbox.close()
        self.inbox.close()

    def read(self, source: Any) -> bytes:
        return self.inbox.read(source.block.offset, source.block.nbytes)

    def place(self, run: Run) -> int:
        """Returns where the first source of a task is placed."""
        placed, _ = self.inbox.place(run, ())
        assert placed.sources[0].block is not None
        return placed.sources[0].block.offset

    def delivery(self, count: int) -> SourceDelivery:
        """Of a running loop. `arrived` is set after `count` messages."""
        self.arrived = anyio.Event()

        def send(message: FromSupervisor) -> None:
            self.sent.append(message)
            if len(self.sent) == count:
                self.arrived.set()

        self.background = background()
        return SourceDelivery(self.inbox, self.pool_inbox, self.background, self.memory.get, send, self.failed.append)

    async def until_sent(self, count: int) -> None:
        with anyio.fail_after(20):
            while len(self.sent) < count:
                await anyio.lowlevel.checkpoint()

    async def until_pages(self, nbytes: int) -> None:
        with anyio.fail_after(20):
            while pages_of(self.inbox) > nbytes:
                await anyio.lowlevel.checkpoint()


def test_sources_in_the_pools_inbox_get_places_and_others_stay_where_they_are() -> None:
    with Scene() as scene:
        raster = RasterAt(Handle(INBOX, 3 * PAGE, 12, 8), (3, 4), "|u1")
        given = (encoded(64, 100), EncodedAt(None), encoded(PAGE, 50, OUTBOX), raster)
        run, copies = scene.inbox.place(run_of(1, *given), ())
        scene.inbox.copy_in(scene.pool_inbox, copies)
        first, empty, in_outbox, placed = run.sources
        assert (empty, in_outbox) == given[1:3]
        assert scene.read(first) == scene.content[64:164]
        assert scene.read(placed) == scene.content[3 * PAGE : 3 * PAGE + 12]
        assert placed == RasterAt(Handle(INBOX, PAGE, 12, 8), (3, 4), "|u1")


@pytest.mark.parametrize("in_thread", [False, True])
def test_sources_in_the_callers_memory_get_places_in_the_order_of_the_task(in_thread: bool) -> None:
    with Scene() as scene:
        memory = [memoryview(os.urandom(PAGE + 1)), memoryview(os.urandom(5))]
        given = (encoded(0, PAGE + 1, CALLER_MEMORY), EncodedAt(None), encoded(1, 5, CALLER_MEMORY))
        run, copies = scene.inbox.place(run_of(1, *given), memory)
        (scene.inbox.copy_in_thread if in_thread else scene.inbox.copy_in)(scene.pool_inbox, copies)
        first, empty, second = run.sources
        assert empty == EncodedAt(None)
        assert [scene.read(first), scene.read(second)] == memory
        assert second == EncodedAt(Handle(INBOX, 2 * PAGE, 5, 7))


def test_two_tasks_of_a_worker_have_different_places_until_one_is_answered() -> None:
    with Scene() as scene:
        starts = [scene.place(run_of(task_id, encoded(0, nbytes))) for task_id, nbytes in ((1, 3 * PAGE), (2, PAGE), (3, PAGE))]
        assert starts == [0, 3 * PAGE, 4 * PAGE]
        scene.inbox.forget(1)
        for task_id, nbytes, start in ((4, 4 * PAGE, 5 * PAGE), (5, 2 * PAGE, 0), (6, PAGE, 2 * PAGE)):
            assert scene.place(run_of(task_id, encoded(0, nbytes))) == start


def test_after_a_large_source_an_inbox_keeps_its_first_pages_only() -> None:
    with Scene() as scene:
        _, copies = scene.inbox.place(run_of(1, encoded(0, 20 * MIB)), ())
        scene.inbox.copy_in_thread(scene.pool_inbox, copies)
        assert pages_of(scene.inbox) == 20 * MIB
        assert not scene.inbox.has_excess, "its task uses the pages"
        scene.inbox.forget(1)
        assert scene.inbox.has_excess
        scene.inbox.release_range(*scene.inbox.take_excess())
        assert pages_of(scene.inbox) == KEPT_INBOX_NBYTES
        scene.inbox.place(run_of(2, encoded(0, MIB)), ())
        scene.inbox.forget(2)
        assert not scene.inbox.has_excess


def test_pages_of_another_task_are_not_released() -> None:
    with Scene() as scene:
        placed: list[Run] = []
        for task_id in (1, 2, 3):
            run, copies = scene.inbox.place(run_of(task_id, encoded(task_id, 10 * MIB)), ())
            scene.inbox.copy_in_thread(scene.pool_inbox, copies)
            placed.append(run)
        for task_id in (1, 3):
            scene.inbox.forget(task_id)
        assert scene.inbox.take_excess() == (20 * MIB, 30 * MIB)
        scene.inbox.release_range(20 * MIB, 30 * MIB)
        assert scene.read(placed[1].sources[0]) == scene.content[2 : 2 + 10 * MIB]


@pytest.mark.anyio
async def test_the_pages_of_a_large_source_are_kept_for_the_next_one_and_released_later(anyio_backend: object) -> None:
    with Scene() as scene:
        delivery = scene.delivery(2)
        for task_id in (1, 2):
            delivery.send(run_of(task_id, encoded(0, 20 * MIB)))
            await scene.until_sent(task_id)
            delivery.note_end(task_id)
            assert pages_of(scene.inbox) == 20 * MIB
        await scene.until_pages(KEPT_INBOX_NBYTES)


@pytest.mark.anyio
async def test_kept_pages_are_released_at_once_when_the_pool_needs_their_memory(anyio_backend: object) -> None:
    with Scene() as scene:
        delivery = scene.delivery(2)
        delivery.send(run_of(1, encoded(0, 10)))
        delivery.send(run_of(2, encoded(0, 20 * MIB)))
        await scene.until_sent(2)
        delivery.release_kept()
        await anyio.lowlevel.checkpoint()
        assert pages_of(scene.inbox) >= 20 * MIB, "the worker has the task"
        delivery.note_end(2)
        with anyio.fail_after(0.9):  # less than a second
            delivery.release_kept()
            await scene.until_pages(KEPT_INBOX_NBYTES)


@pytest.mark.anyio
@pytest.mark.parametrize("nbytes", [10, 30 * MIB])
async def test_a_source_is_not_copied_to_where_a_thread_releases_pages(anyio_backend: object, nbytes: int) -> None:
    with Scene() as scene:
        delivery = scene.delivery(4)
        for task_id in (1, 2):
            delivery.send(run_of(task_id, encoded(task_id, 16 * MIB)))
            await scene.until_sent(task_id)
        delivery.note_end(2)
        thread = scene.background.own_threads = anyio.CapacityLimiter(1)
        thread.acquire_on_behalf_of_nowait(scene)  # so that the thread cannot begin
        delivery.release_kept()
        while not thread.statistics().tasks_waiting:
            await anyio.lowlevel.checkpoint()
        delivery.send(run_of(3, encoded(3, nbytes)))
        await anyio.wait_all_tasks_blocked()
        assert len(scene.sent) == 2
        thread.release_on_behalf_of(scene)
        await scene.until_sent(3)
        sent = scene.sent[-1]
        assert isinstance(sent, Run)
        assert scene.read(sent.sources[0]) == scene.content[3 : 3 + nbytes]


@pytest.mark.every_loop
@pytest.mark.anyio
@pytest.mark.parametrize("nbytes", [INLINE_NBYTES, INLINE_NBYTES + 1])
async def test_messages_keep_their_order_behind_a_source_that_is_copied(anyio_backend: object, nbytes: int) -> None:
    with Scene() as scene:
        delivery = scene.delivery(4)
        for message in (run_of(1, encoded(0, nbytes)), Cancel(1), run_of(2, encoded(0, 10)), Cancel(2)):
            delivery.send(message)
        assert len(scene.sent) == (4 if nbytes <= INLINE_NBYTES else 0)
        await scene.arrived.wait()
        first, *others = scene.sent
        assert isinstance(first, Run)
        assert scene.read(first.sources[0]) == scene.content[:nbytes]
        assert [type(message) for message in others] == [Cancel, Run, Cancel]


@pytest.mark.anyio
async def test_withdrawn_tasks_are_not_sent_and_leave_their_places(anyio_backend: object) -> None:
    with Scene() as scene:
        delivery = scene.delivery(1)
        scene.memory[1] = [memoryview(bytes(INLINE_NBYTES + 1))]
        copied, delayed = run_of(1, encoded(0, INLINE_NBYTES + 1, CALLER_MEMORY)), run_of(2, encoded(0, 10))
        delivery.send(copied)
        delivery.send_run(delayed, delivery.send)
        assert scene.inbox._ranges.keys() == {1}
        delivery.withdraw(copied)
        delivery.withdraw(delayed)
        assert scene.inbox._ranges.keys() == {1}, "a thread writes there"
        delivery.send(Cancel(3))
        await scene.arrived.wait()
        assert scene.sent == [Cancel(3)]
        assert scene.inbox._ranges == {}


@pytest.mark.anyio
async def test_a_task_that_is_settled_before_its_source_is_copied_is_not_sent(anyio_backend: object) -> None:
    with Scene() as scene:
        delivery = scene.delivery(2)
        delivery.send(run_of(1, encoded(0, 10, CALLER_MEMORY)))
        assert (scene.sent, scene.failed, scene.inbox._ranges) == ([], [], {})


@pytest.mark.anyio
@pytest.mark.parametrize("nbytes", [10, MIB])
async def test_without_memory_for_a_copy_its_task_fails_and_later_messages_are_sent(anyio_backend: object, nbytes: int) -> None:
    with Scene() as scene:
        delivery = scene.delivery(1)
        scene.pool_inbox.close()  # so that the copy fails
        delivery.send(run_of(1, encoded(0, nbytes)))
        delivery.send(Cancel(1))
        await scene.arrived.wait()
        assert scene.sent == [Cancel(1)]
        (failed,) = scene.failed
        assert (failed.task_id, failed.code) == (1, "memory_limit")
        assert scene.inbox._ranges == {}
        scene.pool_inbox = Segment(PAGE, workers_write=False)  # because the scene closes it


@pytest.mark.anyio
@pytest.mark.parametrize("private", [True, False])
async def test_sources_of_any_length_reach_their_worker(anyio_backend: object, private: bool) -> None:
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="256MiB", private_sources=private) as pool:
        for nbytes in (1, PAGE, INLINE_NBYTES + 1, 30 * MIB, 3):
            source = os.urandom(min(nbytes, MIB)) * (nbytes // min(nbytes, MIB))
            assert bytes(await pool.run(source, [Echo()])) == source
            assert bytes(await pool.run(memoryview(source)[: nbytes // 2], [Echo()])) == source[: nbytes // 2]
            assert bytes(await pool.run(bytearray(source), [Echo()])) == source
            buffer = await pool.buffer(len(source)).ready()
            buffer.view[:] = source
            assert bytes(await pool.run(buffer, [Echo()])) == source


@pytest.mark.anyio
async def test_bytes_take_no_shared_memory_before_their_task_runs(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="256MiB") as pool, anyio.create_task_group() as task_group:
        assert pool._supervisor is not None
        arena = pool._supervisor.core.arena
        task_group.start_soon(pool.run, b"", [Hang()])
        while not pool.statistics().running:
            await anyio.lowlevel.checkpoint()
        before = arena.used_bytes
        for source in (bytes(30 * MIB), bytearray(20 * MIB)):
            task_group.start_soon(pool.run, source, [Echo()])
        while pool.statistics().waiting < 2:
            await anyio.lowlevel.checkpoint()
        assert arena.used_bytes - before == 20 * MIB, "a bytearray may change, so it is copied at once"
        task_group.cancel_scope.cancel()


@pytest.mark.every_loop
@pytest.mark.anyio
async def test_a_task_is_cancelled_while_its_source_is_copied(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="256MiB") as pool:
        for kind in (bytes, bytearray) * 3:
            async with anyio.create_task_group() as task_group:
                task_group.start_soon(pool.run, kind(30 * MIB), [Hang()])
                while not pool.statistics().running:
                    await anyio.lowlevel.checkpoint()
                task_group.cancel_scope.cancel()
        assert bytes(await pool.run(b"after", [Echo()])) == b"after"
