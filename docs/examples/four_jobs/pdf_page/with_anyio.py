"""The first page of a PDF as a picture, in a process of anyio.to_process."""

# pyright: basic

import sys
from pathlib import Path

import anyio
import anyio.to_process
import pypdfium2


def render(pdf: bytes, page: int) -> bytes:
    return pypdfium2.PdfDocument(pdf)[page].render().to_pil().tobytes()


async def main(path: Path) -> None:
    with anyio.fail_after(20):
        pdf = await anyio.Path(path).read_bytes()
        print(len(await anyio.to_process.run_sync(render, pdf, 0, cancellable=True)))


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]))
