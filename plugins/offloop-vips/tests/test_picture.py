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


def test_pixels_are_copied_to_memory_once(bench: Any, smooth: Any):
    sequential = opened(bench.file(smooth(40, 30), ".jpg"))
    copied = sequential.with_random_access()
    assert copied is not sequential
    assert copied.with_random_access() is copied


def test_the_logical_size_is_upright_and_before_shrink_on_load(bench: Any, smooth: Any):
    picture = opened(bench.file(smooth(800, 600), ".jpg", 6), Resize(66))
    assert tuple(picture.page_size) == (100, 75)
    assert tuple(picture.logical_size) == (600, 800)
    assert picture.is_sideways


def test_an_upright_picture_has_no_pending_orientation(bench: Any, smooth: Any):
    upright = opened(bench.file(smooth(40, 30), ".jpg", 6)).upright()
    assert tuple(upright.page_size) == tuple(upright.logical_size) == (30, 40)
    assert upright.orientation == 1
    assert upright.upright() is upright
