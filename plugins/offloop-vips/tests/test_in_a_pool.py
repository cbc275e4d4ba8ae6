"""The plugin in a real pool: sources, encoders, outputs, and hostile files."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pyvips

from offloop import Attachment, InvalidTask, Pool, TaskFailed, TaskTimeout
from offloop.processor import Raster
from offloop.testing import run_inline
from offloop_vips import Avif, Composite, Decode, Grayscale, Jpeg, Png, Raw, Resize, Sharpen, Text, Webp
from offloop_vips.processor import VipsProcessor

pytestmark = pytest.mark.anyio


def chunk(kind: bytes, data: bytes) -> bytes:
    """Returns one chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


HUGE = (  # a PNG whose header declares 30,000 x 30,000 pixels
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(bytes(1000)))
    + chunk(b"IEND", b"")
)


@pytest.fixture
async def pool(anyio_backend: object) -> AsyncIterator[Pool]:
    async with Pool(2, plugins=["vips"], memory_limit="512MiB") as pool:
        yield pool


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A JPEG of 640 x 480 pixels with a gradient."""
    gradient = pyvips.Image.xyz(640, 480)
    picture = gradient[0].bandjoin([gradient[1], gradient[0] + gradient[1]]).linear([0.3], [20]).cast("uchar")
    return picture.copy(interpretation="srgb").jpegsave_buffer(Q=90)


async def test_a_picture_is_resized_sharpened_and_encoded(pool: Pool, photo: bytes) -> None:
    result = await pool.run(photo, [Resize(72, 58, fit="cover"), Sharpen(), Webp(quality=80)], timeout=10)
    assert (result.info.media_type, result.info.width, result.info.height, result.info.bands) == ("image/webp", 72, 58, 3)
    decoded = pyvips.Image.new_from_buffer(bytes(result), "")
    assert (decoded.width, decoded.height) == (72, 58)


@pytest.mark.parametrize("encoder", [Jpeg(), Png(), Webp(), Avif()], ids=lambda encoder: type(encoder).__name__)
async def test_every_encoder_writes_into_shared_memory_or_a_file(
    pool: Pool, photo: bytes, encoder: Jpeg | Png | Webp | Avif, tmp_path: Path
) -> None:
    result = await pool.run(photo, [Resize(64), encoder])
    written = await pool.run(photo, [Resize(64), encoder], to=tmp_path / "out")
    assert bytes(result) == (tmp_path / "out").read_bytes()
    assert pyvips.Image.new_from_buffer(bytes(result), "").width == written.info.width == 64


async def test_an_array_result_can_be_a_source(pool: Pool, photo: bytes) -> None:
    result = await pool.run(photo, [Resize(40, 30, fit="fill"), Raw()])
    array = result.array()
    assert (array.shape, array.dtype, array.flags.writeable) == ((30, 40, 3), np.uint8, False)
    grey = (await pool.run(array, [Grayscale(), Raw()])).array()
    again = (await pool.run(result, [Grayscale(), Raw()])).array()
    assert grey.shape == (30, 40, 1)
    assert np.array_equal(grey, again)


async def test_a_buffer_a_path_and_bytes_give_the_same_result(pool: Pool, photo: bytes, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo)
    buffer = pool.buffer(len(photo))
    buffer.view[:] = photo
    results = [bytes(await pool.run(source, [Resize(50), Png()])) for source in (photo, path, buffer)]
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (b"", "corrupt_source"),
        (b"This is a text.\n", "unsupported_format"),
        (HUGE, "too_many_pixels"),
    ],
    ids=["empty", "text", "30,000 x 30,000"],
)
async def test_bad_files_fail_with_a_code(pool: Pool, source: bytes, code: str) -> None:
    with pytest.raises(TaskFailed) as caught:
        await pool.run(source, [Resize(10)])
    assert caught.value.code == code


async def test_a_declared_size_is_refused_before_a_long_file_is_copied(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(HUGE)
    os.truncate(path, 2**40)  # more than the pool could ever hold
    with pytest.raises(TaskFailed) as caught:
        await pool.run(path, [Resize(10)], timeout=5)
    assert caught.value.code == "too_many_pixels"
    with pytest.raises(TaskFailed) as caught:
        await pool.run(path, [Decode(max_pixels=10**9, max_bytes=1000), Resize(10)], timeout=5)
    assert caught.value.code == "source_too_large"


async def test_a_second_picture_is_a_file_or_an_array(pool: Pool, photo: bytes, tmp_path: Path) -> None:
    path, white = tmp_path / "mark.png", np.full((10, 10, 3), 255, "u1")
    path.write_bytes(bytes(await pool.run(white, [Png()])))
    marked = [
        (await pool.run(photo, [Resize(64), Composite(Attachment(mark), gravity="northwest"), Raw()])).array()
        for mark in (path, white)
    ]
    assert np.array_equal(marked[0], marked[1])
    assert (marked[0][:10, :10] == 255).all()
    assert (marked[0][20:, 20:, :2] < 255).all()


async def test_text_has_the_fonts_of_the_system_in_the_sandbox(pool: Pool) -> None:
    black = np.zeros((60, 300, 3), "u1")
    for font in ("sans", "serif bold"):
        steps = [Text("Hello", font=font, size=40), Raw()]
        here = run_inline(VipsProcessor(), Raster(black.tobytes(), black.shape, "|u1"), steps)
        assert bytes(await pool.run(black, steps)) == bytes(here.data)


async def test_a_truncated_picture_is_corrupt(pool: Pool, photo: bytes) -> None:
    with pytest.raises(TaskFailed) as caught:
        await pool.run(photo[: len(photo) // 2], [Resize(10)])
    assert caught.value.code == "corrupt_source"


async def test_an_invalid_pipeline_is_refused_before_it_is_submitted(pool: Pool, photo: bytes) -> None:
    with pytest.raises(InvalidTask, match="ends a pipeline"):
        await pool.run(photo, [Webp(), Resize(10)])
    with pytest.raises(InvalidTask, match="can only be the first step"):
        await pool.run(photo, [Resize(10), Decode()])
    with pytest.raises(InvalidTask, match=r"Resize\(width=-1\)"):
        await pool.run(photo, [Resize(-1)])
    assert pool.statistics().submitted == 0


async def test_an_avif_encode_that_cannot_be_interrupted_is_killed_at_the_timeout(pool: Pool) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (1500, 2000, 3), dtype=np.uint8)
    with pytest.raises(TaskTimeout):
        await pool.run(noise, [Avif(effort=9)], timeout=0.3)
    assert (await pool.run(noise, [Resize(10), Png()])).info.width == 10


async def test_a_probe_reads_the_header_in_the_server(pool: Pool, photo: bytes) -> None:
    header = await pool.probe(photo)
    assert (header.media_type, header.width, header.height) == ("image/jpeg", 640, 480)


def test_the_server_never_imports_an_image_library() -> None:
    script = """
import sys, anyio
from pathlib import Path
from offloop import Pool
from offloop_vips import Resize, Webp

async def main():
    async with Pool(1) as pool:
        await pool.probe(open(sys.argv[1], "rb").read())
        print((await pool.run(Path(sys.argv[1]), [Resize(10), Webp()])).info.width)

anyio.run(main)
print(sorted(name for name in sys.modules if name.split(".")[0] in ("pyvips", "numpy", "PIL", "_libvips", "cffi")))
"""
    photos = Path(__file__).parents[3] / "docs" / "photos"
    done = subprocess.run(
        [sys.executable, "-c", script, str(photos / "rocket.jpg")], capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stdout.splitlines() == ["10", "[]"]
