"""Large native libraries load and run in the sandbox: polars, PDFium and OpenBLAS with their threads."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from test_escapes import needs_all_layers

from offloop import Pool

pl: Any = pytest.importorskip("polars")
pytest.importorskip("pypdfium2")
pytest.importorskip("PIL")
functions: Any = importlib.import_module("library_functions")

pytestmark = [pytest.mark.anyio, needs_all_layers]


@pytest.fixture
def anyio_backend() -> object:
    return "asyncio", {"use_uvloop": False}  # because a sandbox is the same in every loop


async def test_polars_pdfium_and_openblas_run_in_the_sandbox() -> None:
    threads = {"OPENBLAS_NUM_THREADS": "2", "POLARS_MAX_THREADS": "2"}
    # polars reserves nearly a gibibyte of addresses, which the limit of a task counts
    async with Pool(1, plugins=["functions"], memory_limit="3GiB", environment=threads) as pool:
        frame = pl.DataFrame({"key": [1, 2] * 50_000, "value": [1] * 100_000})
        assert await pool.call(functions.sum_by_key, frame) == [50_000, 50_000]
        width, height, darkest = await pool.call(functions.render_page, "text")
        assert (width, height) == (400, 200)
        assert darkest < 50, "the font was found and drawn"
        assert await pool.call(functions.multiply, 512) == 0.0
        posture = pool.statistics().groups["functions"].sandbox
    assert posture is not None
    assert posture.is_complete
