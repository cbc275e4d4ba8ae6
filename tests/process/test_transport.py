"""A faulty connection between a pool and real workers: cut or delayed."""

from __future__ import annotations

import anyio
import pytest

from offloop import Pool, TaskTimeout, WorkerDied
from offloop.sandbox import Posture
from offloop.testing import FaultyStarts, FaultyWorkers, Traffic, Transport, pool_with
from offloop.testing.faults import Echo, FaultsPlugin, Noop, Obey
from offloop.wire.codec import encode_frame
from offloop.wire.handles import EncodedAt
from offloop.wire.messages import Done, Loading, Ready

pytestmark = pytest.mark.anyio

# what a worker sends before its first task: a process id has 1 to 5 bytes
POSTURE = Posture(mode="off", needs=FaultsPlugin().needs)  # of a pool without a sandbox, because others have longer postures
SHORTEST_START_NBYTES, LONGEST_START_NBYTES = (
    len(encode_frame(Loading(pid)) + encode_frame(Ready(pid, 1 << 24, sandbox=POSTURE))) for pid in (1, 1 << 20)
)


@pytest.mark.every_loop
async def test_a_connection_that_is_cut_in_an_answer_costs_one_task(anyio_backend: object) -> None:
    transport = Transport(from_worker=Traffic(cut_after_nbytes=LONGEST_START_NBYTES + 12), starts=1)
    async with pool_with(transport, 1, plugins=[FaultsPlugin], sandbox="off") as pool:
        with pytest.raises(WorkerDied):
            await pool.run(b"abc", [Echo()])
        assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"
        assert pool.statistics().worker_starts == 2


@pytest.mark.every_loop
@pytest.mark.parametrize("nbytes", [1, 5, SHORTEST_START_NBYTES - 4])
async def test_a_connection_that_is_cut_before_a_worker_is_ready_is_a_failed_start(anyio_backend: object, nbytes: int) -> None:
    transport = Transport(from_worker=Traffic(cut_after_nbytes=nbytes), starts=1)
    async with pool_with(transport, 1, plugins=[FaultsPlugin]) as pool:
        assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"
        assert pool.statistics().worker_starts == 2


async def test_a_task_that_never_reached_its_worker_is_given_to_another_worker(anyio_backend: object) -> None:
    async with pool_with(Transport(to_worker=Traffic(cut_after_nbytes=20_000), starts=1), 1, plugins=[FaultsPlugin]) as pool:
        sent = 0
        while pool.statistics().worker_starts == 1:  # each task succeeds, and the last one runs in the second worker
            await pool.run(b"abc", [Noop()] * 200)
            sent += 1
        assert pool.statistics().completed == sent


@pytest.mark.every_loop
async def test_a_slow_connection_changes_no_outcome(anyio_backend: object) -> None:
    transport = Transport(to_worker=Traffic(delay_s=0.02), from_worker=Traffic(delay_s=0.02))
    async with pool_with(transport, 1, plugins=[FaultsPlugin]) as pool:
        result = await pool.run(b"abc" * 100_000, [Echo()])
        assert bytes(result) == b"abc" * 100_000
        assert result.timings.waited >= 0.02


@pytest.mark.every_loop
async def test_an_answer_that_is_delayed_too_long_is_a_timeout(anyio_backend: object) -> None:
    transport = Transport(from_worker=Traffic(delay_s=0.3))
    async with pool_with(transport, 1, plugins=[FaultsPlugin], grace=30.0) as pool:
        with pytest.raises(TaskTimeout) as timeout:
            await pool.run(b"abc", [Echo()], timeout=0.01)
        assert timeout.value.obeyed, "the answer came within the grace"


async def test_an_answer_that_a_dead_worker_has_sent_counts(anyio_backend: object) -> None:
    transport = Transport(from_worker=Traffic(delay_s=0.2), launcher=FaultyWorkers())
    async with pool_with(transport, 1, plugins=[FaultsPlugin]) as pool:
        source = b"SIGKILL at after-reply"
        assert bytes(await pool.run(source, [Obey()])) == source
        assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"


@pytest.mark.parametrize("order", ["SIGKILL", "SIGSEGV", "stop", "close"])
async def test_a_worker_that_fails_at_its_start_is_followed_by_another(anyio_backend: object, order: str) -> None:
    starts = FaultyStarts(f"{order} at starting")
    async with pool_with(starts, 1, plugins=[FaultsPlugin], start_timeout=1.5 if order == "stop" else 30.0) as pool:
        assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"
        assert starts.started == pool.statistics().worker_starts >= 2


async def test_a_pool_whose_starts_all_fail_is_not_opened(anyio_backend: object) -> None:
    with pytest.raises(WorkerDied, match=r"SIGSEGV during its start"):
        async with pool_with(FaultyStarts(*["SIGSEGV at starting"] * 3), 1, plugins=[FaultsPlugin]):
            pytest.fail("the pool was opened")


async def test_the_faulty_connection_of_one_worker_harms_no_other_worker(anyio_backend: object) -> None:
    assert len(encode_frame(Done(1, EncodedAt(None), {}, 1, 2))) > 12, "the cut is in the answer"
    transport = Transport(from_worker=Traffic(cut_after_nbytes=LONGEST_START_NBYTES + 12), starts=1)
    async with pool_with(transport, 2, plugins=[FaultsPlugin], sandbox="off") as pool:
        await _until_one_dies(pool)
        for _ in range(4):
            assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"
        statistics = pool.statistics()
        assert (statistics.worker_died, statistics.worker_starts) == (1, 3)


async def _until_one_dies(pool: Pool) -> None:
    died = 0

    async def run() -> None:
        nonlocal died
        try:
            await pool.run(b"abc", [Echo()])
        except WorkerDied:
            died += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(run)
    assert died == 1
