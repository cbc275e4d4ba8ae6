"""ICC profiles: conversion to Display P3, the source's profile kept, and what is attached to a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pyvips
from msgspec.structs import replace

from offloop.errors import InvalidTask
from offloop.operation import Attachment
from offloop.testing import InlineTask, run_inline
from offloop_vips import (
    Auto,
    Avif,
    BlurHash,
    Composite,
    Decode,
    Extend,
    ExtractChannel,
    Flatten,
    Gif,
    Grayscale,
    IccProfile,
    JoinChannel,
    Jpeg,
    Modulate,
    Png,
    Raw,
    Resize,
    RoundCorners,
    Stats,
    Text,
    Tiff,
    Tint,
    Trim,
    Watermark,
    Webp,
)
from offloop_vips.processor import VipsProcessor

ENCODERS = [
    Jpeg(quality=100, chroma_subsampling="4:4:4"),
    Png(),
    Webp(lossless=True),
    Avif(lossless=True),
    Tiff(compression="lzw"),
]
RED, GREEN = (255, 0, 0), (0, 255, 0)
SRGB = [215, 93, 32]  # (200, 100, 50) of Display P3
KEPT = Decode(colours="keep")


def profile(name: str) -> bytes:
    return pyvips.Operation.call("profile_load", name)


def wide(suffix: str = ".png", colour: tuple[int, ...] = GREEN, **options: Any) -> bytes:
    """Returns a file in Display P3, of a colour that sRGB does not have."""
    image: Any = pyvips.Image.new_from_array(np.full((32, 48, len(colour)), colour, "u1")).copy(interpretation="srgb").copy()
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile("p3"))
    return image.write_to_buffer(suffix, keep="icc", **options)


def attached(data: Any) -> bytes | None:
    image: Any = pyvips.Image.new_from_buffer(bytes(data), "")
    return bytes(image.get("icc-profile-data")) if image.get_typeof("icc-profile-data") else None


def centre(bench: Any, result: Any) -> list[int]:
    shown = bench.read(result)
    return shown[shown.shape[0] // 2, shown.shape[1] // 2].tolist()


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.format)
def test_a_wide_colour_survives_in_a_file_with_its_profile(bench: Any, encoder: Any):
    for steps in ([IccProfile("p3")], [Resize(20), IccProfile("p3")]):
        result = bench.run(wide(), *steps, encoder)
        assert np.abs(np.array(centre(bench, result)[:3]) - GREEN).max() <= 2
        assert attached(result.data) == profile("p3")
        assert result.info["colour_space"] == "Display P3"


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.format)
def test_without_a_step_the_result_is_srgb_without_a_profile(bench: Any, encoder: Any):
    result = bench.run(wide(colour=(100, 120, 140)), encoder)
    assert attached(result.data) is None
    assert result.info["colour_space"] == "sRGB"
    assert bench.run(wide(), encoder).info["source_colours"] == "ICC profile"


def test_the_kept_profile_is_that_of_the_source_and_colours_are_untouched(bench: Any):
    assert bench.run(wide(), KEPT, Raw()).info["colour_space"] == "the profile of the source"
    for encoder in ENCODERS:
        result = bench.run(wide(colour=(11, 200, 33)), KEPT, Resize(20), encoder)
        assert np.abs(np.array(centre(bench, result)[:3]) - (11, 200, 33)).max() <= 2
        assert attached(result.data) == profile("p3")


def test_a_colour_of_srgb_is_converted_to_p3_and_back(bench: Any):
    array = np.random.default_rng(3).integers(0, 256, (40, 60, 3), "u1")
    p3 = bench.run(bench.file(array, ".png"), IccProfile("p3"), Png())
    assert np.abs(bench.read(p3) - array).max() > 10
    back = np.abs(bench.show(bytes(p3.data), Raw()) - array)
    assert back.mean() < 0.5
    assert back[array.min(axis=2) > 30].max() <= 3, "both conversions round to 8 bits, which counts for more in the dark"


def test_a_profile_is_attached_or_not_as_asked(bench: Any):
    source = wide(colour=(100, 120, 140))
    assert attached(bench.run(source, IccProfile("srgb"), Jpeg()).data) == profile("srgb")
    assert attached(bench.run(source, IccProfile("p3", attach=False), Jpeg()).data) is None
    assert attached(bench.run(source, IccProfile("p3"), IccProfile("srgb", attach=False), Jpeg()).data) is None
    assert attached(bench.run(source, Decode(colours="p3"), Jpeg()).data) == profile("p3")
    assert attached(bench.run(source, IccProfile("p3"), Jpeg(max_bytes=10_000)).data) == profile("p3")
    assert attached(bench.run(source, IccProfile("p3"), Auto("image/webp")).data) == profile("p3")


def test_decode_decides_about_the_gamut(bench: Any):
    clipped = bench.run(wide(), Decode(colours="srgb"), IccProfile("p3"), Png())
    assert centre(bench, clipped) == pytest.approx([117, 251, 76], abs=2)  # the green of sRGB
    assert centre(bench, bench.run(wide(), Decode(colours="p3"), Png())) == pytest.approx(GREEN, abs=1)


def test_colours_of_steps_are_those_of_srgb(bench: Any):
    red = [234, 51, 34]  # the red of sRGB in Display P3
    p3 = IccProfile("p3")
    for step in (
        Extend(left=48, right=48, top=32, bottom=32, background="red"),
        Resize(48, 400, fit="contain", background="red"),
    ):
        assert bench.show(wide(), p3, step, Raw())[0, 0].tolist() == pytest.approx(red, abs=1)
    assert bench.show(wide(colour=(0, 255, 0, 0)), p3, Flatten("red"), Raw())[5, 5].tolist() == pytest.approx(red, abs=1)
    assert bench.show(wide(colour=(0, 255, 0, 0)), p3, Jpeg(background="red", quality=100))[5, 5].tolist() == pytest.approx(
        red, abs=2
    )
    text = bench.show(wide(colour=(0, 0, 0)), p3, Text("█", size=60, color="red"), Raw()).reshape(-1, 3)
    assert text[text[:, 0].argmax()].tolist() == pytest.approx(red, abs=1)


@pytest.mark.parametrize(
    "step",
    [Composite(Attachment.at(1)), Watermark(Attachment.at(1), opacity=1, scale=None, gravity="centre")],
    ids=["over", "mark"],
)
def test_a_second_picture_is_converted_to_the_colours_of_the_first(bench: Any, step: Any):
    red = bench.file(np.full((10, 10, 3), RED, "u1"), ".png")
    for decode, expected in ((Decode(colours="p3"), [234, 51, 34]), (Decode(), [255, 0, 0]), (KEPT, [255, 0, 0])):
        result = bench.run(wide(), decode, step, Png(), attachments=[red])
        assert centre(bench, result) == pytest.approx(expected, abs=1)
        assert (attached(result.data) is None) == (decode.colours != "p3")
    green = bench.run(red, Decode(colours="p3"), step, Png(), attachments=[wide()])
    assert centre(bench, green) == pytest.approx(GREEN, abs=1), "not clipped to sRGB"


def test_a_kept_picture_becomes_srgb_where_other_colours_come_in(bench: Any):
    source = wide(colour=(200, 100, 50))
    assert centre(bench, bench.run(source, Raw())) == pytest.approx(SRGB, abs=2)
    for step in (Extend(left=2, background="red"), Text("x", size=4, gravity="northwest"), Trim(background="blue")):
        result = bench.run(source, KEPT, step, Png())
        assert centre(bench, result) == pytest.approx(SRGB, abs=2)
        assert attached(result.data) is None
    for step in (Extend(left=2, background="white"), RoundCorners(4), Modulate(brightness=1.0001)):
        assert attached(bench.run(source, KEPT, step, Png()).data) == profile("p3")


def test_a_grey_result_has_no_profile_of_colours(bench: Any):
    for decode in (Decode(colours="p3"), KEPT):
        for step in (Grayscale(), ExtractChannel("green")):
            result = bench.run(wide(), decode, step, Png())
            assert attached(result.data) is None
        assert attached(bench.run(wide(), decode, Tint("red"), Png()).data) is None
    grey = bench.file(np.full((9, 9, 1), 77, "u1"), ".png")
    result = bench.run(grey, IccProfile("p3"), Png())
    assert (centre(bench, result), attached(result.data)) == ([77], None)
    mask = bench.file(np.full((32, 48, 1), 128, "u1"), ".png")
    assert attached(bench.run(wide(), IccProfile("p3"), JoinChannel(Attachment.at(1)), Png(), attachments=[mask]).data)


def test_a_gif_and_an_answer_are_srgb(bench: Any):
    for decode in (Decode(colours="p3"), KEPT):
        shown = bench.run(wide(colour=(200, 100, 50)), decode, Gif())
        assert centre(bench, shown)[:3] == pytest.approx(SRGB, abs=3)
        assert shown.info["colour_space"] == "sRGB"
        for answer in (Stats(), BlurHash()):
            of_wide, of_srgb = (bench.run(wide(colour=(200, 100, 50)), *first, answer).info for first in ([decode], []))
            assert of_wide == {**of_srgb, "source_colours": of_wide.get("source_colours")} or of_wide == of_srgb


def test_alpha_and_depth_are_kept(bench: Any):
    shown = bench.run(wide(colour=(0, 255, 0, 99)), Resize(20), IccProfile("p3"), Png())
    assert centre(bench, shown) == pytest.approx([0, 255, 0, 99], abs=1)
    deep = bench.image(np.full((8, 8, 3), 90, "u1")) * 257
    deep = deep.cast("ushort").copy(interpretation="rgb16").copy()
    deep.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile("p3"))
    kept = bench.run(deep.pngsave_buffer(keep="icc"), KEPT, Png(bitdepth=16))
    assert centre(bench, kept) == [90 * 257] * 3
    assert attached(kept.data) == profile("p3")


def test_a_grey_or_broken_profile_is_not_kept(bench: Any):
    image: Any = bench.image(np.full((8, 8, 3), 90, "u1")).copy()
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", b"nonsense" * 40)
    result = bench.run(image.jpegsave_buffer(keep="icc", Q=100), KEPT, Png())
    assert (centre(bench, result), attached(result.data)) == ([90, 90, 90], None)


def test_the_plugin_of_a_later_stage_gets_srgb(bench: Any):
    processor, task = VipsProcessor(), InlineTask()
    processor.open(None)  # type: ignore[arg-type]
    task.is_last_stage = False
    for decode in (Decode(colours="p3"), KEPT):
        made = processor.run(bench.payload(wide(colour=(200, 100, 50))), [decode, Resize(20)], task)
        assert centre(bench, made) == pytest.approx(SRGB, abs=2)


def test_invalid_parameters_are_refused():
    for make in (lambda: IccProfile("cmyk"), lambda: IccProfile("/etc/passwd"), lambda: Decode(colours="lab")):  # type: ignore[arg-type]
        with pytest.raises(InvalidTask):
            make()


@pytest.mark.parametrize("decode", [Decode(colours="p3"), KEPT], ids=["converted", "kept"])
def test_samples_have_their_profile_with_them_up_to_the_file_of_a_later_stage(bench: Any, decode: Decode):
    samples = bench.run(wide(), decode, Resize(20), Raw())
    assert samples.profile == profile("p3")
    made = run_inline(VipsProcessor(), samples, [Resize(10), Png()])
    assert (centre(bench, made), attached(made.data)) == (pytest.approx(GREEN, abs=1), profile("p3"))
    flat = run_inline(VipsProcessor(), samples, [Gif()])
    assert centre(bench, flat)[:3] == centre(bench, bench.run(wide(), Raw())), "converted to sRGB"


def test_samples_of_srgb_or_grey_have_no_profile_and_a_profile_that_is_none_is_not_used(bench: Any):
    for steps in ([], [KEPT, Grayscale()], [Decode(colours="p3"), IccProfile("srgb")]):
        assert bench.run(wide(), *steps, Raw()).profile == b""
    samples = replace(bench.run(wide(), KEPT, Raw()), profile=b"nonsense" * 40)
    made = run_inline(VipsProcessor(), samples, [Png()])
    assert (centre(bench, made), attached(made.data)) == (list(GREEN), None)
