"""Frames on a byte stream: four bytes of length, little-endian, then that many bytes.

`FrameReader` accepts the stream in pieces of any length and returns the complete frames. It refuses a frame that is too large
when it has read the header, so a false length costs no memory.
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

MAX_FROM_SUPERVISOR_NBYTES = 16 * 1024 * 1024  # maximum frame to a worker; fits a long pipeline with tables in it
MAX_FROM_WORKER_NBYTES = 64 * 1024
"""Maximum bytes of a frame to the supervisor. It bounds the memory that a worker can make the supervisor use, and the time: the
decoder, and so the event loop, needs up to 42 ms for a mebibyte of small objects."""

HEADER = struct.Struct("<I")
"""Length of the frame without the header, in bytes."""

HEADER_NBYTES = HEADER.size

_unpack_length = HEADER.unpack_from


class ProtocolError(Exception):
    """The peer broke the protocol. The connection cannot be used any more."""


class FrameReader:
    """Splits a byte stream into frames."""

    def __init__(self, max_nbytes: int) -> None:
        self._max_nbytes = max_nbytes
        self.pending = bytearray()
        """Bytes of the incomplete frame, with its header. Only `feed` changes it."""

    @property
    def missing_nbytes(self) -> int:
        """Bytes that the incomplete frame still lacks, if its header is there; else 0."""
        pending = self.pending
        return _unpack_length(pending)[0] + HEADER_NBYTES - len(pending) if len(pending) >= HEADER_NBYTES else 0

    def feed(self, data: bytes) -> list[bytes | bytearray]:
        """Append bytes of the stream. Returns the frames that they complete, oldest first.

        Raises:
            ProtocolError: the header of a frame announces more bytes than the limit. Frames before it in `data` are lost.
        """
        pending = self.pending
        if not pending and len(data) >= HEADER_NBYTES:
            (nbytes,) = _unpack_length(data)
            if len(data) - HEADER_NBYTES == nbytes <= self._max_nbytes:
                return [data[HEADER_NBYTES:]]  # fast path for the common case of exactly one frame
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
