"""A source is copied into the own inbox of its task's worker: where, in which order, and what happens without memory."""

from __future__ import annotations

import os
from typing import Any, Self

import anyio
import pytest
from own_background import background

from offloop import Pool
from offloop.core.model.settings import KEPT_INBOX_NBYTES
from offloop.runtime.memory.page_manager import INLINE_NBYTES
from offloop.runtime.memory.segments import Segment
from offloop.runtime.workers.source_delivery import SourceDelivery, WorkerInbox
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
    """A pool's inbox full of bytes, and an inbox of a worker."""

    def __init__(self) -> None:
        self.pool_inbox = Segment(64 * MIB, workers_write=False)
        self.inbox = WorkerInbox(128 * MIB)
        self.content = os.urandom(2 * MIB) * 16
        self.pool_inbox.write(0, memoryview(self.content))
        self.sent: list[FromSupervisor] = []
        self.failed: list[Failed] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool_inbox.close()
        self.inbox.close()

    def read(self, source: Any) -> bytes:
        return self.inbox.read(source.block.offset, source.block.nbytes)

    def delivery(self, count: int) -> SourceDelivery:
        """Of a running loop. `arrived` is set after `count` messages."""
        self.arrived = anyio.Event()

        def send(message: FromSupervisor) -> None:
            self.sent.append(message)
            if len(self.sent) == count:
                self.arrived.set()

        return SourceDelivery(self.inbox, self.pool_inbox, background(), send, self.failed.append)


def test_sources_in_the_pools_inbox_get_places_and_others_stay_where_they_are() -> None:
    with Scene() as scene:
        raster = RasterAt(Handle(INBOX, 3 * PAGE, 12, 8), (3, 4), "|u1")
        given = (encoded(64, 100), EncodedAt(None), encoded(PAGE, 50, OUTBOX), raster)
        run, copies = scene.inbox.place(run_of(1, *given))
        scene.inbox.copy_in(scene.pool_inbox, copies)
        first, empty, in_outbox, placed = run.sources
        assert (empty, in_outbox) == given[1:3]
        assert scene.read(first) == scene.content[64:164]
        assert scene.read(placed) == scene.content[3 * PAGE : 3 * PAGE + 12]
        assert placed == RasterAt(Handle(INBOX, PAGE, 12, 8), (3, 4), "|u1")


def test_two_tasks_of_a_worker_have_different_places_until_one_is_answered() -> None:
    with Scene() as scene:
        starts: list[int] = []
        for task_id, nbytes in ((1, 3 * PAGE), (2, PAGE), (3, PAGE)):
            run, _ = scene.inbox.place(run_of(task_id, encoded(0, nbytes)))
            assert run.sources[0].block is not None
            starts.append(run.sources[0].block.offset)
        assert starts == [0, 3 * PAGE, 4 * PAGE]
        scene.inbox.forget(1)
        for task_id, nbytes, start in ((4, 4 * PAGE, 5 * PAGE), (5, 2 * PAGE, 0), (6, PAGE, 2 * PAGE)):
            run, _ = scene.inbox.place(run_of(task_id, encoded(0, nbytes)))
            assert run.sources[0].block is not None
            assert run.sources[0].block.offset == start


def test_after_a_large_source_an_inbox_keeps_its_first_pages_only() -> None:
    with Scene() as scene:
        _, copies = scene.inbox.place(run_of(1, encoded(0, 20 * MIB)))
        scene.inbox.copy_in_thread(scene.pool_inbox, copies)
        assert pages_of(scene.inbox) == 20 * MIB
        assert scene.inbox.forget(1)
        scene.inbox.release_excess()
        assert pages_of(scene.inbox) == KEPT_INBOX_NBYTES
        _, copies = scene.inbox.place(run_of(2, encoded(0, MIB)))
        assert not scene.inbox.forget(2)


@pytest.mark.anyio
async def test_the_pages_of_a_large_source_are_kept_for_the_next_one_and_released_later(anyio_backend: object) -> None:
    with Scene() as scene:
        delivery = scene.delivery(2)
        for task_id in (1, 2):
            delivery.send(run_of(task_id, encoded(0, 20 * MIB)))
            with anyio.fail_after(20):
                while len(scene.sent) < task_id:
                    await anyio.lowlevel.checkpoint()
            delivery.note_answer(task_id)
            assert pages_of(scene.inbox) == 20 * MIB
        with anyio.fail_after(20):
            while pages_of(scene.inbox) > KEPT_INBOX_NBYTES:
                await anyio.lowlevel.checkpoint()


def test_pages_of_the_next_task_are_not_released() -> None:
    with Scene() as scene:
        for task_id in (1, 2):
            run, copies = scene.inbox.place(run_of(task_id, encoded(task_id, 20 * MIB)))
            scene.inbox.copy_in_thread(scene.pool_inbox, copies)
            if task_id == 1:
                assert scene.inbox.forget(1)
        scene.inbox.release_excess()  # comes too late
        assert scene.read(run.sources[0]) == scene.content[2 : 2 + 20 * MIB]


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
            buffer = await pool.buffer(len(source)).ready()
            buffer.view[:] = source
            assert bytes(await pool.run(buffer, [Echo()])) == source


@pytest.mark.anyio
async def test_a_task_is_cancelled_while_its_source_is_copied(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="256MiB") as pool:
        for _ in range(5):
            buffer = await pool.buffer(30 * MIB).ready()
            async with anyio.create_task_group() as task_group:
                task_group.start_soon(pool.run, buffer, [Hang()])
                while not pool.statistics().running:
                    await anyio.lowlevel.checkpoint()
                task_group.cancel_scope.cancel()
        assert bytes(await pool.run(b"after", [Echo()])) == b"after"
