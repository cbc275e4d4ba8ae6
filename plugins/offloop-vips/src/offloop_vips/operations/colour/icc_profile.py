"""ICC profile of the file: conversion to sRGB or Display P3, and whether the profile is attached."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ...picture import Picture
from ..step import Shape, Step, StepCost

__all__ = ["IccProfile"]


class IccProfile(Step, frozen=True):
    """Converts the colours to sRGB or Display P3, and attaches the profile to the file.

    With "p3" the source is decoded into Display P3, so that its colours are not clipped to sRGB before, unless `Decode.colours`
    says otherwise. Formats without profiles (GIF) and grey pictures are converted back or stay as they are.
    """

    profile: Literal["srgb", "p3"] = "srgb"
    """Colour space of the file."""

    attach: bool = True
    """Attach the profile. Without it a viewer takes the colours for sRGB."""

    def apply(self, picture: Picture) -> Picture:
        return replace(picture.in_colour_space(self.profile), attaches_profile=self.attach)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=12.0, rows=400, fixed_nbytes=3_000_000)
