"""The other examples in the documentation run, as a reader would run them."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pyvips

from offloop import InvalidTask

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def run(name: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-W", "error", EXAMPLES / name, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout


def test_the_quickstart_makes_a_thumbnail(tmp_path: Path):
    source, destination = tmp_path / "photo.jpg", tmp_path / "thumbnail.webp"
    picture: Any = pyvips.Image.black(640, 480, bands=3)
    picture.write_to_file(str(source))
    assert run("quickstart.py", source, destination) == (f"{destination}: 320 x 320, {destination.stat().st_size:,} bytes\n")
    thumbnail: Any = pyvips.Image.new_from_file(str(destination))
    assert (thumbnail.get("vips-loader"), thumbnail.width, thumbnail.height) == ("webpload", 320, 320)


@pytest.mark.parametrize("nbytes", [0, 10, 1_000_000])
def test_the_custom_plugin_compresses_what_it_is_given(tmp_path: Path, nbytes: int):
    source = tmp_path / "some.log"
    source.write_bytes(b"a line\n" * (nbytes // 7) + b"." * (nbytes % 7))
    told = run("custom_plugin.py", source)
    before, after = (int(word.replace(",", "")) for word in told.split() if word[0].isdigit() and "bytes" not in word)
    assert before == nbytes
    assert after < max(nbytes, 20)
    assert told.endswith("application/zlib\n")


def test_the_custom_plugins_operation_is_checked_when_it_is_made():
    compress: Any = runpy.run_path(str(EXAMPLES / "custom_plugin.py"))["Compress"]
    with pytest.raises(InvalidTask, match="Compress\\(level=11\\)"):
        compress(11)


def test_the_pages_of_a_pdf_are_rendered_and_a_corrupt_one_is_refused(tmp_path: Path):
    pdfium: Any = pytest.importorskip("pypdfium2")
    document: Any = pdfium.PdfDocument.new()
    for _ in range(3):
        document.new_page(200, 100)
    document.save(str(tmp_path / "document.pdf"))
    assert run("pdf_pages.py", tmp_path / "document.pdf", tmp_path) == "3 pages\n"
    page: Any = pyvips.Image.new_from_file(str(tmp_path / "3.png"))
    assert (page.width, page.height) == (400, 200)
    (tmp_path / "corrupt.pdf").write_bytes(b"%PDF-1.4\nnothing")
    command = [sys.executable, EXAMPLES / "pdf_pages.py", tmp_path / "corrupt.pdf", tmp_path]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("TaskFailed: [corrupt_source] this is no PDF file")


def test_a_page_of_a_pdf_that_never_ends_costs_that_page(tmp_path: Path):
    pytest.importorskip("pypdfium2")
    (tmp_path / "document.pdf").write_bytes(pdf_that_never_ends())
    command = [sys.executable, EXAMPLES / "pdf_pages.py", tmp_path / "document.pdf", tmp_path, "0.5"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (ended.returncode, ended.stdout) == (0, "2 pages\n")
    assert ended.stderr.startswith("page 2: the task exceeded its 0.5 s")
    assert (tmp_path / "1.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "2.png").exists()


def pdf_that_never_ends(levels: int = 9) -> bytes:
    """A PDF of two pages. The second one draws a form that draws another one ten times, and so on, nine levels deep."""
    forms = range(5, 5 + levels)
    page = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 100 100] /Resources << /XObject << /F 5 0 R >> >> /Contents {} 0 R >>"
    objects = {
        1: "<< /Type /Catalog /Pages 2 0 R >>",
        2: "<< /Type /Pages /Kids [3 0 R 4 0 R] /Count 2 >>",
        3: "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 100 100] >>",
        4: page.format(5 + levels),
        5 + levels: stream_of("", "/F Do"),
    }
    for number in forms:
        inner = f"/Resources << /XObject << /F {number + 1} 0 R >> >>" if number != forms[-1] else ""
        content = "/F Do " * 10 if inner else "0 0 1 1 re f"
        objects[number] = stream_of(f"/Type /XObject /Subtype /Form /BBox [0 0 100 100] {inner}", content)
    text = "%PDF-1.7\n" + "".join(f"{number} 0 obj\n{body}\nendobj\n" for number, body in sorted(objects.items()))
    return f"{text}trailer << /Root 1 0 R /Size {len(objects) + 1} >>\n%%EOF\n".encode()


def stream_of(entries: str, content: str) -> str:
    return f"<< {entries} /Length {len(content)} >>\nstream\n{content}\nendstream"


def test_a_table_is_summed_in_a_worker():
    pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    told = run("table.py", "100_000")
    assert told.startswith("100,000 rows in ")
    assert "499950000" in told


def test_file_types_are_told_by_content_and_not_by_name(tmp_path: Path):
    pytest.importorskip("magika")
    script, picture = tmp_path / "holiday.jpg", tmp_path / "notes.txt"
    script.write_text((EXAMPLES / "file_types.py").read_text())
    picture.write_bytes((EXAMPLES.parent / "photos" / "coffee.webp").read_bytes())
    told = run("file_types.py", script, picture).splitlines()
    assert told[0].startswith(f"{script}: python, text/x-python, ")
    assert told[1].startswith(f"{picture}: webp, image/webp, ")
