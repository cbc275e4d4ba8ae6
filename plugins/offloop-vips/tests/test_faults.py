"""libvips' complaints, as errors that a caller can branch on."""

from __future__ import annotations

import pytest
import pyvips

from offloop_vips.faults import corrupt_source, explain


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
def test_a_decoder_s_complaint_is_told_from_any_other(detail: str, source: str | None, code: str):
    assert explain(error(detail or " "), source).code == code  # type: ignore[arg-type]


def test_a_message_is_short_and_on_one_line():
    said = explain(error("one: " + "x" * 1000 + "\ntwo\x1b[31m: y\n\n" + "one: z\n" * 50), None).message
    assert said == "one: " + "x" * 195 + "; two[31m: y"


def test_the_same_line_is_said_once_and_bad_seeks_are_not():
    failure = corrupt_source("avif", error("source: bad seek to 9\nheif: broken\nheif: broken\nsource: bad seek to 8\n"))
    assert failure.message == "the source is no readable avif file: heif: broken"
