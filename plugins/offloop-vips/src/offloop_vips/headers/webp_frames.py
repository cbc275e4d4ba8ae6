"""Frames of an animated WebP that was just made: an encoder merges equal ones, so that only the file has their number."""

from __future__ import annotations

from struct import unpack_from

from .animation import Animation

__all__ = ["read_webp_frames"]


def read_webp_frames(data: memoryview) -> Animation | None:
    """Returns the frames of a well-formed WebP; None if it is not animated."""
    durations: list[int] = []
    loop, at = 0, 12
    while at + 8 <= data.nbytes:
        kind, nbytes = unpack_from("<4sI", data, at)
        if kind == b"ANIM":
            (loop,) = unpack_from("<H", data, at + 12)
        elif kind == b"ANMF":
            durations.append(int.from_bytes(data[at + 20 : at + 23], "little"))
        at += 8 + nbytes + nbytes % 2
    return Animation(durations, loop) if durations else None
