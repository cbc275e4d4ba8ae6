"""The worker's end of the channel, and the size of its messages."""

from __future__ import annotations

import socket

import pytest

from offloop.wire.codec import encode_frame
from offloop.wire.framing import HEADER_NBYTES, MAX_FROM_WORKER_NBYTES
from offloop.wire.handles import EncodedAt
from offloop.wire.messages import Cancel, Done, Failed, InfoValue, OutputFailed, Run
from offloop.worker.channel import Channel, MessageTooLarge
from offloop.worker.failures import describe_failure


class Told:
    """A task that remembers what it was told."""

    def __init__(self, task_id: int) -> None:
        self.task_id = task_id
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def write_status(self) -> None:
        pass


def test_a_cancel_that_came_with_its_task_is_obeyed() -> None:
    """As when both lay in the socket while the worker loaded a plugin."""
    ours, theirs = socket.socketpair()
    channel = Channel(theirs.detach())
    channel.start_control(lambda: None)
    with ours, channel._socket:
        ours.sendall(b"".join(encode_frame(message) for message in (run(7), Cancel(7), run(8))))
        assert channel.next_message() == run(7)
        first, second = Told(7), Told(8)
        channel.watch(first)
        channel.unwatch()
        assert channel.next_message() == run(8)
        channel.watch(second)
        channel.unwatch()
    assert (first.cancelled, second.cancelled) == (True, False)


def test_a_message_of_the_largest_size_is_sent_and_of_a_larger_one_nothing() -> None:
    def done(length: int) -> Done:
        info: dict[str, InfoValue] = {"text": "x" * length}
        return Done(1, EncodedAt(None), info, 1, 2)

    length = 60_000 + MAX_FROM_WORKER_NBYTES - nbytes_of(done(60_000))
    ours, theirs = socket.socketpair()
    channel = Channel(theirs.detach())
    with ours, channel._socket:
        with pytest.raises(MessageTooLarge, match=r"65,537 bytes; the limit is 65,536"):
            channel.send(done(length + 1))
        channel.send(done(length))
        channel._socket.shutdown(socket.SHUT_WR)
        with ours.makefile("rb") as received:
            assert received.read() == encode_frame(done(length))


@pytest.mark.parametrize("character", ["x", "\u20ac", "\udcff"], ids=["one byte", "three bytes", "escaped"])
def test_the_text_and_the_traceback_of_any_error_fit_into_one_frame(character: str) -> None:
    failure = describe_failure(run(1), ValueError(character * 100_000))
    failed = Failed(2**62, *failure, 2**62, 2**62, 2**62, 2**62, 2**62, True)
    output_failed = OutputFailed(2**62, "\U0001f5bc" * 100, *failure)
    assert nbytes_of(output_failed) <= MAX_FROM_WORKER_NBYTES
    assert nbytes_of(failed) <= MAX_FROM_WORKER_NBYTES
    assert failed.message.startswith("ValueError: ")
    assert len(failed.message.encode()) > 24_000
    assert failed.traceback is not None
    assert len(failed.traceback.encode()) > 24_000


def nbytes_of(message: Done | Failed | OutputFailed) -> int:
    return len(encode_frame(message)) - HEADER_NBYTES


def run(task_id: int) -> Run:
    return Run(task_id, (EncodedAt(None),), [], None)
