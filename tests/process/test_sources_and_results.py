"""Every kind of source is staged, and results are views of shared memory whose blocks are returned with the last view."""

from __future__ import annotations

import gc
import pickle
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from offloop import InvalidTask, MemoryLimitExceeded, Pool, Result, SourceTooLarge, TaskFailed
from offloop.testing.faults import Allocate, Echo, Exit, FaultsPlugin, Hang, Inspect, Noop, Wait

pytestmark = pytest.mark.anyio

SIZES = [
    0,
    1,
    4095,
    4096,
    4097,
    300_000,
    3_000_000,
]  # empty, around a page, beyond the first grant, beyond what the loop copies


@pytest.fixture
def pool(pool_of_one: Pool) -> Pool:
    return pool_of_one


def pattern(nbytes: int) -> bytes:
    """Bytes that differ from page to page."""
    return bytes(np.arange(nbytes, dtype=np.uint32).astype(np.uint8) ^ (np.arange(nbytes) >> 12).astype(np.uint8))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_bytes_of_any_size_come_back_as_they_went(pool: Pool, kind: Callable[[bytes], bytes]) -> None:
    for data in map(pattern, SIZES):
        result = await pool.run(kind(data), [Echo()])
        assert bytes(result) == data
        assert len(result) == result.nbytes == len(data)


async def test_files_of_any_size_come_back_as_they_are(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "source"
    for data in map(pattern, SIZES):
        path.write_bytes(data)
        assert bytes(await pool.run(path, [Echo()])) == data


async def test_a_buffer_of_any_size_is_moved(pool: Pool) -> None:
    for data in map(pattern, SIZES[1:]):
        buffer = pool.buffer(len(data))
        view = buffer.view
        assert (view.nbytes, view.readonly, view.format) == (len(data), False, "B")
        view[:] = data
        assert bytes(await pool.run(buffer, [Echo()])) == data
        with pytest.raises(ValueError, match="released"):
            view[0] = 1
        with pytest.raises(InvalidTask, match="was moved"):
            _ = buffer.view
        with pytest.raises(InvalidTask, match="was moved"):
            await pool.run(buffer, [Echo()])


async def test_a_buffer_that_something_else_has_mapped_is_not_moved(pool: Pool) -> None:
    buffer = pool.buffer(10)
    exported = pickle.PickleBuffer(buffer.view)
    with pytest.raises(InvalidTask, match="still in use"):
        await pool.run(buffer, [Echo()])
    exported.release()
    assert (await pool.run(buffer, [Echo()])).nbytes == 10


async def test_a_slice_that_outlives_the_move_keeps_its_memory_from_being_used_again(pool: Pool) -> None:
    buffer = pool.buffer(4096)
    stray = buffer.view[:10]
    await pool.run(buffer, [Noop()])
    del buffer
    assert pool.statistics().leases["caller"] == 1
    stray[:] = b"0123456789"
    assert (await pool.run(bytes(4096), [Echo()])).data[:10] == bytes(10)
    del stray
    assert pool.statistics().leases["caller"] == 0


async def test_buffers_that_are_never_used_give_their_memory_back(pool: Pool) -> None:
    pool.buffer(1000)
    seen = pool.buffer(1000)
    seen.view[:] = bytes(1000)
    await (await_ready := pool.buffer(50_000_000)).ready()
    del seen, await_ready
    assert pool.statistics().leases["caller"] == 0


async def test_a_trimmed_buffer_is_as_long_as_it_was_trimmed(pool: Pool) -> None:
    buffer = pool.buffer(5000)
    longer = buffer.view
    longer[:3] = b"abc"
    buffer.trim(3)
    assert bytes(buffer.view) == b"abc"
    with pytest.raises(ValueError, match="released"):
        longer[0] = 1
    with pytest.raises(ValueError, match="trim"):
        buffer.trim(4)
    assert bytes(await pool.run(buffer, [Echo()])) == b"abc"


async def test_a_buffer_of_another_pool_is_refused(pool: Pool) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as other:
        with pytest.raises(InvalidTask, match="another pool"):
            await pool.run(other.buffer(1), [Echo()])


async def test_buffers_that_can_never_be_are_refused(pool: Pool) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        pool.buffer(0)
    with pytest.raises(MemoryLimitExceeded):
        pool.buffer(200 * 1024 * 1024)
    first = pool.buffer(150 * 1024 * 1024)
    second = pool.buffer(150 * 1024 * 1024)
    assert first.view.nbytes
    with pytest.raises(MemoryLimitExceeded, match="free now"):
        _ = second.view


@pytest.mark.parametrize("shape", [(6,), (3, 4), (3, 4, 1), (5, 7, 3), (2, 3, 4, 5), (1, 2, 1, 2, 1, 2, 1, 2), (0,), (3, 0, 2)])
async def test_arrays_go_in_as_samples(pool: Pool, shape: tuple[int, ...]) -> None:
    for dtype in ("u1", "<u2", "<f4"):
        array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        assert bytes(await pool.run(array, [Echo()])) == array.tobytes(), dtype
        assert bytes(await pool.run(array[::-1], [Echo()])) == array[::-1].tobytes(), dtype


@pytest.mark.parametrize("kind", [np.int64, np.uint32, np.uint8])
async def test_a_size_may_be_an_integer_of_numpy(pool: Pool, kind: Callable[[int], int]) -> None:
    buffer = await pool.buffer(kind(100)).ready()
    buffer.view[:] = pattern(100)
    assert bytes(await pool.run(buffer, [Echo()])) == pattern(100)

    async def chunks() -> AsyncIterator[bytes]:
        yield pattern(100)

    received = await pool.receive(chunks(), max_bytes=kind(100), expected_bytes=kind(10))
    assert bytes(await pool.run(received, [Echo()])) == pattern(100)


@pytest.mark.parametrize("arguments", [{"max_bytes": -1}, {"max_bytes": 1.5}, {"max_bytes": "1 MB"}, {"expected_bytes": -1}])
async def test_a_stream_with_a_length_that_makes_no_sense_is_refused(pool: Pool, arguments: dict[str, Any]) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"abc"

    with pytest.raises((ValueError, TypeError), match=next(iter(arguments))):
        await pool.receive(chunks(), **arguments)
    assert (await pool.run(b"abc", [Echo()])).nbytes == 3


async def test_a_result_is_read_only_and_in_place(pool: Pool) -> None:
    result = await pool.run(pattern(5000), [Echo()])
    assert result.data.readonly
    with pytest.raises(TypeError):
        result.data[0] = 1
    assert np.frombuffer(result.data, np.uint8).base is not None
    assert pool.statistics().leases["caller"] == 1


@pytest.mark.every_loop
async def test_a_result_lives_as_long_as_any_view_of_it(pool: Pool) -> None:
    array = np.frombuffer((await pool.run(pattern(1 << 20), [Echo()])).data[100:200], np.uint8)
    gc.collect()
    assert pool.statistics().leases["caller"] == 1
    for _ in range(20):
        await pool.run(bytes(1 << 20), [Echo()])
    assert bytes(array) == pattern(1 << 20)[100:200], "no other task wrote there"
    del array
    assert pool.statistics().leases["caller"] == 0


async def test_a_result_survives_the_death_of_its_worker_and_of_its_pool(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        result = await pool.run(pattern(1 << 20), [Echo()])
        with pytest.raises(Exception, match="exited with code 3"):
            await pool.run(b"", [Exit(3)])
        for _ in range(3):
            await pool.run(bytes(1 << 20), [Echo()])
        assert bytes(result) == pattern(1 << 20)
    assert bytes(result) == pattern(1 << 20)


async def test_a_result_is_a_source_in_place_and_after_a_copy(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        first = await pool.run(pattern(10_000), [Echo()])
        in_place = await pool.run(first, [Echo()])
        assert bytes(in_place) == pattern(10_000)
        async with anyio.create_task_group() as task_group:  # its worker is busy: one copy
            task_group.start_soon(pool.run, b"", [Wait(0.2)])
            await anyio.wait_all_tasks_blocked()
            assert bytes(await pool.run(first, [Echo()])) == pattern(10_000)
        with pytest.raises(Exception, match="exited"):
            await pool.run(b"", [Exit(1)])  # its worker is dead: one copy
        assert bytes(await pool.run(first, [Echo()])) == pattern(10_000)
        first.data.release()
        with pytest.raises(InvalidTask, match="released"):
            await pool.run(first, [Echo()])


async def test_an_empty_result_is_a_source_too(pool: Pool) -> None:
    empty = await pool.run(b"", [Noop()])
    assert bytes(await pool.run(empty, [Echo()])) == b""


async def test_info_is_there_by_attribute_and_by_key(pool: Pool) -> None:
    info = (await pool.run(b"a", [Echo()])).info
    assert info.media_type == info["media_type"] == "application/octet-stream"
    assert dict(info) == {"media_type": "application/octet-stream"}
    with pytest.raises(AttributeError, match="has no 'width'; it has: media_type"):
        _ = info.width


async def test_timings_are_in_order(pool: Pool) -> None:
    timings = (await pool.run(b"a", [Wait(0.05)])).timings
    assert timings.queued <= timings.started <= timings.finished
    assert timings.ran >= 0.05


async def test_encoded_results_are_no_arrays(pool: Pool) -> None:
    with pytest.raises(InvalidTask, match=r"Raw\(\)"):
        (await pool.run(b"a", [Echo()])).array()


async def test_a_large_result_is_granted_in_one_piece_or_as_it_grows(pool: Pool) -> None:
    for operation in (Allocate(20_000_000), Allocate(20_000_000, 700_000)):
        result = await pool.run(b"", [operation])
        assert result.nbytes == 20_000_000
        assert not np.frombuffer(result.data, np.uint8).tobytes().strip(b"\x01")


async def test_a_worker_writes_the_file_itself(pool: Pool, tmp_path: Path) -> None:
    target = tmp_path / "out" / "result.bin"
    target.parent.mkdir()
    target.write_bytes(b"old")
    result = await pool.run(pattern(300_000), [Echo()], to=target)
    assert target.read_bytes() == pattern(300_000)
    assert (result.path, result.nbytes, bytes(result)) == (target, 300_000, b"")
    assert [entry.name for entry in target.parent.iterdir()] == ["result.bin"]
    assert bytes(await pool.run(result, [Echo()])) == pattern(300_000)


async def test_a_file_that_cannot_be_written_is_a_failure_and_leaves_nothing(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(TaskFailed) as caught:
        await pool.run(b"abc", [Echo()], to=tmp_path / "missing" / "result.bin")
    assert caught.value.code == "cannot_write"
    target = tmp_path / "result.bin"
    target.write_bytes(b"old")
    for fault in (Exit(1), Hang("sleep")):
        with pytest.raises(Exception, match=r"exited|exceeded"):
            await pool.run(b"abc", [fault], to=target, timeout=0.1)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


async def chunks_of(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.every_loop
@pytest.mark.parametrize("expected", [None, 10, 3_000_000])
async def test_a_stream_is_received_chunk_by_chunk(pool: Pool, expected: int | None) -> None:
    data = pattern(1_500_000)
    for chunk in (1000, 64 * 1024, 3_000_000):
        buffer = await pool.receive(chunks_of(data, chunk), max_bytes=3_000_000, expected_bytes=expected)
        assert buffer.nbytes == len(data), chunk
        assert bytes(await pool.run(buffer, [Echo()])) == data, chunk


async def test_an_empty_stream_is_an_empty_source(pool: Pool) -> None:
    buffer = await pool.receive(chunks_of(b"", 1))
    assert bytes(await pool.run(buffer, [Echo()])) == b""


async def test_a_stream_that_is_too_long_is_refused_with_both_numbers(pool: Pool) -> None:
    with pytest.raises(SourceTooLarge) as caught:
        await pool.receive(chunks_of(bytes(1000), 100), max_bytes=250)
    assert (caught.value.asked_bytes, caught.value.limit_bytes) == (300, 250)
    assert pool.statistics().leases["caller"] == 0


@pytest.mark.every_loop
async def test_a_stream_that_fails_gives_its_memory_back(pool: Pool) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(1000)
        raise ConnectionError("client gone")

    with pytest.raises(ConnectionError):
        await pool.receive(broken())
    assert pool.statistics().leases["caller"] == 0


class ByteStream:
    """As an anyio byte stream: its own iterator, and closing it ends the connection."""

    def __init__(self, *chunks: object) -> None:
        self.chunks = list(chunks)
        self.closed = False

    def __aiter__(self) -> ByteStream:
        return self

    async def __anext__(self) -> bytes:
        if not self.chunks:
            raise StopAsyncIteration
        return self.chunks.pop(0)  # type: ignore[return-value]

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.every_loop
async def test_a_byte_stream_of_the_caller_is_not_closed_however_receiving_it_ends(pool: Pool) -> None:
    whole, long = ByteStream(b"abc", b"", memoryview(b"d-e-f")[::2]), ByteStream(b"abc", b"def", b"ghi")
    assert bytes((await pool.receive(whole)).view) == b"abcdef"
    with pytest.raises(SourceTooLarge):
        await pool.receive(long, max_bytes=5)
    assert (whole.closed, long.closed, long.chunks) == (False, False, [b"ghi"])
    with pytest.raises(InvalidTask, match="chunk of type str; chunks must be bytes-like"):
        await pool.receive(ByteStream("text"))
    gc.collect()
    assert pool.statistics().leases["caller"] == 0


@pytest.mark.every_loop
async def test_a_generator_and_an_iterator_made_for_the_call_are_closed_when_left_half_way(pool: Pool) -> None:
    closed: list[str] = []

    async def generate() -> AsyncIterator[bytes]:
        try:
            yield b"abc"
            yield b"def"
        finally:
            closed.append("generator")

    class Body(ByteStream):
        def __aiter__(self) -> ByteStream:
            return made

    made, body = ByteStream(b"abc", b"def"), Body()
    for stream in (generate(), body):
        with pytest.raises(SourceTooLarge):
            await pool.receive(stream, max_bytes=5)
    assert (closed, made.closed, body.closed) == (["generator"], True, False)


async def test_a_probe_reads_the_header_and_uses_nothing_up(pool: Pool, tmp_path: Path) -> None:
    data = b"FAULTS!\n" + bytes(1 << 20)
    path = tmp_path / "file"
    path.write_bytes(data)
    buffer = pool.buffer(len(data))
    buffer.view[:] = data
    result: Result = await pool.run(data, [Echo()])
    for source in (data, path, buffer, result):
        assert (await pool.probe(source)).media_type == "application/x-faults"
    assert bytes(await pool.run(buffer, [Echo()])) == data
    with pytest.raises(TaskFailed) as caught:
        await pool.probe(b"something else")
    assert caught.value.code == "unsupported_format"
    with pytest.raises(InvalidTask, match="samples"):
        await pool.probe(np.zeros((2, 2), np.uint8))


async def test_sources_wait_for_memory_in_turn_and_all_get_it(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin], memory_limit="8MiB") as pool:
        outcomes: list[int] = []

        async def submit(nbytes: int) -> None:
            outcomes.append((await pool.run(bytearray(nbytes), [Allocate(1_000_000)])).nbytes)

        async with anyio.create_task_group() as task_group:
            for number in range(24):
                task_group.start_soon(submit, 5_000_000 if number % 3 else 10_000)
        assert outcomes == [1_000_000] * 24
        assert pool.statistics().memory_reserved_bytes <= 8 * 1024 * 1024


@pytest.mark.every_loop
async def test_a_result_that_is_dropped_lets_a_waiting_source_in(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="8MiB") as pool:
        held = [await pool.run(bytearray(2_500_000), [Echo()]) for _ in range(2)]
        arrived = anyio.Event()

        async def submit() -> None:
            await pool.run(bytearray(3_500_000), [Noop()])
            arrived.set()

        async with anyio.create_task_group() as task_group:
            task_group.start_soon(submit)
            await anyio.wait_all_tasks_blocked()
            assert not arrived.is_set()
            held.clear()  # in no particular turn of the loop: a finalizer says it
            with anyio.fail_after(10):
                await arrived.wait()


async def test_workers_can_import_what_the_server_can(pool: Pool) -> None:
    assert "offloop.testing.faults_processor" in (await pool.run(b"", [Inspect()])).info.modules
