"""Feeds bytes of a worker to the server's side of its channel: frames, decoder and core, as in a running pool."""

from __future__ import annotations

from collections.abc import Iterable
from time import process_time

from offloop.core.model.commands import KillWorker
from offloop.core.model.events import TimePassed, WorkerReported, WorkerViolatedProtocol
from offloop.sandbox import Posture
from offloop.wire.codec import decode_from_worker
from offloop.wire.framing import MAX_FROM_WORKER_NBYTES, FrameReader, ProtocolError
from offloop.wire.handles import OUTBOX, EncodedAt, Handle, RasterAt
from offloop.wire.messages import Done, Failed, FromWorker, Loading, Need, NeedFile, Output, OutputFailed, Ready

from .pool_script import PoolScript

__all__ = ["CORPUS", "MAX_CPU_S_PER_FRAME", "ServerSide"]

TASK = 1
MAX_CPU_S_PER_FRAME = 0.25  # several times the time for the frame that takes longest to decode, because machines are busy
_BLOCK = Handle(OUTBOX, 4096, 100, 1)

CORPUS: tuple[FromWorker, ...] = (
    Loading(77),
    Ready(77, 1 << 20, {"faults": "no"}, Posture(mode="auto", missing={"seccomp": "old"}, limits={"core": 0})),
    Need(TASK, 1 << 20),
    NeedFile(TASK),
    Output(TASK, "card", EncodedAt(_BLOCK), {"width": 3, "list": [1, None, "x"]}, 5, 6),
    OutputFailed(TASK, "card", "refused", "no", None),
    Done(TASK, EncodedAt(_BLOCK), {"width": 3}, 5, 6, 1 << 20, 1 << 21, 7),
    Done(TASK, RasterAt(_BLOCK, (10, 10), "|u1"), {}, 5, 6),
    Done(TASK, EncodedAt(None), {"map": {"a": 0.5}}, 5, 6),
    Failed(TASK, "exception", "text", "Traceback", 5, 6, recycle=True),
)
"""A message of each kind, some with handles that were never granted."""


class ServerSide:
    """A pool with one worker, which has a task."""

    def __init__(self, *, is_ready: bool = True) -> None:
        self.script = PoolScript()
        self.script.start()
        self.script.spawned()
        if is_ready:
            self.script.report_ready()
            self.script.run(TASK)
        self._frames = FrameReader(MAX_FROM_WORKER_NBYTES)

    def receive(self, pieces: Iterable[bytes]) -> bool:
        """Receive bytes of the worker. Returns whether the pool has not killed it.

        Raises:
            AssertionError: the pool's tables are not consistent, or a frame took too long.
        """
        for piece in pieces:
            try:
                for frame in self._frames.feed(piece):
                    if not self._handle(frame):
                        return False
            except ProtocolError as error:
                self._tell(WorkerViolatedProtocol(0, str(error)))
                return False
            assert len(self._frames.pending) <= MAX_FROM_WORKER_NBYTES + 4
        self._tell(TimePassed())
        return True

    def _handle(self, frame: bytes | bytearray) -> bool:
        began = process_time()
        commands = self._tell(WorkerReported(0, decode_from_worker(frame)))
        assert process_time() - began < MAX_CPU_S_PER_FRAME
        return not any(isinstance(command, KillWorker) for command in commands)

    def _tell(self, event: WorkerReported | WorkerViolatedProtocol | TimePassed) -> list[object]:
        return list(self.script.handle(event))
