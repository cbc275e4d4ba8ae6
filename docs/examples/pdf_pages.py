"""Renders the pages of a PDF file as PNG files: python pdf_pages.py document.pdf folder [seconds for a page]

PDFium is not thread-safe, crashes on some files, and takes years for others. Here such a page costs that page.
"""

# pyright: basic, reportArgumentType=false

import io
import sys
from pathlib import Path

import anyio
import pypdfium2

from offloop import OffloopError, Pool, TaskFailed, function


@function(timeout=20, preload=["pypdfium2", "PIL.PngImagePlugin"])
def render_page(pdf: memoryview, page: int, scale: float = 2.0) -> bytes:
    with opened(pdf) as document:
        file = io.BytesIO()
        document[page].render(scale=scale).to_pil().save(file, "png")
        return file.getvalue()


@function(timeout=20)
def count_pages(pdf: memoryview) -> int:
    with opened(pdf) as document:
        return len(document)


def opened(pdf: memoryview) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(bytes(pdf))
    except pypdfium2.PdfiumError as error:
        raise TaskFailed("corrupt_source", f"this is no PDF file: {error}") from None


async def main(source: Path, folder: Path, timeout: float = 20) -> None:
    async with Pool(plugins=["functions"]) as pool:
        pages = await pool.call(count_pages, source)
        async with pool.map_call(render_page, ((source, page) for page in range(pages)), timeout=timeout) as outcomes:
            async for outcome in outcomes:
                if outcome.value is None:
                    print(f"page {outcome.index + 1}: {outcome.error}", file=sys.stderr)
                else:
                    (folder / f"{outcome.index + 1}.png").write_bytes(outcome.value)
    print(f"{pages} pages")


if __name__ == "__main__":
    try:
        anyio.run(main, Path(sys.argv[1]), Path(sys.argv[2]), *map(float, sys.argv[3:]))
    except OffloopError as error:
        sys.exit(f"{type(error).__name__}: {error.public_message}")
