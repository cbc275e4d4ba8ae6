"""Translation of libvips errors."""

from __future__ import annotations

import io
from typing import Any

import pytest
import pyvips
from PIL import Image

from offloop.errors import TaskFailed
from offloop_vips import Raw
from offloop_vips.processor.libvips_errors import corrupt_source, translate_error, unreadable_source


def error(detail: str) -> pyvips.Error:
    return pyvips.Error("unable to call something", detail)


@pytest.mark.parametrize(
    ("detail", "source", "code"),
    [
        ("VipsJpeg: premature end of JPEG image\n", "jpeg", "corrupt_source"),
        ("vips_sequential: out of order read\nvipspng: libpng read error\n", "png", "corrupt_source"),
        ("VipsJpeg: premature end of JPEG image\n", "png", "processing_failed"),
        ("VipsJpeg: premature end of JPEG image\n", None, "processing_failed"),
        ("jpegsave_target: too large\n", "jpeg", "processing_failed"),
        ("heif: Error during encoding\n", "avif", "processing_failed"),
        ("webp2vips: unable to read pixels\n", "webp", "corrupt_source"),
        ("resize: bad scale\n", "jpeg", "processing_failed"),
        ("", None, "processing_failed"),
    ],
)
def test_errors_of_the_decoder_are_distinguished_from_other_errors(detail: str, source: str | None, code: str):
    failure = translate_error(error(detail or " "), source)  # type: ignore[arg-type]
    assert isinstance(failure, TaskFailed)
    assert failure.code == code


@pytest.mark.parametrize(
    "detail",
    [
        "VipsJpeg: Insufficient memory (case 4)\n",
        "vips_tracked: out of memory -- size == 34MB\n",
        "vips_tracked: out of memory -- size == 0MB\nvipspng: out of order read at line 112\n",
        "glib: Error creating thread: Resource temporarily unavailable\n",
        "heif: Invalid input: Unspecified: Memory allocation error (2.0)\n",
        "webpsave: picture memory error\nwbuffer_write: write failed\n",
    ],
)
def test_a_lack_of_memory_is_a_memory_error(detail: str):
    assert isinstance(translate_error(error(detail), "png"), MemoryError)


def test_the_security_limit_of_libheif_is_a_corrupt_source():
    failure = translate_error(
        error("heif: Memory allocation error: Security limit exceeded: Image size 640x480 exceeds 65536\n"), "avif"
    )
    assert isinstance(failure, TaskFailed)
    assert failure.code == "corrupt_source"


@pytest.mark.parametrize(
    "text",
    [
        "tiff2vips: Failed to allocate memory for to read TIFF directory (0 elements of 12 bytes each)",
        'tiff2vips: Out of memory reading of "BitsPerSample"',
    ],
)
def test_a_broken_directory_of_a_tiff_is_a_corrupt_source(text: str):
    failure = translate_error(error(text), "tiff")
    assert isinstance(failure, TaskFailed)
    assert failure.code == "corrupt_source"


def test_a_message_is_short_and_on_one_line():
    failure = translate_error(error("one: " + "x" * 1000 + "\ntwo\x1b[31m: y\n\n" + "one: z\n" * 50), None)
    assert isinstance(failure, TaskFailed)
    assert failure.message == "one: " + "x" * 195 + "; two[31m: y"


def test_duplicate_lines_and_bad_seeks_are_left_out_of_the_message():
    failure = corrupt_source("avif", error("source: bad seek to 9\nheif: broken\nheif: broken\nsource: bad seek to 8\n"))
    assert failure.message == "the source is not a readable avif file: heif: broken"


def test_a_kind_of_file_that_libvips_does_not_read_is_no_corrupt_source(bench: Any):
    file = io.BytesIO()
    Image.new("LAB", (9, 9), (150, 120, 140)).save(file, "TIFF")
    with pytest.raises(TaskFailed, match="labq") as failure:
        bench.run(file.getvalue(), Raw())
    assert failure.value.code == "unsupported_format"
    assert unreadable_source("tiff", error("tiff2vips: bad directory")).code == "corrupt_source"
