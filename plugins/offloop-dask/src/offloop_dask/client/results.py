"""Makes results of what a node has sent. They lie in this process's own memory."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import msgspec

from offloop import Result
from offloop.core.model.task import TaskOutput
from offloop.wire.handles import OUTBOX, EncodedAt, Handle, RasterAt, WrittenTo

from ..wire.messages import ResultHead

__all__ = ["ClusterResult", "result_of"]


class ClusterResult(Result):
    """Result of a task of a `ClusterPool`. Its memory belongs to this process, and stays valid as long as it is referred to."""

    __slots__ = ("node", "url")

    node: str
    """Name of the node that made it."""

    url: str | None
    """URL to which the node has written it; None: it was sent to this client."""

    def in_file(self, path: Path) -> ClusterResult:
        """The same result without its bytes, which were written to a file of this machine."""
        written = msgspec.structs.replace(self._output, output=WrittenTo(self.data.nbytes))
        result = ClusterResult(written, memoryview(b""), self._queued, path)
        result.node, result.url = self.node, None
        return result


def result_of(head: ResultHead, data: memoryview, node: str, queued: float) -> ClusterResult:
    """A result. Its times are those of the node's clock, moved to this one's, so they are exact to the time of a message.

    Args:
        head: what the node has said about it.
        data: its bytes; empty if it was written to a URL.
        node: name of the node.
        queued: time at which the task was submitted here.

    Raises:
        ValueError: shape and type do not match the number of bytes.
    """
    finished = max(monotonic() - head.age_s, queued)
    started = max(finished - head.ran_s, queued)
    output: EncodedAt | RasterAt | WrittenTo
    handle = Handle(OUTBOX, 0, data.nbytes, 0) if data.nbytes else None
    if head.url is not None:
        output = WrittenTo(head.nbytes)
    elif head.shape is not None and head.dtype is not None:
        output = RasterAt(handle, head.shape, head.dtype)
    else:
        output = EncodedAt(handle)
    made = TaskOutput(output, None, head.info, int(started * 1e9), int(finished * 1e9))
    result = ClusterResult(made, data.toreadonly(), queued, None)
    result.node, result.url = node, head.url
    return result
