"""The light half of the plugin, which the server imports."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import pytest
import pyvips
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import offloop_vips
from offloop.operation import Header, Plugin
from offloop_vips import Raw, VipsPlugin
from offloop_vips.operations import Encoder

SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "avif": ".avif", "gif": ".gif", "tiff": ".tif"}


def probe(data: bytes) -> Header | None:
    return VipsPlugin().probe(memoryview(data))


def test_the_light_half_imports_no_image_library():
    code = "import sys, offloop_vips; offloop_vips.VipsPlugin().probe(memoryview(b'GIF89a'));print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "offloop_vips.headers.parser" in modules
    assert not {"pyvips", "numpy", "_cffi_backend", "anyio", "asyncio"} & set(modules)


def test_the_entry_point_gives_a_plugin_with_all_operations():
    (entry,) = (entry for entry in entry_points(group="offloop.processors") if entry.name == "vips")
    plugin = entry.load()
    assert issubclass(plugin, Plugin)
    public = {getattr(offloop_vips, name) for name in offloop_vips.__all__} - {plugin}
    assert set(plugin.operations) == public
    assert Encoder not in public


@pytest.mark.parametrize("name", SUFFIXES)
def test_the_header_of_every_format_is_read(bench: Any, smooth: Any, name: str):
    header = probe(bench.file(smooth(70, 40), SUFFIXES[name])[: VipsPlugin.probe_nbytes])
    assert header is not None
    assert (header.media_type, header.width, header.height) == (f"image/{name}", 70, 40)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_header_of_a_jpeg_has_orientation_and_stored_size(bench: Any, smooth: Any, orientation: int):
    header = probe(bench.file(smooth(70, 40), ".jpg", orientation))
    assert header is not None
    assert (header.media_type, header.width, header.height) == ("image/jpeg", 70, 40)
    assert (header.bands, header.orientation) == (3, orientation)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"<svg width='9' height='9'/>", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"BM" + bytes(50)]
)
def test_an_unreadable_source_has_no_header(data: bytes):
    assert probe(data) is None


@pytest.mark.parametrize("name", SUFFIXES)
def test_probe_does_not_raise_on_damaged_data(bench: Any, smooth: Any, name: str):
    source = bench.file(smooth(70, 40), SUFFIXES[name])

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.integers(12, 400), st.binary(max_size=40), st.integers(0, 600))
    def damage(at: int, put: bytes, keep: int) -> None:
        header = probe((source[:at] + put + source[at + len(put) :])[: max(keep, 12)])
        assert header is None or (header.width > 0 and header.height > 0)

    damage()


def hostile_avif() -> bytes:
    """Returns an AVIF whose item list declares 65,535 empty extents for each item."""

    def box(kind: bytes, payload: bytes) -> bytes:
        return (8 + len(payload)).to_bytes(4, "big") + kind + payload

    items = 30_000
    item = bytes(4) + b"\xff\xff"
    extents = box(b"iloc", bytes(4) + b"\0\0" + items.to_bytes(2, "big") + item * items)
    return box(b"ftyp", b"avif" + bytes(4) + b"avif") + box(b"meta", bytes(4) + extents)


HOSTILE = {
    "a JPEG with one long gap between markers": b"\xff\xd8\xff\xe0\0\2" + bytes(VipsPlugin.probe_nbytes),
    "a JPEG of empty segments": b"\xff\xd8" + b"\xff\xe0\0\2" * (VipsPlugin.probe_nbytes // 4),
    "an AVIF of empty boxes": b"\0\0\0\x10ftypavif\0\0\0\0" + b"\0\0\0\x08free" * (VipsPlugin.probe_nbytes // 8),
    "an AVIF of empty extents": hostile_avif(),
    "a TIFF of nothing but tags": b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" + b"\xff" * 8 + bytes(VipsPlugin.probe_nbytes),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_takes_little_time(name: str):
    started = time.thread_time()
    assert probe(HOSTILE[name][: VipsPlugin.probe_nbytes]) is None
    assert time.thread_time() - started < 0.5  # tens of milliseconds; minutes without the limits


def test_probe_opens_no_path_or_url_in_the_source(tmp_path: Any, bench: Any):
    path = tmp_path / "picture.png"
    path.write_bytes(bench.file(np.zeros((4, 4, 3), "u1"), ".png"))
    assert probe(str(path).encode()) is None
    assert probe(b"http://127.0.0.1:9/picture.png") is None


@pytest.mark.parametrize("name", SUFFIXES)
@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("orientation", [None, 6])
def test_the_header_tells_what_a_result_without_steps_will_be(
    bench: Any, smooth: Any, name: str, bands: int, orientation: int | None
):
    suffix = SUFFIXES[name]
    source = bench.file(smooth(70, 40, bands), suffix, None if suffix == ".gif" else orientation)
    header: Any = probe(source)
    height, width, shown_bands = bench.run(source, Raw()).shape
    assert (header.oriented_width, header.oriented_height) == (width, height)
    assert header.has_alpha == (shown_bands in (2, 4))
    assert header.has_profile is False
    assert header.to_dict()["estimated_peak_bytes"] == header.estimated_peak_bytes > 70 * 40


@pytest.mark.parametrize("name", [name for name in SUFFIXES if SUFFIXES[name] != ".gif"])
def test_the_header_tells_whether_there_is_a_profile(bench: Any, smooth: Any, name: str):
    image: Any = bench.image(smooth(70, 40)).copy()
    profile = pyvips.Operation.call("profile_load", "p3")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    header: Any = probe(image.write_to_buffer(SUFFIXES[name], keep="icc"))
    assert header.has_profile is True
