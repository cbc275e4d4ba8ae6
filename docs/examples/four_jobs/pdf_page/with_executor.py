"""The first page of a PDF as a picture, in a process of ProcessPoolExecutor. Nothing ends a page that never ends."""

# pyright: basic

import asyncio
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pypdfium2


def render(pdf: bytes, page: int) -> bytes:
    return pypdfium2.PdfDocument(pdf)[page].render().to_pil().tobytes()


async def main(path: Path) -> None:
    with ProcessPoolExecutor() as executor:
        loop = asyncio.get_running_loop()
        pdf = await asyncio.to_thread(path.read_bytes)
        print(len(await asyncio.wait_for(loop.run_in_executor(executor, render, pdf, 0), 20)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
