"""Auto-orient: applies the EXIF orientation."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from ...picture import Picture
from ..step import Shape, Step, StepCost

__all__ = ["AutoOrient"]


class AutoOrient(Step, frozen=True):
    """Applies the EXIF orientation at this step. It is for `Decode(auto_orient=False)`; otherwise decoding applies it."""

    applies_orientation: ClassVar[bool] = True

    def apply(self, picture: Picture) -> Picture:
        # the next step applies the orientation; a resize does so after scaling, when there are fewer pixels
        return replace(picture, auto_orient=True)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=0.0, rows=0, alpha_fixed_nbytes=0)
