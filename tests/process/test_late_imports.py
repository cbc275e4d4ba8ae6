"""Parts of libraries that are imported late work in the sandbox, and other late imports say what to do."""

from __future__ import annotations

import pytest
from lazy_plugin import LazyPlugin, Use
from test_escapes import needs_all_layers

from offloop import Pool, TaskFailed

pytestmark = [pytest.mark.anyio, needs_all_layers]

RESULTS = {
    "fft": "[3.0, -1.0]",
    "median": "2.0",
    "masked": "3",
    "random": "1",
    "polynomial": "3.0",
    "color": "(255, 0, 0)",
    "encoding": "\u20ac",
}


@pytest.fixture
def anyio_backend() -> object:
    return "asyncio", {"use_uvloop": False}  # because a sandbox is the same in every loop


async def test_late_parts_of_numpy_pillow_and_python_work_in_the_sandbox() -> None:
    async with Pool(1, plugins=[LazyPlugin], memory_limit="256MiB") as pool:
        found = {part: bytes(await pool.run(b"", [Use(part)])).decode() for part in RESULTS}
        with pytest.raises(TaskFailed, match="this cannot be imported now, because the sandbox lets a worker read no module"):
            await pool.run(b"", [Use("module")])
    assert found == RESULTS
