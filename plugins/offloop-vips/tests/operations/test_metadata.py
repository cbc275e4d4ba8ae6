"""Metadata of the file."""

from __future__ import annotations

import io
from typing import Any

import pytest
import pyvips
from PIL import Image

from offloop.errors import InvalidTask
from offloop_vips import Avif, Extract, Jpeg, Metadata, Png, Resize, Rotate, Sharpen, Tiff, Webp

ENCODERS = [Jpeg(), Png(), Webp(), Avif(), Tiff(compression="deflate")]
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


def source(bench: Any, array: Any, orientation: int = 6) -> bytes:
    image = bench.image(array).copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Copyright", "another one else")
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd2-BodySerialNumber", "12345")
    image.set_type(pyvips.GValue.blob_type, "xmp-data", XMP.encode())
    return image.write_to_buffer(".jpg")


COPYRIGHT, ARTIST, ORIENTATION = 0x8298, 0x13B, 0x112


def exif(data: Any) -> Any:
    """Returns the tags of a file as Pillow reads them."""
    return Image.open(io.BytesIO(bytes(data))).getexif()


@pytest.mark.parametrize("encoder", ENCODERS[:4], ids=lambda encoder: encoder.format)
def test_exif_is_kept_and_has_the_orientation_and_the_size_of_the_result(bench: Any, smooth: Any, encoder: Any):
    result = bench.run(source(bench, smooth(90, 60)), Resize(30), Sharpen(), Metadata(keep=("exif",)), encoder)
    tags, shown = exif(result.data), pyvips.Image.new_from_buffer(bytes(result.data), "")
    assert tags[COPYRIGHT] == "another one else"
    assert tags.get(ORIENTATION, 1) == 1
    assert (shown.width, shown.height) == (30, 45)
    assert shown.get_typeof("xmp-data") == 0


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.format)
def test_tags_and_xmp_are_set(bench: Any, smooth: Any, encoder: Any):
    metadata = Metadata(exif={"Copyright": "me", "Artist": "you (and others)"}, xmp=XMP.replace("/>", " x='1'/>"))
    result = bench.run(source(bench, smooth(90, 60)), Rotate(90), metadata, encoder)
    shown: Any = pyvips.Image.new_from_buffer(bytes(result.data), "")
    assert b"x='1'" in bytes(shown.get("xmp-data"))
    assert b"12345" not in bytes(result.data)
    if encoder.format != "tiff":
        assert exif(result.data)[COPYRIGHT] == "me"
        assert exif(result.data)[ARTIST] == "you (and others)"


def test_kinds_are_kept_separately(bench: Any, smooth: Any):
    data = bytes(bench.run(source(bench, smooth(90, 60)), Metadata(keep=("xmp",)), Jpeg()).data)
    assert XMP.encode() in data
    assert b"else" not in data


def test_metadata_is_in_a_file_whose_quality_was_searched(bench: Any, smooth: Any):
    steps = Extract(0, 0, 50, 50), Metadata(keep=("exif",)), Jpeg(max_bytes=5000)
    assert exif(bench.run(source(bench, smooth(90, 60)), *steps).data)[COPYRIGHT] == "another one else"


@pytest.mark.parametrize(
    "parameters",
    [{}, {"keep": ("icc",)}, {"exif": {"copyright": "x"}}, {"exif": {"A;B": "x"}}, {"exif": {"Artist": "a\0b"}}, {"xmp": ""}],
)
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Metadata"):
        Metadata(**parameters)
