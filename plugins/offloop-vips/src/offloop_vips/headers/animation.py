"""Frames of an animation."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Animation"]


class Animation(NamedTuple):
    """Durations and repetitions of the frames of a file."""

    durations_ms: list[int]  # time of each frame in milliseconds
    loop: int  # number of times that a viewer plays the animation; 0: for ever
