"""Watermark."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop.operation import Attachment
from offloop_vips import Watermark

MARK = Attachment.at(1)


def black() -> Any:
    return np.zeros((50, 80, 3), "u1")


def white(width: int, height: int) -> Any:
    return np.full((height, width, 3), 255, "u1")


def where(shown: Any) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero((shown[..., 0] > 60).any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def test_the_mark_is_scaled_to_the_picture_and_half_transparent(bench: Any):
    shown = bench.show(black(), Watermark(MARK, margin=3), attachments=[white(400, 200)])
    assert where(shown) == (57, 37, 77, 47)
    assert abs(int(shown[40, 70, 0]) - 128) <= 1


def test_the_mark_can_keep_its_size(bench: Any):
    shown = bench.show(black(), Watermark(MARK, scale=None, gravity="northwest", opacity=1), attachments=[white(30, 20)])
    assert where(shown) == (0, 0, 30, 20)


def test_the_mark_is_repeated(bench: Any):
    mark = white(10, 10)
    mark[5:] = 0
    shown = bench.show(black(), Watermark(MARK, scale=None, tile=True, gravity="northwest", opacity=1), attachments=[mark])
    assert (shown[::10] == 255).all()
    assert (shown[5::10] == 0).all()


@pytest.mark.parametrize("parameters", [{"opacity": 2}, {"scale": 0}, {"scale": 1.5}, {"gravity": "attention"}, {"margin": -1}])
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Watermark"):
        Watermark(MARK, **parameters)
