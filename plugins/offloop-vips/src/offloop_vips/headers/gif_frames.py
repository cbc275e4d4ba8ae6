"""Frames of an animated GIF that was just made: an encoder merges equal ones, so that only the file has their number."""

from __future__ import annotations

from struct import unpack_from

from .animation import Animation

__all__ = ["read_gif_frames"]

_EXTENSION, _FRAME, _CONTROL, _APPLICATION = 0x21, 0x2C, 0xF9, 0xFF
_LOOP = b"NETSCAPE2.0"


def read_gif_frames(data: memoryview) -> Animation | None:
    """Returns the frames of a well-formed GIF; None if it is not animated."""
    durations: list[int] = []
    plays, at, delay = 1, 13 + _colour_table_nbytes(data[10]), 0
    while at + 1 < data.nbytes and data[at] in (_EXTENSION, _FRAME):
        if data[at] == _FRAME:
            durations.append(delay * 10)  # from hundredths of a second
            at = _after_blocks(data, at + 11 + _colour_table_nbytes(data[at + 9]))
            continue
        if data[at + 1] == _CONTROL:
            (delay,) = unpack_from("<H", data, at + 4)
        elif data[at + 1] == _APPLICATION and bytes(data[at + 3 : at + 14]) == _LOOP:
            (repetitions,) = unpack_from("<H", data, at + 16)
            plays = repetitions + 1 if repetitions else 0
        at = _after_blocks(data, at + 2)
    return Animation(durations, plays) if len(durations) > 1 else None


def _colour_table_nbytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(data: memoryview, at: int) -> int:
    """Returns the offset after a list of data blocks, which ends with an empty one."""
    while at < data.nbytes and data[at]:
        at += data[at] + 1
    return at + 1
