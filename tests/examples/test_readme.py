"""The programs of the first page, its numbers, and its length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
import pyvips
from page_fragments import ROOT, fragment
from starlette.testclient import TestClient
from suite.records import read
from suite.summary import summary

from offloop import Pool, TaskFailed

PHOTO = ROOT / "docs" / "photos" / "coffee.webp"
PORTRAIT = PHOTO.with_name("astronaut.jpg")


def test_the_page_can_be_read_in_a_minute() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def measured(question: str, contender: str, figure: str) -> float:
    """The median of a figure in the latest run of the suite."""
    _, turns = read(ROOT / "benchmarks" / "results" / f"{question}.jsonl")
    return summary(turns)[contender][figure].median


def test_the_three_numbers_are_those_of_the_benchmarks() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    size, pickling = "us_37748736", ("ProcessPoolExecutor", "loky", "pebble", "anyio.to_process", "aiomultiprocess")
    ours, theirs = (measured("order", name, "first_small_ms") for name in ("offloop", "ProcessPoolExecutor"))
    assert f"is ready after {ours:,.0f} ms; with a `ProcessPoolExecutor` after {theirs:,.0f} ms" in text
    assert measured("stuck", "offloop", "returned") == 48
    assert f"`ProcessPoolExecutor` {measured('stuck', 'ProcessPoolExecutor', 'returned'):.0f} of them" in text
    fastest = min(measured("payload", name, size) for name in pickling)
    assert f"back in {measured('payload', 'offloop', size) / 1000:.0f} ms" in text
    assert f"the fastest pool that pickles them in {fastest / 1000:.0f} ms" in text


def test_a_picture_in_a_server(saved: Callable[[str, str], Any]) -> None:
    module = saved("readme_picture", fragment("README.md", "FastAPI("))
    with TestClient(module.app) as client:
        answer = client.post("/thumbnail", content=PHOTO.read_bytes())
        assert (answer.status_code, answer.headers["content-type"], answer.content[8:12]) == (200, "image/webp", b"WEBP")
        assert client.post("/thumbnail", content=b"no picture").status_code == 415


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_any_function_in_a_worker(anyio_backend: object, saved: Callable[[str, str], Any], tmp_path: Path) -> None:
    module = saved("readme_function", fragment("README.md", "render_page"))
    document: Any = pypdfium2.PdfDocument.new()
    document.new_page(200, 100).close()
    document.save(tmp_path / "empty.pdf")
    document.close()
    async with Pool(1, plugins=["functions"]) as pool:
        assert (await module.first_page(pool, (tmp_path / "empty.pdf").read_bytes()))[1:4] == b"PNG"
        with pytest.raises(TaskFailed):
            await module.first_page(pool, b"no PDF")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_person_cut_out(anyio_backend: object, saved: Callable[[str, str], Any]) -> None:
    module = saved("readme_cut_out", fragment("README.md", "RemoveBackground"))
    async with Pool(1, plugins=["vips", "onnx"], memory_limit="1GiB") as pool:
        cut: Any = pyvips.Image.new_from_buffer(await module.cut_out(pool, PORTRAIT.read_bytes()), "")
        face = (cut.width * 9 // 20, cut.height * 7 // 20)
        assert (cut(5, 5)[3], cut(*face)[3]) == (0, 255)
