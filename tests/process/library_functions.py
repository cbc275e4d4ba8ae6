"""Functions that use large native libraries, for tests of these in the sandbox."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pypdfium2

from offloop import function

__all__ = ["multiply", "render_page", "sum_by_key"]


@function(preload=["polars"])
def sum_by_key(frame: pl.DataFrame) -> list[int]:
    """Group and sort in the thread pool of polars."""
    return frame.group_by("key").agg(pl.col("value").sum()).sort("key")["value"].to_list()


@function(preload=["pypdfium2", "PIL.PngImagePlugin"])
def render_page(text: str) -> tuple[int, int, int]:
    """Make a page with a text and render it. Returns its size in pixels, and its darkest grey."""
    document: Any = pypdfium2.PdfDocument.new()
    page = document.new_page(200, 100)
    raw: Any = pypdfium2.raw
    content = raw.FPDFPageObj_NewTextObj(document, b"Helvetica", 24.0)
    encoded = (text + "\0").encode("utf-16-le")
    raw.FPDFText_SetText(content, (raw.FPDF_WCHAR * (len(encoded) // 2)).from_buffer_copy(encoded))
    raw.FPDFPageObj_Transform(content, 1, 0, 0, 1, 20, 40)
    raw.FPDFPage_InsertObject(page, content)
    page.gen_content()
    picture: Any = page.render(scale=2).to_pil().convert("L")
    return (*picture.size, picture.getextrema()[0])


@function
def multiply(size: int) -> float:
    """Multiply two matrices in the threads of OpenBLAS. Returns the largest error."""
    ones = np.ones((size, size))
    return float(np.abs(ones @ ones - size).max())
