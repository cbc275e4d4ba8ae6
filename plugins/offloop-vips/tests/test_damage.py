"""Damaged and truncated sources: refused at every size of the result, with the code that names the cause."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offloop.errors import TaskFailed
from offloop.operation import Attachment
from offloop_vips import Blur, Composite, Decode, Jpeg, Png, Raw, Resize, Rotate

STEPS: dict[str, list[Any]] = {
    "whole": [],
    "three quarters": [Resize(384)],
    "half": [Resize(256)],
    "quarter": [Resize(120)],
    "eighth": [Resize(50, fast=True)],
    "top": [Resize(512, 60, position="top")],
    "enlarged top": [Resize(2000, 60, position="top")],
    "small top": [Resize(100, 20, position="top")],
    "nearest": [Resize(10, kernel="nearest")],
    "turned": [Rotate(90)],
    "blurred and reduced": [Blur(20), Resize(100)],
}
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": (".jpg", {}),
    "progressive jpeg": (".jpg", {"interlace": True}),
    "png": (".png", {}),
    "interlaced png": (".png", {"interlace": True}),
    "tiff": (".tif", {}),
    "deflate tiff": (".tif", {"compression": "deflate"}),
    "lzw tiff": (".tif", {"compression": "lzw"}),
    "webp": (".webp", {}),
    "gif": (".gif", {}),
    "avif": (".avif", {"effort": 0}),
}


@pytest.fixture(scope="module")
def noise() -> Any:
    coarse = np.random.default_rng(0).integers(0, 255, (48, 64, 3), "u1")
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def scan(jpeg: bytes) -> int:
    """Returns the offset of the entropy-coded data of a JPEG with one scan."""
    at = jpeg.index(b"\xff\xda")
    return at + 2 + struct.unpack_from(">H", jpeg, at + 2)[0]


def code(bench: Any, data: bytes, *operations: Any) -> str | None:
    try:
        bench.run(data, *operations)
    except TaskFailed as failure:
        return failure.code
    return None


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_a_jpeg_with_zeros_in_its_scan_is_refused_at_every_size(bench: Any, noise: Any, steps: list[Any]):
    data = bench.file(noise, ".jpg")
    middle = (scan(data) + len(data)) // 2
    damaged = data[:middle] + bytes(256) + data[middle + 256 :]
    assert code(bench, damaged, *steps, Raw()) == code(bench, damaged, *steps, Jpeg()) == "corrupt_source"
    assert code(bench, data, *steps, Raw()) is None


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_a_jpeg_without_its_last_rows_is_refused_at_every_size(bench: Any, noise: Any, steps: list[Any]):
    data = bench.file(noise, ".jpg")
    assert code(bench, data[: len(data) * 97 // 100] + b"\xff\xd9", *steps, Jpeg()) == "corrupt_source"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("steps", [[Resize(20)], [Resize(512, 10, position="top")], [Blur()]], ids=["small", "top", "blurred"])
def test_a_file_cut_in_the_middle_is_a_corrupt_source(bench: Any, noise: Any, name: str, steps: list[Any]):
    suffix, options = FILES[name]
    data = bench.file(noise, suffix, **options)
    for encoder in (Jpeg(), Png(), Raw()):
        assert code(bench, data[: len(data) // 2], *steps, encoder) == "corrupt_source"
    assert code(bench, data, *steps, Jpeg()) is None


@pytest.mark.parametrize("name", ["png", "interlaced png", "deflate tiff"])
def test_a_changed_bit_is_noticed_where_the_format_has_checksums(bench: Any, noise: Any, name: str):
    suffix, options = FILES[name]
    data = bytearray(bench.file(noise, suffix, **options))
    data[len(data) // 2] ^= 4
    for steps in ([], [Resize(20)], [Resize(512, 10, position="top")]):
        assert code(bench, bytes(data), *steps, Raw()) == "corrupt_source"


def test_damage_passes_on_request(bench: Any, noise: Any):
    data = bench.file(noise, ".jpg")
    middle = (scan(data) + len(data)) // 2
    zeros, cut = data[:middle] + bytes(256) + data[middle + 256 :], data[:middle]
    assert code(bench, zeros, Decode(fail_on="none"), Resize(50), Raw()) is None
    assert code(bench, zeros, Decode(fail_on="truncated"), Resize(50), Raw()) is None
    assert code(bench, cut, Decode(fail_on="none"), Resize(50), Raw()) is None
    assert code(bench, cut, Decode(fail_on="truncated"), Resize(512, 10, position="top"), Raw()) == "corrupt_source"


def test_a_damaged_source_leaves_no_message_for_the_next_task(bench: Any, noise: Any):
    data = bench.file(noise, ".jpg")
    middle = (scan(data) + len(data)) // 2
    damaged = data[:middle] + bytes(256) + data[middle + 256 :]
    for _ in range(2):
        assert code(bench, damaged, Decode(fail_on="none"), Resize(50), Raw()) is None
        assert code(bench, data, Resize(50), Raw()) is None


def test_an_encoder_that_fails_is_no_corrupt_source(bench: Any, noise: Any):
    with pytest.raises(TaskFailed, match="do not fit") as failure:
        bench.run(bench.file(noise, ".png"), Resize(70_000, 2, fit="fill"), Jpeg())
    assert failure.value.code == "processing_failed"


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_a_jpeg_with_data_that_its_decoder_leaves_over_is_refused(bench: Any, noise: Any, steps: list[Any]):
    data = bench.file(noise, ".jpg", keep="none")
    middle = (scan(data) + len(data)) // 2
    twice = data[:middle] + data[middle - 500 :]
    flipped = [data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :] for at in range(middle, middle + 20)]
    assert code(bench, twice, *steps, Raw()) == "corrupt_source"
    assert "corrupt_source" in [code(bench, one, *steps, Raw()) for one in flipped]
    assert code(bench, data, *steps, Raw()) is None


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 16), (17, 33), (333, 222), (800, 13)])
@pytest.mark.parametrize(
    "options", [{}, {"Q": 100}, {"subsample_mode": "off"}, {"optimize_coding": True}, {"restart_interval": 1}]
)
def test_every_sound_jpeg_is_accepted(bench: Any, smooth: Any, size: tuple[int, int], options: dict[str, Any]):
    data = bench.file(smooth(*size), ".jpg", **options)
    for steps in ([], [Resize(5)], [Resize(3, fast=True)], [Resize(4, kernel="nearest")], [Resize(3, 1, position="top")]):
        assert code(bench, data, *steps, Raw()) is None


@pytest.mark.parametrize("height", [384, 385, 387, 391, 399, 513])
@pytest.mark.parametrize("subsample_mode", ["on", "off"])
def test_a_sound_jpeg_of_which_libvips_drops_the_last_row_is_accepted(bench: Any, noise: Any, height: int, subsample_mode: str):
    data = bench.file(np.vstack([noise, noise])[:height], ".jpg", subsample_mode=subsample_mode)
    for steps in ([Resize(4)], [Resize(100)], [Resize(160)], [Resize(60, 1, position="top")]):
        assert code(bench, data, *steps, Raw()) is None


def test_more_than_a_dropped_row_of_blocks_is_damage(bench: Any):
    data = bench.file(np.random.default_rng(0).integers(0, 255, (385, 512, 3), "u1"), ".jpg", keep="none")
    middle = (scan(data) + len(data)) // 2
    twice = data[:middle] + data[middle - len(data) // 5 :]
    for steps in ([Resize(4)], [Resize(100)], [Resize(160)]):
        assert code(bench, twice, *steps, Raw()) == "corrupt_source"
        assert code(bench, data, *steps, Raw()) is None


@pytest.mark.parametrize("padding", [bytes(300), b"\xff" * 300, b"\1" * 15], ids=["zeros", "fill bytes", "a few"])
def test_padding_and_what_follows_the_picture_are_no_damage(bench: Any, noise: Any, padding: bytes):
    data = bench.file(noise, ".jpg", keep="none")
    for rest in (b"", b"\xff\xd9" * 50, data):
        assert code(bench, data[:-2] + padding + b"\xff\xd9" + rest, Raw()) is None
    assert code(bench, data[:-2] + b"\1" * 40 + b"\xff\xd9", Raw()) == "corrupt_source"
    assert code(bench, data[:-2] + b"\1" * 40 + b"\xff\xd9", Decode(fail_on="error"), Raw()) is None


def test_an_attachment_with_data_that_is_left_over_is_refused(bench: Any, noise: Any):
    data = bench.file(noise, ".jpg", keep="none")
    damaged = data[:-2] + b"\1" * 40 + b"\xff\xd9"
    with pytest.raises(TaskFailed, match=r"attachment 1.*left over"):
        bench.run(data, Composite(Attachment.at(1)), Raw(), attachments=[damaged])
    assert bench.run(data, Composite(Attachment.at(1)), Raw(), attachments=[data]).shape == (384, 512, 3)


RUN_ALL = """
import logging
import sys
from pathlib import Path
from offloop.errors import TaskFailed
from offloop.processor import Encoded
from offloop.testing import run_inline
from offloop_vips import Jpeg, Resize
from offloop_vips.processor import VipsProcessor
logging.basicConfig(level=logging.INFO)
processor = VipsProcessor()
processor.open(None)
for path in sys.argv[1:]:
    try:
        run_inline(processor, Encoded(memoryview(Path(path).read_bytes())), [Resize(256), Jpeg()])
    except TaskFailed as failure:
        print(failure.code)
"""


def test_a_worker_writes_no_lines_about_damaged_files(bench: Any, noise: Any, tmp_path: Path):
    for suffix in (".jpg", ".png", ".tif"):
        data = bench.file(noise, suffix)
        (tmp_path / f"cut{suffix}").write_bytes(data[: len(data) // 2])
    paths = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run([sys.executable, "-c", RUN_ALL, *paths], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["corrupt_source"] * 3
    assert done.stderr == ""
