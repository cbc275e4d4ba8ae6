"""Tiles: a pyramid of files, as an archive or as outputs of a stream."""

from __future__ import annotations

import io
import re
from itertools import pairwise
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import pyvips

from offloop import Pool
from offloop.errors import InvalidTask, TaskFailed
from offloop.testing import InlineTask
from offloop_vips import Decode, Gif, IccProfile, Png, Resize, Tiles
from offloop_vips.processor import VipsProcessor

WIDTH, HEIGHT, SIZE = 300, 200, 128
LAYOUTS = {
    "dz": r"tiles\.dzi|tiles_files/\d+/\d+_\d+\.png",
    "google": r"tiles/(\d+/\d+/\d+|blank)\.png",
    "zoomify": r"tiles/(ImageProperties\.xml|TileGroup\d+/\d+-\d+-\d+\.png)",
    "iiif": r"tiles/(info\.json|(full|\d+,\d+,\d+,\d+)/\d+,/0/default\.png)",
    "iiif3": r"tiles/(info\.json|(full|\d+,\d+,\d+,\d+)/\d+,\d+/0/default\.png)",
}


@pytest.fixture
def source(bench: Any) -> bytes:
    return bench.file(np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), "u1"), ".png")


class OneResult(InlineTask):
    """A task whose caller receives one result, as that of `Pool.run`."""

    def emit(self, payload: Any, name: str | None = None) -> bool:
        return False


def archive(bench: Any, source: bytes, *operations: Any) -> tuple[Any, ZipFile]:
    processor = VipsProcessor()
    processor.open(None)  # type: ignore[arg-type]
    result: Any = processor.run(bench.payload(source), operations, OneResult())
    return result.info, ZipFile(io.BytesIO(bytes(result.data)))


def shown(data: bytes) -> Any:
    return pyvips.Image.new_from_buffer(data, "").numpy()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_names_are_made_of_numbers(bench: Any, source: bytes, layout: Any):
    info, files = archive(bench, source, Tiles(SIZE, layout=layout, format="png"))
    assert [name for name in files.namelist() if not re.fullmatch(LAYOUTS[layout], name)] == []
    assert (info["media_type"], info["format"], info["width"], info["height"]) == ("application/zip", "zip", WIDTH, HEIGHT)
    assert info["tiles"] == sum(name.endswith(".png") for name in files.namelist()) > 6
    assert files.testzip() is None
    assert len({entry.date_time for entry in files.infolist()}) == 1, "an archive does not depend on the time"


@pytest.mark.parametrize("overlap", [0, 5])
def test_the_tiles_of_the_largest_size_are_the_picture(bench: Any, source: bytes, overlap: int):
    _, files = archive(bench, source, Tiles(SIZE, overlap=overlap, format="png"))
    picture = shown(source)
    for column in range(3):
        for row in range(2):
            left, top = max(column * SIZE - overlap, 0), max(row * SIZE - overlap, 0)
            right, bottom = (column + 1) * SIZE + overlap, (row + 1) * SIZE + overlap
            assert (shown(files.read(f"tiles_files/9/{column}_{row}.png")) == picture[top:bottom, left:right]).all()


def test_each_size_is_the_half_of_the_one_before(bench: Any, source: bytes):
    _, files = archive(bench, source, Tiles(1024, format="png"))
    sizes = [shown(files.read(f"tiles_files/{level}/0_0.png")).shape[:2] for level in range(10)]
    assert sizes[-1] == (HEIGHT, WIDTH)
    assert sizes[0] == (1, 1)
    for smaller, larger in pairwise(sizes):
        assert smaller == tuple(-(-side // 2) for side in larger)
    means = [shown(files.read(f"tiles_files/{level}/0_0.png")).mean() for level in range(4, 10)]
    assert np.ptp(means) < 2


def test_the_description_has_the_size_of_the_picture(bench: Any, source: bytes):
    _, files = archive(bench, source, Resize(250), Tiles(SIZE, overlap=3, format="webp"))
    text = files.read("tiles.dzi").decode()
    for expected in ('Width="250"', 'Height="167"', 'TileSize="128"', 'Overlap="3"', 'Format="webp"'):
        assert expected in text
    _, files = archive(bench, source, Tiles(SIZE, layout="iiif3", id="https://pictures.example/7"))
    assert '"id": "https://pictures.example/7' in files.read("tiles/info.json").decode()


def test_every_option_has_an_effect(bench: Any, source: bytes):
    def made(**options: Any) -> tuple[list[str], int]:
        _, files = archive(bench, source, Tiles(SIZE, **options))
        return files.namelist(), sum(entry.file_size for entry in files.infolist())

    assert made(quality=20)[1] < made()[1]
    assert made(format="png")[1] > made()[1]
    assert len(made(depth="one")[0]) < len(made(depth="onetile")[0]) < len(made()[0])
    assert len(made(skip_blanks=255)[0]) < len(made()[0])
    assert made(layout="google", centre=True) != made(layout="google")
    assert made(layout="google", background="red") != made(layout="google")


def test_a_colour_under_alpha_does_not_bleed(bench: Any):
    array = np.zeros((256, 256, 4), "u1")
    array[...] = (0, 255, 0, 0)
    array[::2, ::3] = (200, 100, 50, 255)
    _, files = archive(bench, bench.file(array, ".png"), Tiles(256, format="png"))
    half = shown(files.read("tiles_files/6/0_0.png")).astype(int)
    assert np.abs(half[half[..., 3] > 0][:, :3] - (200, 100, 50)).max() <= 1
    _, files = archive(bench, bench.file(np.zeros_like(array), ".png"), Tiles(256, background="blue"))
    assert shown(files.read("tiles_files/8/0_0.jpeg"))[1, 8].tolist() == pytest.approx([0, 0, 254], abs=2)


def test_tiles_have_no_metadata_and_are_srgb(bench: Any, source: bytes):
    for steps in ([IccProfile("p3")], []):
        _, files = archive(bench, source, *steps, Tiles(SIZE))
        image: Any = pyvips.Image.new_from_buffer(files.read("tiles_files/9/0_0.jpeg"), "")
        assert not [name for name in image.get_fields() if name.startswith(("exif", "icc", "xmp"))]
        assert not [name for name in files.namelist() if "properties" in name]


def test_each_file_is_an_output_and_the_description_is_the_last_one(bench: Any, source: bytes):
    processor, task = VipsProcessor(), InlineTask()
    processor.open(None)  # type: ignore[arg-type]
    last: Any = processor.run(bench.payload(source), [Tiles(SIZE)], task)
    _, files = archive(bench, source, Tiles(SIZE))
    assert last.info["name"] == "tiles.dzi"
    assert {name for name, _ in task.emitted} == set(files.namelist()) - {"tiles.dzi"}
    for name, payload in task.emitted:
        assert payload.info["name"] == name
        assert payload.info["media_type"] == "image/jpeg"
        assert name == "tiles_files/{level}/{column}_{row}.jpeg".format(**payload.info)
        assert bytes(payload.data) == files.read(str(name))


@pytest.mark.anyio
async def test_a_stream_gets_each_tile_and_a_run_an_archive(bench: Any, source: bytes) -> None:
    async with Pool(1, plugins=["vips"]) as pool:
        result = await pool.run(source, [Tiles(SIZE)])
        files = ZipFile(io.BytesIO(bytes(result)))
        async with pool.stream(source, [Tiles(SIZE)], buffer=2) as frames:
            streamed = {frame.info.name: bytes(frame) async for frame in frames}
        assert streamed == {name: files.read(name) for name in files.namelist()}
        assert list(streamed)[-1] == "tiles.dzi"
        outcomes = await pool.run_many(source, {"small": [Resize(50), Png()], "tiles": [Tiles(SIZE)]})
        assert bytes(outcomes["tiles"].unwrap()) == bytes(result)


def test_limits_apply_to_all_files_together(bench: Any, source: bytes):
    with pytest.raises(TaskFailed) as failure:
        bench.run(source, Decode(max_output_bytes=50_000), Tiles(SIZE))
    assert failure.value.code == "output_too_large"
    frames = bench.animation([np.full((9, 9, 3), level, "u1") for level in (0, 90)], ".gif", [50, 50])
    with pytest.raises(InvalidTask, match="one page"):
        bench.run(frames, Decode(pages=-1), Tiles())


@pytest.mark.parametrize(
    "parameters",
    [
        {"size": 63},
        {"overlap": 256},
        {"format": "png", "quality": 20},
        {"centre": True},
        {"id": "https://x.example/"},
        {"layout": "iiif", "id": 'https://x.example/"}'},
        {"layout": "iiif", "id": "https://x.example/[Q=1]"},
        {"background": "transparent"},
        {"background": "nonsense"},
        {"layout": "../etc"},
        {"depth": "two"},
    ],
)
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask):
        Tiles(**parameters)


def test_tiles_end_a_pipeline():
    from offloop_vips import VipsPlugin

    with pytest.raises(InvalidTask, match="ends a pipeline"):
        VipsPlugin().check([Tiles(), Gif()])
