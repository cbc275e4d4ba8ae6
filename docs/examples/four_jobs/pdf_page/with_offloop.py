"""The first page of a PDF as a picture, in a worker of offloop."""

# pyright: basic

import asyncio
import sys
from pathlib import Path

import pypdfium2

from offloop import Pool, function


@function
def render(pdf: bytes, page: int) -> bytes:
    return pypdfium2.PdfDocument(pdf)[page].render().to_pil().tobytes()


async def main(path: Path) -> None:
    async with Pool() as pool:
        print(len(await pool.call(render, path, 0, timeout=20)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
