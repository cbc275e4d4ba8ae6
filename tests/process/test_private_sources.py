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
from offloop.core.model.commands import DeliverSources
from offloop.core.model.events import SourcesDelivered
from offloop.core.model.settings import KEPT_INBOX_NBYTES
from offloop.errors import TaskFailed
from offloop.runtime.memory.page_manager import INLINE_NBYTES
from offloop.runtime.memory.segments import Segment
from offloop.runtime.memory.source_file import CallerMemory
from offloop.runtime.workers.source_delivery import SourceDelivery
from offloop.runtime.workers.worker_inbox import Place, WorkerInbox
from offloop.testing.faults import Echo, FaultsPlugin, Hang
from offloop.wire.handles import INBOX, OUTBOX, EncodedAt, Handle, RasterAt
from offloop.wire.messages import Failed, FromSupervisor, Run

MIB = 1 << 20
PAGE = 4096


def run_of(task_id: int, *sources: EncodedAt | RasterAt) -> Run:
    return Run(task_id, sources, [], None)


def encoded(offset: int, nbytes: int, segment: int = INBOX) -> EncodedAt:
    return EncodedAt(Handle(segment, offset, nbytes, 7))


def pages_of(inbox: WorkerInbox) -> int:
    return os.fstat(inbox.worker_fd).st_blocks * 512


def always() -> bool:
    return True


class Scene:
    """A pool's inbox full of bytes, an inbox of a worker, and a caller's memory."""

    def __init__(self) -> None:
        self.pool_inbox = Segment(64 * MIB, workers_write=False)
        self.inbox = WorkerInbox(128 * MIB)
        self.content = os.urandom(2 * MIB) * 16
        self.pool_inbox.write(0, memoryview(self.content))
        self.memory: dict[int, Sequence[CallerMemory]] = {}
        self.sent: list[FromSupervisor] = []
        self.failed: list[Failed] = []
        self.ended: list[SourcesDelivered] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool_inbox.close()
        self.inbox.close()

    def read(self, source: Any) -> bytes:
        return self.inbox.read(source.block.offset, source.block.nbytes)

    def place(self, *sources: EncodedAt | RasterAt) -> Place:
        """A place for sources in the pool's inbox."""
        place = self.inbox.find_place(sources, ())
        assert place is not None
        return place

    def delivery(self) -> SourceDelivery:
        """Of a running loop."""
        self.background = background()
        return SourceDelivery(
            self.inbox, self.pool_inbox, self.background, self.memory.get, self.ended.append, self.failed.append
        )

    async def deliver(self, delivery: SourceDelivery, number: int, *sources: EncodedAt | RasterAt) -> None:
        """Deliver the sources of task `number`, and send the task."""
        self.memory.setdefault(number, ())
        delivery.deliver(DeliverSources(0, number, number, sources))
        await self.until_ended(number)
        delivery.send_run(run_of(number, *sources), self.sent.append)

    async def until_ended(self, delivery_id: int) -> None:
        with anyio.fail_after(20):
            while all(ended.delivery_id != delivery_id for ended in self.ended):
                await anyio.lowlevel.checkpoint()

    async def until_pages(self, nbytes: int) -> None:
        with anyio.fail_after(20):
            while pages_of(self.inbox) > nbytes:
                await anyio.lowlevel.checkpoint()


def test_sources_in_the_pools_inbox_get_places_and_others_stay_where_they_are() -> None:
    with Scene() as scene:
        raster = RasterAt(Handle(INBOX, 3 * PAGE, 12, 8), (3, 4), "|u1")
        given = (encoded(64, 100), EncodedAt(None), encoded(PAGE, 50, OUTBOX), raster)
        place = scene.inbox.place_small(given, ())
        scene.inbox.copy_in(scene.pool_inbox, place.copies)
        first, empty, in_outbox, placed = place.sources
        assert (empty, in_outbox) == given[1:3]
        assert scene.read(first) == scene.content[64:164]
        assert scene.read(placed) == scene.content[3 * PAGE : 3 * PAGE + 12]
        assert placed == RasterAt(Handle(INBOX, PAGE, 12, 8), (3, 4), "|u1")


@pytest.mark.parametrize("in_thread", [False, True])
def test_sources_in_the_callers_memory_get_places_in_the_order_of_the_task(in_thread: bool) -> None:
    with Scene() as scene:
        memory = [memoryview(os.urandom(PAGE + 1)), memoryview(os.urandom(5))]
        given = (encoded(0, PAGE + 1, CALLER_MEMORY), EncodedAt(None), encoded(1, 5, CALLER_MEMORY))
        place = scene.inbox.place_small(given, memory)
        if in_thread:
            scene.inbox.copy_in_thread(scene.pool_inbox, place.copies, always)
        else:
            scene.inbox.copy_in(scene.pool_inbox, place.copies)
        first, empty, second = place.sources
        assert empty == EncodedAt(None)
        assert [scene.read(first), scene.read(second)] == memory
        assert second == EncodedAt(Handle(INBOX, 2 * PAGE, 5, 7))


def test_two_tasks_of_a_worker_have_different_places_until_one_is_answered() -> None:
    with Scene() as scene:
        places = [scene.inbox.place_small([encoded(0, nbytes)], ()) for nbytes in (3 * PAGE, PAGE, PAGE)]
        assert [place.start for place in places] == [0, 3 * PAGE, 4 * PAGE]
        scene.inbox.forget(places[0])
        for nbytes, start in ((4 * PAGE, 5 * PAGE), (2 * PAGE, 0), (PAGE, 2 * PAGE)):
            assert scene.inbox.place_small([encoded(0, nbytes)], ()).start == start


def test_large_sources_leave_addresses_for_small_ones() -> None:
    with Scene() as scene:
        large = scene.place(encoded(0, 128 * MIB))
        assert scene.inbox.find_place([encoded(0, 1)], ()) is None
        assert scene.inbox.place_small([encoded(0, MIB)], ()).start == 128 * MIB
        scene.inbox.forget(large)
        assert scene.place(encoded(0, 1)).start == 0


def test_after_a_large_source_an_inbox_keeps_its_first_pages_only() -> None:
    with Scene() as scene:
        place = scene.place(encoded(0, 20 * MIB))
        scene.inbox.copy_in_thread(scene.pool_inbox, place.copies, always)
        assert pages_of(scene.inbox) == 20 * MIB
        assert not scene.inbox.has_excess, "its task uses the pages"
        scene.inbox.forget(place)
        assert scene.inbox.has_excess
        scene.inbox.release_range(*scene.inbox.take_excess())
        scene.inbox.end_release()
        assert pages_of(scene.inbox) == KEPT_INBOX_NBYTES
        scene.inbox.forget(scene.place(encoded(0, MIB)))
        assert not scene.inbox.has_excess


def test_pages_of_another_task_are_not_released() -> None:
    with Scene() as scene:
        places: list[Place] = []
        for start in (1, 2, 3):
            places.append(scene.place(encoded(start, 10 * MIB)))
            scene.inbox.copy_in_thread(scene.pool_inbox, places[-1].copies, always)
        for index in (0, 2):
            scene.inbox.forget(places[index])
        assert scene.inbox.take_excess() == (20 * MIB, 30 * MIB)
        scene.inbox.release_range(20 * MIB, 30 * MIB)
        assert scene.read(places[1].sources[0]) == scene.content[2 : 2 + 10 * MIB]


@pytest.mark.anyio
async def test_the_pages_of_a_large_source_are_kept_for_the_next_one_and_released_later(anyio_backend: object) -> None:
    with Scene() as scene:
        delivery = scene.delivery()
        for number in (1, 2):
            await scene.deliver(delivery, number, encoded(0, 20 * MIB))
            delivery.note_end(number)
            assert pages_of(scene.inbox) == 20 * MIB
        await scene.until_pages(KEPT_INBOX_NBYTES)


@pytest.mark.anyio
async def test_kept_pages_are_released_at_once_when_the_pool_needs_their_memory(anyio_backend: object) -> None:
    with Scene() as scene:
        delivery = scene.delivery()
        delivery.send_run(run_of(1, encoded(0, 10)), scene.sent.append)
        await scene.deliver(delivery, 2, encoded(0, 20 * MIB))
        delivery.release_kept()
        await anyio.lowlevel.checkpoint()
        assert pages_of(scene.inbox) >= 20 * MIB, "the worker has the task"
        delivery.note_end(2)
        with anyio.fail_after(0.9):  # less than a second
            delivery.release_kept()
            await scene.until_pages(KEPT_INBOX_NBYTES)


@pytest.mark.anyio
async def test_a_source_is_not_copied_to_where_a_thread_releases_pages(anyio_backend: object) -> None:
    with Scene() as scene:
        delivery = scene.delivery()
        for number in (1, 2):
            await scene.deliver(delivery, number, encoded(number, 16 * MIB))
        delivery.note_end(2)
        thread = scene.background.own_threads = anyio.CapacityLimiter(1)
        thread.acquire_on_behalf_of_nowait(scene)  # so that the thread cannot begin
        delivery.release_kept()
        while not thread.statistics().tasks_waiting:
            await anyio.lowlevel.checkpoint()
        delivery.send_run(run_of(3, encoded(3, 10)), scene.sent.append)
        small = scene.sent[-1]
        assert isinstance(small, Run)
        assert small.sources[0].block is not None
        assert small.sources[0].block.offset == 32 * MIB, "beyond the pages that are released"
        scene.memory[4] = ()
        delivery.deliver(DeliverSources(0, 4, 4, (encoded(4, 30 * MIB),)))
        await anyio.wait_all_tasks_blocked()
        assert len(scene.ended) == 2
        thread.release_on_behalf_of(scene)
        await scene.until_ended(4)
        delivery.send_run(run_of(4, encoded(4, 30 * MIB)), scene.sent.append)
        for sent, start in zip(scene.sent[-2:], (3, 4), strict=True):
            assert isinstance(sent, Run)
            source: Any = sent.sources[0]
            assert scene.read(source) == scene.content[start : start + source.block.nbytes]


@pytest.mark.every_loop
@pytest.mark.anyio
async def test_the_place_of_a_stopped_delivery_is_free_when_its_thread_has_ended(anyio_backend: object) -> None:
    with Scene() as scene:
        delivery = scene.delivery()
        threads = scene.background.source_threads = anyio.CapacityLimiter(1)
        threads.acquire_on_behalf_of_nowait(scene)
        scene.memory |= {1: (), 2: ()}
        for number in (1, 2):
            delivery.deliver(DeliverSources(0, number, number, (encoded(0, MIB),)))
            await anyio.wait_all_tasks_blocked()
        assert [place.start for place in scene.inbox._places] == [0, MIB]
        delivery.stop(1)
        await scene.until_ended(1)
        assert [place.start for place in scene.inbox._places] == [MIB]
        delivery.stop(1)  # its thread has ended
        threads.release_on_behalf_of(scene)
        await scene.until_ended(2)
        delivery.note_end(2)
        assert scene.inbox._places == []
        assert delivery._deliveries == {}


@pytest.mark.anyio
async def test_a_task_that_is_settled_before_its_source_is_copied_is_not_sent(anyio_backend: object) -> None:
    with Scene() as scene:
        delivery = scene.delivery()
        delivery.send_run(run_of(1, encoded(0, 10, CALLER_MEMORY)), scene.sent.append)
        assert (scene.sent, scene.failed, scene.inbox._places) == ([], [], [])


@pytest.mark.anyio
async def test_without_memory_for_a_copy_its_task_fails(anyio_backend: object) -> None:
    with Scene() as scene:
        delivery = scene.delivery()
        scene.pool_inbox.close()  # so that the copy fails
        delivery.send_run(run_of(1, encoded(0, 10)), scene.sent.append)
        (failed,) = scene.failed
        assert (failed.task_id, failed.code) == (1, "memory_limit")
        scene.memory[2] = ()
        delivery.deliver(DeliverSources(0, 2, 2, (encoded(0, MIB),)))
        await scene.until_ended(2)
        error = scene.ended[0].error
        assert isinstance(error, TaskFailed)
        assert error.code == "memory_limit"
        assert (scene.sent, scene.inbox._places) == ([], [])
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
