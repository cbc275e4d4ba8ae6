"""Tells the types of files by their content, with a neural network: python file_types.py FILE...

Each worker loads the model once, before its first call. The model is part of the package magika.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import anyio
import magika

from offloop import Pool, function, resource


class FileType(NamedTuple):
    label: str
    media_type: str
    score: float


@resource(load_timeout=60)
class Model:
    def __init__(self) -> None:
        self.detector = magika.Magika()

    def identify(self, data: bytes) -> FileType:
        found = self.detector.identify_bytes(data)
        return FileType(found.output.label, found.output.mime_type, found.score)


@function(timeout=5)
def file_type(data: bytes, model: Model) -> FileType:
    return model.identify(data)


async def main(paths: list[Path]) -> None:
    contents = ((path.read_bytes(),) for path in paths)
    async with Pool(1, plugins=["functions"]) as pool, pool.map_call(file_type, contents, ordered=True) as outcomes:
        async for outcome in outcomes:
            found = outcome.unwrap()
            print(f"{paths[outcome.index]}: {found.label}, {found.media_type}, {found.score:.2f}")


if __name__ == "__main__":
    anyio.run(main, [Path(name) for name in sys.argv[1:]])
