"""Colour spaces that a file signals by code points: Display P3, BT.2020, PQ, HLG, in PNG and AVIF."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
import pyvips

from offloop.errors import TaskFailed
from offloop_vips import Avif, Decode, Png, Raw, VipsPlugin

from .avif_files import box, nclx, with_properties

where: Any = np.where
PATCHES = np.array(
    [[200, 100, 50], [60, 90, 180], [30, 30, 30], [128, 128, 128], [90, 160, 60], [10, 20, 5], [180, 170, 160], [150, 60, 120]]
)
TO_P3 = np.array([[0.8225, 0.1774, 0], [0.0332, 0.9669, 0], [0.0171, 0.0724, 0.9108]])
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def linear(samples: Any) -> Any:
    value: Any = samples / 255
    return where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def srgb(light: Any) -> Any:
    return where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


def pq(nits: Any) -> Any:
    power = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(nits: Any) -> Any:
    """Returns the signal that a display of 1000 cd/m2 shows with this luminance of each primary."""
    luminance = nits @ np.array([0.2627, 0.6780, 0.0593])
    scene = nits / 1000 * (luminance[:, None] / 1000) ** (1 / 1.2 - 1)
    low, high = np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return where(scene <= 1 / 12, low, high)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(signal: Any, *code_points: int, alpha: float | None = None) -> bytes:
    """Returns a PNG of 16 bits: a row of patches, each of 8 x 8 pixels."""
    samples = np.rint(np.clip(signal, 0, 1) * 65_535)
    if alpha is not None:
        samples = np.concatenate([samples, np.full((len(samples), 1), alpha * 65_535)], axis=1)
    row = b"\0" + samples.repeat(8, axis=0).astype(">u2").tobytes()
    header = struct.pack(">IIBBBBB", 8 * len(samples), 8, 16, 2 if alpha is None else 6, 0, 0, 0)
    colour = chunk(b"cICP", bytes([*code_points, 0, 1])) if code_points else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + colour + chunk(b"IDAT", zlib.compress(row * 8)) + chunk(b"IEND", b"")


def avif(signal: Any, primaries: int, transfer: int) -> bytes:
    """Returns an AVIF whose samples are the signal, and that signals another colour space than that of its encoder."""
    image: Any = pyvips.Image.new_from_buffer(png(signal), "")
    made = image.heifsave_buffer(compression="av1", effort=0, bitdepth=12, Q=99, subsample_mode="off", keep="none")
    return with_properties(made, nclx(primaries, transfer, 6))


def patches(bench: Any, data: bytes, *operations: Any) -> Any:
    return bench.show(data, *operations, Raw())[4, 4::8]


@pytest.mark.parametrize("make", [png, avif])
@pytest.mark.parametrize(
    ("code_points", "signal"),
    [
        ((12, 13), srgb(linear(PATCHES) @ TO_P3.T)),
        ((9, 13), srgb(linear(PATCHES) @ TO_2020.T)),
        ((9, 16), pq(np.maximum(linear(PATCHES) @ TO_2020.T, 0) * 203)),
        ((9, 18), hlg(np.maximum(linear(PATCHES) @ TO_2020.T, 0) * 203)),
        ((1, 4), linear(PATCHES) ** (1 / 2.2)),
        ((1, 8), linear(PATCHES)),
        ((1, 13), PATCHES / 255),
        ((2, 2), PATCHES / 255),
    ],
    ids=str,
)
def test_a_signalled_colour_space_is_converted(bench: Any, make: Any, code_points: tuple[int, int], signal: Any):
    shown = patches(bench, make(signal, *code_points))
    assert np.abs(shown - PATCHES).max() <= (2 if make is png else 7), "an AVIF is lossy"


def test_info_says_what_was_done(bench: Any, quarters: Any):
    signal = srgb(linear(PATCHES) @ TO_P3.T)
    assert bench.run(png(signal, 12, 13), Png()).info["source_colours"] == "CICP 12/13"
    assert bench.run(png(signal, 9, 16), Png()).info["source_colours"] == "CICP 9/16, tone-mapped"
    assert bench.run(png(signal, 77, 13), Png()).info["source_colours"] == "CICP 77/13, unknown, read as sRGB"
    assert bench.run(png(signal), Png()).info["source_colours"] == "sRGB"
    profiled = bench.image(quarters).icc_transform("p3", input_profile="srgb").pngsave_buffer()
    assert bench.run(profiled, Png()).info["source_colours"] == "ICC profile"


def test_bright_light_keeps_its_order_and_its_hue(bench: Any):
    nits = np.array([100, 162, 203, 400, 1000, 4000, 10_000.0])
    grey = patches(bench, png(pq(np.repeat(nits[:, None], 3, axis=1)), 9, 16))
    assert grey[0] == pytest.approx([186] * 3, abs=1)  # of 100/203, as it is
    assert (np.diff(grey[:5, 0]) > 0).all()
    assert grey[-1, 0] == 255
    assert 238 < grey[2, 0] < 250, "diffuse white"
    orange = patches(bench, png(pq(np.array([[2000, 1000, 500.0], [200, 100, 50]]) @ TO_2020.T), 9, 16))
    bright, dark = linear(orange[0]), linear(orange[1])
    assert bright / bright[0] == pytest.approx(dark / dark[0], abs=0.03)


def test_a_high_dynamic_range_is_refused_on_request(bench: Any):
    for transfer in (16, 18):
        with pytest.raises(TaskFailed, match=f"CICP 9/{transfer}") as failure:
            bench.run(png(PATCHES / 255, 9, transfer), Decode(hdr="refuse"), Raw())
        assert failure.value.code == "unsupported_format"
    bench.run(png(PATCHES / 255, 12, 13), Decode(hdr="refuse"), Raw())


def test_alpha_and_precision_are_kept(bench: Any):
    shown = bench.show(png(srgb(linear(PATCHES) @ TO_P3.T), 12, 13, alpha=0.3), Raw("uint16"))[4, 4::8]
    assert np.abs(shown[:, :3] - PATCHES * 257).max() < 200
    assert (shown[:, 3] == round(0.3 * 65_535)).all()


def test_a_profile_counts_in_an_avif_and_code_points_in_a_png(bench: Any):
    image: Any = pyvips.Image.new_from_buffer(png(PATCHES / 255), "").cast("uchar", shift=True).copy(interpretation="srgb")
    image = image.icc_transform("p3", input_profile="srgb")
    profile: Any = image.get("icc-profile-data")
    made = image.heifsave_buffer(compression="av1", effort=0, Q=99, subsample_mode="off", keep="none")
    made = with_properties(made, box(b"colr", b"prof" + profile), nclx(9, 16, 6))
    assert np.abs(patches(bench, made) - PATCHES).max() <= 7
    deep = png(srgb(linear(PATCHES) @ TO_P3.T), 12, 13)
    at = deep.index(b"cICP") - 4
    both = deep[:at] + chunk(b"iCCP", b"x\0\0" + zlib.compress(profile)) + deep[at:]
    assert bench.run(both, Png()).info["source_colours"] == "CICP 12/13"
    assert np.abs(patches(bench, both) - PATCHES).max() <= 2


def test_the_result_signals_its_own_colours(bench: Any):
    source = png(pq(np.maximum(linear(PATCHES) @ TO_2020.T, 0) * 203), 9, 16)
    for encoder in (Avif(bitdepth=10, effort=0), Avif(effort=0), Png(bitdepth=16)):
        made = bytes(bench.run(source, encoder).data)
        assert b"cICP" not in made
        assert b"prof" not in made
        at = made.find(b"nclx")
        assert at < 0 or struct.unpack_from(">HH", made, at + 4) == (1, 13)
        assert VipsPlugin().probe(memoryview(made)) is not None
        assert np.abs(patches(bench, made) - PATCHES).max() <= 12
