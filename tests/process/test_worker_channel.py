"""The worker's end of the channel."""

from __future__ import annotations

import socket

from offloop.wire.codec import encode_frame
from offloop.wire.handles import EncodedAt
from offloop.wire.messages import Cancel, Run
from offloop.worker.channel import Channel


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


def run(task_id: int) -> Run:
    return Run(task_id, EncodedAt(None), [], None)
