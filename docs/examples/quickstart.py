"""Make a thumbnail: python quickstart.py photo.jpg thumbnail.webp"""

import sys
from pathlib import Path

import anyio

from offloop import Pool
from offloop_vips import Resize, Webp


async def main(source: str, destination: str) -> None:
    async with Pool(workers=1) as pool:
        result = await pool.run(Path(source), [Resize(320, 320), Webp(quality=80)], to=destination)
        print(f"{result.path}: {result.info.width} x {result.info.height}, {result.nbytes:,} bytes")


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
