"""The calibration of the estimates (`benchmarks/calibrate_vips.py`) has a cell for every operation of the plugin."""

from __future__ import annotations

from calibrate_vips import ALL
from calibration_steps import unmeasured

from offloop_vips import Blur, Decode, Jpeg


def test_every_operation_has_a_cell() -> None:
    assert unmeasured(ALL) == set()


def test_an_operation_without_a_cell_is_named() -> None:
    assert unmeasured(steps for steps in ALL if not any(isinstance(step, Blur) for step in steps)) == {"Blur"}
    assert {"Blur", "JoinChannel", "Stats", "Webp"} <= unmeasured([[Decode(), Jpeg()]])
