"""Extract channel."""

from __future__ import annotations

from typing import Any

import pytest

from offloop.errors import InvalidTask
from offloop_vips import ExtractChannel, Raw


@pytest.mark.parametrize(("channel", "number"), [("red", 0), (1, 1), ("blue", 2), ("alpha", 3), (3, 3)])
def test_a_band_becomes_a_grey_picture(bench: Any, smooth: Any, channel: Any, number: int):
    array = smooth(30, 20, 4)
    shown = bench.show(array, ExtractChannel(channel))
    assert shown.shape == (20, 30, 1)
    assert (shown[..., 0] == array[..., number]).all()


def test_a_grey_or_opaque_picture_has_all_bands_too(bench: Any, smooth: Any):
    assert (bench.show(smooth(30, 20, 1), ExtractChannel("blue")) == smooth(30, 20, 1)).all()
    assert (bench.show(smooth(30, 20, 3), ExtractChannel("alpha")) == 255).all()
    assert (bench.show(smooth(30, 20, 3).astype("u2"), ExtractChannel(3), Raw("uint16")) == 65_535).all()


@pytest.mark.parametrize("channel", [4, -1, "cyan"])
def test_an_unknown_band_is_refused(channel: Any):
    with pytest.raises(InvalidTask, match=r"ExtractChannel.*'red'"):
        ExtractChannel(channel)
