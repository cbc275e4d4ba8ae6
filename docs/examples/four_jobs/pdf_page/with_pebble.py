"""The first page of a PDF as a picture, in a process of pebble."""

# pyright: basic

import asyncio
import sys
from pathlib import Path

import pypdfium2
from pebble import ProcessPool


def render(pdf: bytes, page: int) -> bytes:
    return pypdfium2.PdfDocument(pdf)[page].render().to_pil().tobytes()


async def main(path: Path) -> None:
    with ProcessPool() as pool:
        pdf = await asyncio.to_thread(path.read_bytes)
        print(len(await asyncio.wrap_future(pool.schedule(render, args=[pdf, 0], timeout=20))))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
