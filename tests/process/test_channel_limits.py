"""Limits of the channel against a misbehaving worker: incomplete frames, unread writes and floods of messages.

The other end is a bare socket. Limits are short here; the time that passes is the loop's own.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import anyio
import msgspec
import pytest

from offloop.runtime.loop.event_loop import find_asyncio_loop
from offloop.runtime.workers.channel import Channel
from offloop.runtime.workers.framed_socket import READ_NBYTES, FramedSocket
from offloop.wire.codec import encode_frame
from offloop.wire.framing import HEADER_NBYTES, ProtocolError
from offloop.wire.handles import EncodedAt
from offloop.wire.messages import Cancel, Failed, FromWorker, Need, Ready, Retire, Run, Stage

pytestmark = [pytest.mark.anyio, pytest.mark.every_loop]

LIMIT_S = 0.2
LONG = Failed(1, "exception", "x" * 60_000, None, 1, 2)


class Ends:
    """A channel and the socket of its worker."""

    def __init__(self) -> None:
        ours, self.worker = socket.socketpair()
        self.worker.setblocking(False)
        self.channel = Channel(ours, LIMIT_S, find_asyncio_loop())
        self.received: list[FromWorker] = []

    async def serve(self) -> None:
        """What a worker's host does; raises what ends it."""
        try:
            async with anyio.create_task_group() as task_group:
                task_group.start_soon(self.channel.write_unsent)
                task_group.start_soon(self.channel.time_frames)
                await self.channel.receive(self.received.extend)
                task_group.cancel_scope.cancel()
        except* ProtocolError as errors:
            raise errors.exceptions[0] from None

    async def say(self, data: bytes | bytearray) -> None:
        """Send as fast as the other end reads."""
        rest = memoryview(data)
        while rest:
            await anyio.wait_writable(self.worker)
            rest = rest[self.worker.send(rest) :]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.channel.close()
    ends.worker.close()


def run_of(nbytes: int) -> Run:
    """A task so large that no socket takes it at once."""
    return Run(1, (EncodedAt(None),), [Stage("plugin", msgspec.Raw(msgspec.msgpack.encode("x" * nbytes)))], None)


async def test_half_a_frame_is_waited_for_no_longer_than_the_limit(ends: Ends, anyio_backend: object) -> None:
    ends.worker.send(encode_frame(LONG)[:1000])
    with anyio.fail_after(20):
        with pytest.raises(ProtocolError, match=r"began a frame, and after 0.2 s only 1,000 bytes of it had come"):
            await ends.serve()


async def test_a_frame_that_comes_byte_by_byte_gains_no_time(ends: Ends, anyio_backend: object) -> None:
    async def trickle() -> None:
        for byte in encode_frame(LONG):
            await ends.say(bytes([byte]))
            await anyio.sleep(LIMIT_S / 20)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(trickle)
            with pytest.raises(ProtocolError, match="began a frame"):
                await ends.serve()
            task_group.cancel_scope.cancel()


async def test_the_clock_stops_with_the_frame_and_starts_anew_for_the_next(ends: Ends, anyio_backend: object) -> None:
    frame = encode_frame(LONG)

    async def converse() -> None:
        for _ in range(10):  # together they take more than the limit, and the stream is inside a frame at all times
            await ends.say(frame[100:] + frame[:100])
            await anyio.sleep(LIMIT_S * 0.15)
        await ends.say(frame[100:])
        await anyio.sleep(LIMIT_S * 2)  # silence between frames may last
        await ends.say(encode_frame(Ready(1)))
        ends.worker.close()

    await ends.say(frame[:100])
    with anyio.fail_after(20):
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(converse)
            await ends.serve()
    assert ends.received == [LONG] * 11 + [Ready(1)]


async def test_a_pause_of_the_loop_is_not_held_against_a_worker_that_sent_everything(ends: Ends, anyio_backend: object) -> None:
    frame = encode_frame(LONG)  # more than one read, and the socket takes it at once
    ends.worker.send(frame[:10])
    with anyio.fail_after(20):
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(ends.serve)
            while not ends.channel.socket.frames.pending:
                await anyio.sleep(0)
            await anyio.sleep(LIMIT_S / 100)  # the clock runs
            assert ends.worker.send(frame[10:]) == len(frame) - 10
            ends.worker.close()
            time.sleep(LIMIT_S * 3)
    assert ends.received == [LONG]


async def test_a_pause_of_the_loop_is_not_held_against_a_worker_that_would_have_read(ends: Ends, anyio_backend: object) -> None:
    ends.channel.send(run_of(1_000_000))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(ends.serve)
            await anyio.sleep(LIMIT_S / 100)  # the clock runs
            time.sleep(LIMIT_S * 3)
            left = len(encode_frame(run_of(1_000_000)))
            while left:
                await anyio.wait_readable(ends.worker)
                left -= len(ends.worker.recv(100_000))
            ends.worker.close()


async def test_a_worker_that_does_not_read_is_found_out_within_the_limit(ends: Ends, anyio_backend: object) -> None:
    ends.channel.send(run_of(1_000_000))
    with anyio.fail_after(20):
        with pytest.raises(ProtocolError, match=r"it does not read: after 0.2 s [\d,]{7} bytes for it are unsent"):
            await ends.serve()


async def test_a_worker_that_reads_a_little_at_a_time_gains_no_time(ends: Ends, anyio_backend: object) -> None:
    async def sip() -> None:
        while True:
            await anyio.wait_readable(ends.worker)
            ends.worker.recv(10_000)
            await anyio.sleep(LIMIT_S / 20)

    ends.channel.send(run_of(5_000_000))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(sip)
            with pytest.raises(ProtocolError, match="it does not read"):
                await ends.serve()
            task_group.cancel_scope.cancel()


async def test_what_a_full_pipe_refused_arrives_whole_and_in_order(ends: Ends, anyio_backend: object) -> None:
    expected = bytearray()
    for message in (run_of(1_000_000), Retire(), run_of(100)):
        ends.channel.send(message)
        expected += encode_frame(message)
    got = bytearray()

    async def read() -> None:
        while len(got) < len(expected):
            await anyio.wait_readable(ends.worker)
            got.extend(ends.worker.recv(100_000))
        ends.worker.close()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(read)
            await ends.serve()
    assert got == expected


async def test_a_frame_of_the_largest_size_is_received_and_a_larger_one_refused(ends: Ends, anyio_backend: object) -> None:
    nbytes = len(encode_frame(Failed(1, "exception", "x" * 60_000, None, 1, 2))) - HEADER_NBYTES
    largest, larger = (Failed(1, "exception", "x" * (60_000 + 65_536 - nbytes + more), None, 1, 2) for more in (0, 1))
    ends.worker.send(encode_frame(largest))
    while not ends.received:
        assert ends.channel.socket.read(ends.received.extend)
    ends.worker.send(encode_frame(larger)[:HEADER_NBYTES])
    with anyio.fail_after(20):
        with pytest.raises(ProtocolError, match=r"a frame of 65,537 bytes was announced; the limit is 65,536"):
            await ends.serve()
    assert ends.received == [largest]


async def test_messages_wait_for_the_loop_until_there_are_eight(anyio_backend: object) -> None:
    loop = find_asyncio_loop()
    if loop is None:
        pytest.skip("on trio each message is sent at once")
    ours, worker = socket.socketpair()
    worker.setblocking(False)
    with ours, worker:
        framed = FramedSocket(ours, loop)
        for number in range(7):
            framed.send_soon(Cancel(number))
        with pytest.raises(BlockingIOError):
            worker.recv(1)
        framed.send_soon(Cancel(7))
        assert worker.recv(65_536) == b"".join(encode_frame(Cancel(number)) for number in range(8))
        framed.send_soon(Cancel(8))
        await anyio.sleep(0)
        assert worker.recv(65_536) == encode_frame(Cancel(8))


async def test_one_read_takes_a_few_messages_and_leaves_the_others_in_the_socket(ends: Ends, anyio_backend: object) -> None:
    frame = encode_frame(Need(1, 1))
    ends.worker.send(frame * 1000)
    assert ends.channel.socket.read(ends.received.extend)
    assert len(ends.received) == READ_NBYTES // len(frame)
    assert ends.channel.socket.read(ends.received.extend)
    assert len(ends.received) == 2 * READ_NBYTES // len(frame)


async def test_one_read_takes_a_long_message_that_has_arrived(ends: Ends, anyio_backend: object) -> None:
    ends.worker.send(encode_frame(LONG) + encode_frame(Ready(1)))
    assert ends.channel.socket.read(ends.received.extend)
    assert ends.received == [LONG]
    assert ends.channel.socket.read(ends.received.extend)
    assert ends.received == [LONG, Ready(1)]


async def test_a_frame_in_thousands_of_pieces_is_refused(ends: Ends, anyio_backend: object) -> None:
    with pytest.raises(ProtocolError, match="more than 4,096 pieces"):
        for byte in encode_frame(LONG):
            ends.worker.send(bytes([byte]))
            assert ends.channel.socket.read(ends.received.extend)


async def test_of_what_a_dead_worker_left_behind_only_so_much_is_looked_at(ends: Ends, anyio_backend: object) -> None:
    for number in range(30):
        ends.worker.send(encode_frame(Failed(number, "exception", "x" * 4000, None, 1, 2)))
    assert len(ends.channel.drain()) == 30
    for _ in range(10):
        ends.worker.send(encode_frame(Need(1, 1)) * 100)
    assert 64 < len(ends.channel.drain()) < 200
