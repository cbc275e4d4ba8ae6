"""Join channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop.operation import Attachment
from offloop_vips import JoinChannel, Raw

CHANNEL = Attachment.at(1)


def test_a_mask_becomes_alpha(bench: Any, smooth: Any):
    mask = smooth(30, 20, 1)
    shown = bench.show(smooth(30, 20), JoinChannel(CHANNEL), attachments=[bench.file(mask, ".png")])
    assert (shown[..., :3] == smooth(30, 20)).all()
    assert (shown[..., 3] == mask[..., 0]).all()


def test_bands_are_counted(bench: Any, smooth: Any):
    assert bench.show(smooth(30, 20, 1), JoinChannel(CHANNEL), attachments=[smooth(30, 20, 2)]).shape == (20, 30, 3)
    assert bench.show(smooth(30, 20, 1), JoinChannel(CHANNEL), attachments=[smooth(30, 20, 1)]).shape == (20, 30, 2)
    with pytest.raises(InvalidTask, match="3 and 3 bands"):
        bench.run(smooth(30, 20), JoinChannel(CHANNEL), attachments=[smooth(30, 20)])


def test_a_mask_of_8_bits_is_joined_to_16(bench: Any):
    deep, mask = np.full((4, 4, 3), 999, "u2"), np.full((4, 4, 1), 255, "u1")
    assert (bench.show(deep, JoinChannel(CHANNEL), Raw("uint16"), attachments=[mask])[..., 3] == 65_535).all()


def test_another_size_is_refused(bench: Any, smooth: Any):
    with pytest.raises(InvalidTask, match="29 x 20, and the picture has 30 x 20"):
        bench.run(smooth(30, 20), JoinChannel(CHANNEL), attachments=[smooth(29, 20, 1)])
