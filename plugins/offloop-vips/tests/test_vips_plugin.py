"""The half that the server imports."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import offloop_vips
from offloop.operation import Header, Plugin
from offloop_vips import VipsPlugin
from offloop_vips.operations import Encoder

SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "avif": ".avif", "gif": ".gif", "tiff": ".tif"}


def probe(data: bytes) -> Header | None:
    return VipsPlugin().probe(memoryview(data))


def test_importing_it_brings_in_no_image_library():
    code = "import sys, offloop_vips; offloop_vips.VipsPlugin().probe(memoryview(b'GIF89a'));print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "offloop_vips.headers.parser" in modules
    assert not {"pyvips", "numpy", "_cffi_backend", "anyio", "asyncio"} & set(modules)


def test_it_is_found_and_names_all_its_operations():
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
def test_a_jpeg_tells_its_orientation_and_its_size_as_stored(bench: Any, smooth: Any, orientation: int):
    header = probe(bench.file(smooth(70, 40), ".jpg", orientation))
    assert header is not None
    assert (header.media_type, header.width, header.height) == ("image/jpeg", 70, 40)
    assert (header.bands, header.orientation) == (3, orientation)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"<svg width='9' height='9'/>", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"BM" + bytes(50)]
)
def test_what_it_cannot_read_it_has_nothing_to_say_about(data: bytes):
    assert probe(data) is None


@pytest.mark.parametrize("name", SUFFIXES)
def test_no_damage_makes_it_raise(bench: Any, smooth: Any, name: str):
    source = bench.file(smooth(70, 40), SUFFIXES[name])

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.integers(12, 400), st.binary(max_size=40), st.integers(0, 600))
    def damage(at: int, put: bytes, keep: int) -> None:
        header = probe((source[:at] + put + source[at + len(put) :])[: max(keep, 12)])
        assert header is None or (header.width > 0 and header.height > 0)

    damage()


def hostile_avif() -> bytes:
    """An item list that claims 65,535 empty extents for each of its items."""

    def box(kind: bytes, payload: bytes) -> bytes:
        return (8 + len(payload)).to_bytes(4, "big") + kind + payload

    items = 30_000
    item = bytes(4) + b"\xff\xff"
    extents = box(b"iloc", bytes(4) + b"\0\0" + items.to_bytes(2, "big") + item * items)
    return box(b"ftyp", b"avif" + bytes(4) + b"avif") + box(b"meta", bytes(4) + extents)


HOSTILE = {
    "a JPEG that is one long gap between markers": b"\xff\xd8\xff\xe0\0\2" + bytes(VipsPlugin.probe_nbytes),
    "a JPEG of empty segments": b"\xff\xd8" + b"\xff\xe0\0\2" * (VipsPlugin.probe_nbytes // 4),
    "an AVIF of empty boxes": b"\0\0\0\x10ftypavif\0\0\0\0" + b"\0\0\0\x08free" * (VipsPlugin.probe_nbytes // 8),
    "an AVIF of empty extents": hostile_avif(),
    "a TIFF of nothing but tags": b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" + b"\xff" * 8 + bytes(VipsPlugin.probe_nbytes),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_made_to_keep_it_busy_does_not(name: str):
    started = time.process_time()
    assert probe(HOSTILE[name][: VipsPlugin.probe_nbytes]) is None
    assert time.process_time() - started < 0.5  # tens of milliseconds; what the limit is for would take minutes


def test_it_opens_no_path_that_a_source_spells(tmp_path: Any, bench: Any):
    path = tmp_path / "picture.png"
    path.write_bytes(bench.file(np.zeros((4, 4, 3), "u1"), ".png"))
    assert probe(str(path).encode()) is None
    assert probe(b"http://127.0.0.1:9/picture.png") is None
