"""What a pipeline is likely to take, said beforehand; and whether it is true."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offloop.operation import Estimate, Header, Operation
from offloop_vips import (
    AutoOrient,
    Avif,
    Blur,
    Decode,
    Grayscale,
    Jpeg,
    Png,
    Raw,
    Resize,
    Rotate,
    Sharpen,
    Tint,
    VipsPlugin,
    Webp,
)
from offloop_vips.headers.parser import VipsHeader

PANORAMA = 12_000, 10_000
ALL = Decode(max_pixels=10**9)


def header(media_type: str = "image/jpeg", size: tuple[int, int] = PANORAMA, **fields: Any) -> VipsHeader:
    fields = {"bands": 3, "bits": 8, "pages": 1, "progressive": False, **fields}
    return VipsHeader(media_type=media_type, width=size[0], height=size[1], **fields)


def estimate(of: Header, *operations: Operation, nbytes: int = 30_000_000) -> Estimate:
    known = VipsPlugin().estimate(of, operations, nbytes)
    assert known is not None
    return known


def peak(of: Header, *operations: Operation) -> float:
    return estimate(of, ALL, *operations).peak_bytes / 1e6


def test_of_what_is_not_known_nothing_is_said():
    assert VipsPlugin().estimate(None, [Raw()], 100) is None
    assert VipsPlugin().estimate(header("image/x-other"), [Raw()], 100) is None


def test_a_baseline_jpeg_flows_through_and_a_progressive_one_is_held():
    flowing = peak(header(), Resize(1600), Raw())
    held = peak(header(progressive=True, samples_per_pixel=1.5), Resize(1600), Raw())
    assert flowing < 40
    assert held - flowing == pytest.approx(2 * 1.5 * 120, rel=0.05)


def test_an_interlaced_png_is_held_and_sixteen_bits_are_held_as_such():
    plain = peak(header("image/png"), Raw())
    assert peak(header("image/png", progressive=True), Raw()) - plain == pytest.approx(360, rel=0.05)
    assert peak(header("image/png", progressive=True, bits=16), Raw()) - plain == pytest.approx(720, rel=0.05)


@pytest.mark.parametrize("step", [Rotate(90), Rotate(180), Rotate(33), Resize(11_999, 9_999, position="attention")])
def test_some_steps_hold_the_whole_picture(step: Operation):
    assert peak(header(), step, Raw()) > 360
    assert peak(header(), Rotate(0), Raw()) < 60


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_turning_upright_holds_the_picture_unless_it_is_told_not_to(orientation: int):
    turned = header(orientation=orientation)
    assert peak(turned, Raw()) > 360
    assert estimate(turned, Decode(max_pixels=10**9, auto_orient=False), Raw()).peak_bytes < 60e6
    assert estimate(turned, Decode(max_pixels=10**9, auto_orient=False), AutoOrient(), Blur(), Raw()).peak_bytes > 360e6
    assert peak(turned, Resize(600), Raw()) < 60


def test_a_webp_is_held_at_the_size_at_which_it_is_decoded():
    webp = header("image/webp", (8000, 6000))
    assert peak(webp, Raw()) > 8 * 48
    assert peak(webp, Resize(900), Raw()) < 60
    assert peak(webp, Resize(900, kernel="nearest"), Raw()) > 8 * 48
    assert peak(header("image/webp", (8000, 6000), bands=4), Resize(900), Raw()) > 5 * 48


def test_all_pages_are_held():
    gif = header("image/gif", (1000, 1000), pages=40)
    assert peak(gif, Raw()) < 30
    assert estimate(gif, Decode(pages=-1), Raw()).peak_bytes > 120e6
    assert estimate(gif, Decode(pages=10), Raw()).output_bytes == 10 * 3_000_000
    unknown = header("image/gif", (1000, 1000), pages=None, page_nbytes=100_000)
    assert estimate(unknown, Decode(pages=-1), Raw(), nbytes=1_000_000).output_bytes == 10 * 3_000_000
    assert estimate(unknown, Decode(pages=-1), Raw(), nbytes=10**9).output_bytes == 50 * 3_000_000  # more is refused


def test_encoders_that_collect_the_picture_are_told_from_those_that_do_not():
    png = header("image/png")
    assert peak(png, Jpeg(optimise_coding=False)) < 80
    assert peak(png, Jpeg()) > 700
    assert peak(png, Png()) < 80
    assert peak(png, Webp(lossless=True)) > 3 * peak(png, Webp()) > 2000
    assert peak(png, Avif()) > peak(png, Avif(chroma_subsampling="4:2:0")) > peak(png, Webp())
    assert estimate(png, ALL, Avif(effort=9)).work_s > 10 * estimate(png, ALL, Avif()).work_s > 1000


def test_without_an_encoder_the_source_s_own_kind_is_made():
    assert peak(header("image/png")) == peak(header("image/png"), Png())
    assert peak(header()) == peak(header(), Jpeg())


def test_a_raster_is_read_in_place_and_made_in_place():
    raster = Header(media_type="", width=4000, height=3000, bands=3)
    known = estimate(raster, Resize(2000), nbytes=36_000_000)
    assert known.output_bytes == 2000 * 1500 * 3
    assert known.peak_bytes < 40e6
    assert estimate(raster, Raw("float32"), nbytes=36_000_000).output_bytes == 4 * 36_000_000


def test_what_is_refused_for_its_size_takes_nothing_so_that_it_is_refused_for_that():
    bomb = header("image/png", (30_000, 30_000), progressive=True)
    assert estimate(bomb, Resize(100)).peak_bytes < 10e6
    assert estimate(header(size=(4000, 3000)), Resize(40_000), Avif()).peak_bytes < 100e6


STEPS = [Resize(700), Resize(90, 90, fit="contain", background="#fff0"), Resize(50, 9, position="entropy"), Rotate(9),
         Blur(3), Rotate(90), Sharpen(), Sharpen(2), Grayscale(), Tint("red"), AutoOrient()]  # fmt: skip
ENDINGS = [Raw(), Jpeg(), Png(), Webp(), Avif(), Png(palette=True), Jpeg(mozjpeg=True), Raw("float32")]


@settings(deadline=None)
@given(
    st.sampled_from(["image/jpeg", "image/png", "image/webp", "image/avif", "image/gif", "image/tiff", ""]),
    st.integers(1, 2**32),
    st.integers(1, 2**32),
    st.fixed_dictionaries(
        {
            "bands": st.none() | st.integers(1, 255),
            "bits": st.none() | st.integers(1, 65_535),
            "pages": st.none() | st.integers(1, 2**32),
            "orientation": st.none() | st.integers(1, 8),
            "progressive": st.none() | st.booleans(),
            "page_nbytes": st.none() | st.integers(1, 2**32),
        }
    ),
    st.lists(st.sampled_from(STEPS), max_size=5),
    st.sampled_from(ENDINGS),
    st.integers(0, 2**40),
)
def test_whatever_a_header_says_there_is_an_estimate_at_once(
    media_type: str, width: int, height: int, fields: Any, steps: list[Operation], ending: Operation, nbytes: int
):
    of = VipsHeader(media_type=media_type, width=width, height=height, **fields)
    started = time.process_time()
    known = VipsPlugin().estimate(of, [*steps, ending], nbytes)
    assert time.process_time() - started < 0.1  # tens of microseconds
    assert known is not None
    assert known.peak_bytes > 0
    assert known.work_s > 0
    assert known.output_bytes >= 0


MEASURE = """
import json, mmap, sys, time
from offloop.processor import Encoded
from offloop.testing import InlineTask
from offloop.worker.isolation.memory_limits import PrivateMemory
from offloop_vips import *
from offloop_vips.processor import VipsProcessor

class Shared(InlineTask):
    def __init__(self):
        super().__init__()
        self.memory, self.used = memoryview(mmap.mmap(-1, 64_000_000)), 0
        self.memory[:] = bytes(len(self.memory))
    def allocate(self, nbytes):
        return self.memory[:nbytes]
    def output(self, expected_nbytes=0):
        return self
    def write(self, chunk):
        self.memory[self.used : self.used + len(chunk)] = chunk
        self.used += len(chunk)
        return len(chunk)
    @property
    def view(self):
        return self.memory[: self.used]

data, task, processor, memory = open(sys.argv[1], "rb").read(), Shared(), VipsProcessor(), PrivateMemory()
processor.open(None)
memory._peak_is_old = True
memory.rebaseline()
memory.begin(time.monotonic_ns())
processor.run(Encoded(data), eval(sys.argv[2]), task)
print(json.dumps(memory.peak(time.monotonic_ns())))
"""


@pytest.mark.parametrize(
    ("suffix", "options", "pipeline"),
    [
        (".jpg", {}, [Resize(300), Raw()]),
        (".jpg", {"interlace": True}, [Raw()]),
        (".jpg", {"interlace": True, "subsample_mode": "off"}, [Resize(300), Raw()]),
        (".png", {"compression": 1}, [Rotate(90), Jpeg(chroma_subsampling="4:4:4")]),
        (".png", {"compression": 1, "interlace": True}, [Rotate(33), Raw()]),
        (".webp", {"effort": 0}, [Raw()]),
        (".avif", {"effort": 0}, [Resize(300), Raw()]),
        (".gif", {"effort": 1}, [Raw()]),
        (".png", {"compression": 1}, [Webp(effort=0)]),
    ],
)
def test_the_true_peak_is_below_the_estimate_and_not_far(
    bench: Any, smooth: Any, tmp_path: Path, suffix: str, options: dict[str, Any], pipeline: list[Operation]
):
    source = tmp_path / f"source{suffix}"
    source.write_bytes(bench.file(smooth(3000, 2500), suffix, **options))
    with source.open("rb") as file:
        of = VipsPlugin().probe(memoryview(file.read(VipsPlugin.probe_nbytes)))
    assert of is not None
    known = estimate(of, *pipeline, nbytes=source.stat().st_size)
    command = [sys.executable, "-c", MEASURE, str(source), repr(pipeline)]
    true = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=50).stdout)
    assert true <= known.peak_bytes
    assert known.peak_bytes <= 2 * true + 15_000_000
