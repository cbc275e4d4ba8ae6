"""Animations: what `info` says of the frames of the file made and of the source, and alpha of an AVIF."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from offloop_vips import Decode, Png, Raw, Resize, Webp

from .test_sequences import apng


def frames(*levels: int) -> list[Any]:
    return [np.full((24, 24, 3), (level, 90, 0), "u1") for level in levels]


def gif_of_equal_pairs(levels: list[int]) -> bytes:
    """Returns a GIF in which each frame is there twice. Encoders merge equal frames, so that it is put together here."""
    made = io.BytesIO()
    pictures = [Image.fromarray(frame) for frame in frames(*levels)]
    pictures[0].save(made, "GIF", save_all=True, append_images=pictures[1:], duration=100, loop=3)
    data = made.getvalue()
    starts = [at for at in range(len(data)) if data[at : at + 3] == b"!\xf9\x04"]
    blocks = [data[start:end] for start, end in zip(starts, [*starts[1:], len(data) - 1], strict=True)]
    return data[: starts[0]] + b"".join(block * 2 for block in blocks) + b";"


@pytest.mark.parametrize("encoder", [Webp(lossless=True), Webp(), None])
def test_info_has_the_frames_of_the_file_that_was_made(bench: Any, encoder: Any):
    source = gif_of_equal_pairs([0, 80, 160, 240])
    result = bench.run(source, Decode(pages=-1), *([encoder] if encoder else []))
    made = Image.open(io.BytesIO(bytes(result.data)))
    info = result.info
    assert info["pages"] == len(info["durations_ms"]) == getattr(made, "n_frames") == 4  # noqa: B009 (Pillow has no type for it)
    assert info["durations_ms"] == [200] * 4
    assert info["loop"] == made.info["loop"]
    assert (info["source_pages"], info["pages_left_out"]) == (8, 0)


def test_an_animation_of_equal_frames_has_one_page(bench: Any):
    result = bench.run(gif_of_equal_pairs([50]), Decode(pages=-1), Webp())
    assert result.info["pages"] == getattr(Image.open(io.BytesIO(bytes(result.data))), "n_frames", 1) == 1


def test_info_tells_how_many_frames_were_left_out(bench: Any, quarters: Any):
    animation = bench.animation(frames(0, 80, 160), ".webp", [100, 50, 30])
    assert bench.run(animation, Png()).info["pages_left_out"] == 2
    assert bench.run(animation, Decode(page=1, pages=2), Raw()).info["pages_left_out"] == 1
    assert bench.run(animation, Decode(pages=-1), Webp()).info["durations_ms"] == [100, 50, 30]
    still = bench.run(bench.file(quarters, ".png"), Resize(20), Png()).info
    assert (still["source_pages"], still["pages_left_out"]) == (1, 0)
    sequence = apng(bench.file(np.full((16, 16, 3), 90, "u1"), ".png", keep="none"), 5)
    assert bench.run(sequence, Png()).info["pages_left_out"] == 4, "libvips reads the first picture of an APNG"


def premultiplied(avif: bytes) -> bytes:
    """Returns an AVIF that says that its colours are multiplied by its alpha."""
    reference = struct.pack(">I4sHHH", 14, b"prem", 1, 1, 2)
    made = bytearray(avif)
    iref, meta = avif.index(b"iref") - 4, avif.index(b"meta") - 4
    end = iref + struct.unpack_from(">I", avif, iref)[0]
    for at in (iref, meta):
        struct.pack_into(">I", made, at, struct.unpack_from(">I", avif, at)[0] + len(reference))
    media = avif.index(b"mdat")
    iloc = avif.index(b"iloc")
    for at in range(iloc + 8, iloc + struct.unpack_from(">I", avif, iloc - 4)[0] - 7):
        (offset,) = struct.unpack_from(">I", avif, at)
        if media <= offset <= len(avif):
            struct.pack_into(">I", made, at, offset + len(reference))
    return bytes(made[:end]) + reference + bytes(made[end:])


def test_a_premultiplied_avif_is_read_with_its_colours(bench: Any):
    array = np.zeros((16, 16, 4), "u1")
    array[...] = (100, 50, 25, 128)
    source = bench.file(array, ".avif", effort=0, lossless=True, keep="none")
    assert bench.show(source, Raw())[8, 8].tolist() == [100, 50, 25, 128]
    assert bench.show(premultiplied(source), Raw())[8, 8].tolist() == [199, 100, 50, 128]
