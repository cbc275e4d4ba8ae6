"""Frames on a byte stream: four bytes of length, little-endian, then that many bytes.

The reader is fed whatever a read returned, in any split, and gives back every frame that is complete. It decides from the
header alone whether a frame is too large, so a liar costs four bytes and not the memory that it claims.
"""

from __future__ import annotations

import struct

__all__ = [
    "HEADER",
    "HEADER_NBYTES",
    "MAX_FROM_SUPERVISOR_NBYTES",
    "MAX_FROM_WORKER_NBYTES",
    "FrameReader",
    "ProtocolError",
]

MAX_FROM_SUPERVISOR_NBYTES = 16 * 1024 * 1024  # a long pipeline with tables in it; bytes travel elsewhere
MAX_FROM_WORKER_NBYTES = 1024 * 1024  # the supervisor's memory at a worker's mercy

HEADER = struct.Struct("<I")
"""How many bytes follow."""

HEADER_NBYTES = HEADER.size

_unpack_length = HEADER.unpack_from


class ProtocolError(Exception):
    """The peer sent what it must not send. There is no way to go on with it."""


class FrameReader:
    """Cuts a stream into frames."""

    def __init__(self, max_nbytes: int) -> None:
        self._max_nbytes = max_nbytes
        self.pending = bytearray()
        """What is here of a frame that is not complete, its header included; only `feed` changes it."""

    def feed(self, data: bytes) -> list[bytes | bytearray]:
        """Take the next bytes of the stream and return the frames that they complete, oldest first.

        Raises:
            ProtocolError: a frame announces more than the limit. The frames before it are lost with it.
        """
        pending = self.pending
        if not pending and len(data) >= HEADER_NBYTES:
            (nbytes,) = _unpack_length(data)
            if len(data) - HEADER_NBYTES == nbytes <= self._max_nbytes:
                return [data[HEADER_NBYTES:]]  # as nearly always
        pending += data
        frames: list[bytes | bytearray] = []
        position = 0
        while len(pending) - position >= HEADER_NBYTES:
            (nbytes,) = _unpack_length(pending, position)
            if nbytes > self._max_nbytes:
                raise ProtocolError(f"a frame of {nbytes:,} bytes was announced; the limit is {self._max_nbytes:,}")
            end = position + HEADER_NBYTES + nbytes
            if end > len(pending):
                break
            frames.append(pending[position + HEADER_NBYTES : end])
            position = end
        del pending[:position]
        return frames
