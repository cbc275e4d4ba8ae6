"""Estimates of memory, time and output size, and comparison with measured peaks."""

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

from offloop.operation import Attachment, Estimate, Header, Operation
from offloop_vips import (
    Affine,
    Auto,
    AutoOrient,
    Avif,
    Blur,
    BlurHash,
    Clahe,
    Composite,
    Convolve,
    Decode,
    EnsureAlpha,
    Extend,
    Extract,
    ExtractChannel,
    Flatten,
    Flip,
    Gif,
    Grayscale,
    Jpeg,
    Median,
    Metadata,
    Modulate,
    Normalise,
    Pixelate,
    Png,
    Raw,
    Resize,
    Rotate,
    RoundCorners,
    Sharpen,
    Stats,
    Text,
    Tiff,
    Tint,
    Trim,
    Unsharp,
    VipsPlugin,
    Webp,
)
from offloop_vips.headers.parser import VipsHeader

PANORAMA = 12_000, 10_000
NO_LIMIT = Decode(max_pixels=10**9)


def header(media_type: str = "image/jpeg", size: tuple[int, int] = PANORAMA, **fields: Any) -> VipsHeader:
    fields = {"bands": 3, "bits": 8, "pages": 1, "progressive": False, **fields}
    return VipsHeader(media_type=media_type, width=size[0], height=size[1], **fields)


def estimate(source_header: Header, *operations: Operation, nbytes: int = 30_000_000) -> Estimate:
    known = VipsPlugin().estimate(source_header, operations, nbytes)
    assert known is not None
    return known


def peak(source_header: Header, *operations: Operation) -> float:
    return estimate(source_header, NO_LIMIT, *operations).peak_bytes / 1e6


def test_an_unknown_header_has_no_estimate():
    assert VipsPlugin().estimate(None, [Raw()], 100) is None
    assert VipsPlugin().estimate(header("image/x-other"), [Raw()], 100) is None


def test_a_progressive_jpeg_is_buffered_and_a_baseline_jpeg_is_not():
    streamed = peak(header(), Resize(1600), Raw())
    buffered = peak(header(progressive=True, samples_per_pixel=1.5), Resize(1600), Raw())
    assert streamed < 40
    assert buffered - streamed == pytest.approx(2 * 1.5 * 120, rel=0.05)


def test_an_interlaced_png_is_buffered_at_its_depth():
    plain = peak(header("image/png"), Raw())
    assert peak(header("image/png", progressive=True), Raw()) - plain == pytest.approx(360, rel=0.05)
    assert peak(header("image/png", progressive=True, bits=16), Raw()) - plain == pytest.approx(720, rel=0.05)


@pytest.mark.parametrize("step", [Rotate(90), Rotate(180), Rotate(33), Resize(11_999, 9_999, position="attention")])
def test_steps_with_random_access_buffer_the_picture(step: Operation):
    assert peak(header(), step, Raw()) > 360
    assert peak(header(), Rotate(0), Raw()) < 60


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_the_orientation_buffers_the_picture_unless_auto_orient_is_off(orientation: int):
    turned = header(orientation=orientation)
    assert peak(turned, Raw()) > 360
    assert estimate(turned, Decode(max_pixels=10**9, auto_orient=False), Raw()).peak_bytes < 60e6
    assert estimate(turned, Decode(max_pixels=10**9, auto_orient=False), AutoOrient(), Blur(), Raw()).peak_bytes > 360e6
    assert peak(turned, Resize(600), Raw()) < 60


def test_a_webp_is_buffered_at_its_decoded_size():
    webp = header("image/webp", (8000, 6000))
    assert peak(webp, Raw()) > 8 * 48
    assert peak(webp, Resize(900), Raw()) < 60
    assert peak(webp, Resize(900, kernel="nearest"), Raw()) > 8 * 48
    assert peak(header("image/webp", (8000, 6000), bands=4), Resize(900), Raw()) > 5 * 48


def test_kept_rows_are_part_of_the_estimate():
    png = header("image/png")
    alone = peak(png, Blur(20), Raw()) - peak(png, Blur(0.3), Raw())
    reduced = peak(png, Blur(20), Resize(6000), Raw()) - peak(png, Blur(0.3), Resize(6000), Raw())
    assert reduced - alone == pytest.approx(256 * 12_000 * 3 / 1e6)


def test_several_pages_are_buffered():
    gif = header("image/gif", (1000, 1000), pages=40)
    assert peak(gif, Raw()) < 30
    assert estimate(gif, Decode(pages=-1), Raw()).peak_bytes > 120e6
    assert estimate(gif, Decode(pages=10), Raw()).output_bytes == 10 * 3_000_000
    unknown = header("image/gif", (1000, 1000), pages=None, page_nbytes=100_000)
    assert estimate(unknown, Decode(pages=-1), Raw(), nbytes=1_000_000).output_bytes == 10 * 3_000_000
    assert estimate(unknown, Decode(pages=-1), Raw(), nbytes=10**9).output_bytes == 210 * 3_000_000  # limited by max_pixels


def test_the_estimate_includes_the_buffers_of_encoders():
    png = header("image/png")
    assert peak(png, Jpeg(optimise_coding=False)) < 80
    assert peak(png, Jpeg()) > 700
    assert peak(png, Png()) < 80
    assert peak(png, Webp(lossless=True)) > 3 * peak(png, Webp()) > 2000
    assert peak(png, Avif()) > peak(png, Avif(chroma_subsampling="4:2:0")) > peak(png, Webp())
    assert estimate(png, NO_LIMIT, Avif(effort=9)).work_s > 10 * estimate(png, NO_LIMIT, Avif()).work_s > 1000


def test_without_an_encoder_the_estimate_is_for_the_format_of_the_source():
    assert peak(header("image/png")) == peak(header("image/png"), Png())
    assert peak(header()) == peak(header(), Jpeg())


def test_a_raster_is_read_and_written_in_place():
    raster = Header(media_type="", width=4000, height=3000, bands=3)
    known = estimate(raster, Resize(2000), nbytes=36_000_000)
    assert known.output_bytes == 2000 * 1500 * 3
    assert known.peak_bytes < 40e6
    assert estimate(raster, Raw("float32"), nbytes=36_000_000).output_bytes == 4 * 36_000_000


def test_the_estimate_of_a_picture_beyond_the_pixel_limit_is_small():
    bomb = header("image/png", (30_000, 30_000), progressive=True)
    assert estimate(bomb, Resize(100)).peak_bytes < 10e6
    assert estimate(header(size=(4000, 3000)), Resize(40_000), Avif()).peak_bytes < 100e6


STEPS = [Resize(700), Resize(90, 90, fit="contain", background="#fff0"), Resize(50, 9, position="entropy"), Rotate(9),
         Blur(3), Rotate(90), Sharpen(), Sharpen(2), Grayscale(), Tint("red"), AutoOrient(),
         Extract(0, 0, 5, 5), Extend(9), Flip(), Trim(), Affine((1, 0.2, 0, 1)), Clahe(9, 9),
         Normalise(), Modulate(2), Flatten(), EnsureAlpha(), ExtractChannel("red"), RoundCorners(9), Median(9), Unsharp(),
         Convolve(1, 1, (1,)), Pixelate(), Text("a"), Metadata(("exif",)), Composite(Attachment.at(1))]  # fmt: skip
OUTPUT_STEPS = [Raw(), Jpeg(), Png(), Webp(), Avif(), Png(palette=True), Jpeg(mozjpeg=True), Raw("float32"),
                Gif(), Tiff(), Auto("image/webp"), Webp(max_bytes=9), Jpeg(target="ssim:0.9"), Stats(), BlurHash()]  # fmt: skip


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
    st.sampled_from(OUTPUT_STEPS),
    st.integers(0, 2**40),
)
def test_any_header_gives_an_estimate_quickly(
    media_type: str, width: int, height: int, fields: Any, steps: list[Operation], output_step: Operation, nbytes: int
):
    source_header = VipsHeader(media_type=media_type, width=width, height=height, **fields)
    started = time.thread_time()
    known = VipsPlugin().estimate(source_header, [*steps, output_step], nbytes)
    assert time.thread_time() - started < 0.1  # tens of microseconds
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
        (".png", {"compression": 1}, [Normalise(), Unsharp(), RoundCorners(99), Tiff(compression="deflate")]),
        (".png", {"compression": 1}, [EnsureAlpha(0.5), Blur(5), Resize(1000), Raw()]),
        (".png", {"compression": 1}, [Blur(5), Unsharp(20), Raw()]),
    ],
)
def test_the_measured_peak_is_a_little_below_the_estimate(
    bench: Any, smooth: Any, tmp_path: Path, suffix: str, options: dict[str, Any], pipeline: list[Operation]
):
    source = tmp_path / f"source{suffix}"
    source.write_bytes(bench.file(smooth(3000, 2500), suffix, **options))
    with source.open("rb") as file:
        source_header = VipsPlugin().probe(memoryview(file.read(VipsPlugin.probe_nbytes)))
    assert source_header is not None
    known = estimate(source_header, *pipeline, nbytes=source.stat().st_size)
    command = [sys.executable, "-c", MEASURE, str(source), repr(pipeline)]
    measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=50).stdout)
    assert measured <= known.peak_bytes
    assert known.peak_bytes <= 2 * measured + 15_000_000
