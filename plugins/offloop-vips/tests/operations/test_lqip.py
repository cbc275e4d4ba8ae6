"""LQIP."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import numpy as np
import pytest
import pyvips

from offloop.errors import InvalidTask
from offloop_vips import Lqip


def test_it_is_a_tiny_picture_as_a_data_uri(bench: Any, smooth: Any):
    text = bench.run(bench.file(smooth(320, 200), ".jpg"), Lqip()).info["lqip"]
    head, _, data = text.partition(",")
    assert head == "data:image/webp;base64"
    assert len(text) < 300
    shown = pyvips.Image.new_from_buffer(b64decode(data), "").numpy().astype(int)
    assert shown.shape == (10, 16, 3)
    assert np.abs(shown - smooth(320, 200)[10::20, 10::20]).mean() < 12


def test_alpha_is_kept(bench: Any, smooth: Any):
    data = bench.run(smooth(64, 64, 4), Lqip(8)).info["lqip"].partition(",")[2]
    assert pyvips.Image.new_from_buffer(b64decode(data), "").bands == 4


@pytest.mark.parametrize("parameters", [(0,), (257,), (16, 0), (16, 101)])
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Lqip"):
        Lqip(*parameters)
