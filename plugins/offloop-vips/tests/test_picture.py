"""The picture between two steps."""

from __future__ import annotations

from typing import Any

from offloop.processor import Encoded
from offloop.testing import InlineTask
from offloop_vips import Resize
from offloop_vips.evaluation import Evaluation
from offloop_vips.picture import Picture
from offloop_vips.pipeline import Pipeline
from offloop_vips.processor.loading import load_encoded


def opened(data: bytes, *operations: Any) -> Picture:
    return load_encoded(Encoded(memoryview(data)), "jpeg", Pipeline.of(operations, encoded=True), Evaluation(InlineTask()))


def test_pixels_are_gathered_in_memory_once(bench: Any, smooth: Any):
    read_in_order = opened(bench.file(smooth(40, 30), ".jpg"))
    settled = read_in_order.with_random_access()
    assert settled is not read_in_order
    assert settled.with_random_access() is settled


def test_its_size_is_that_of_the_upright_picture_before_the_decoder_shrank_it(bench: Any, smooth: Any):
    picture = opened(bench.file(smooth(800, 600), ".jpg", 6), Resize(75))
    assert tuple(picture.page_size) == (100, 75)
    assert tuple(picture.logical_size) == (600, 800)
    assert picture.is_sideways


def test_once_upright_it_owes_no_turn(bench: Any, smooth: Any):
    upright = opened(bench.file(smooth(40, 30), ".jpg", 6)).upright()
    assert tuple(upright.page_size) == tuple(upright.logical_size) == (30, 40)
    assert upright.orientation == 1
    assert upright.upright() is upright
