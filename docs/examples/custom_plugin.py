"""A plugin and its processor in one file: compress bytes with zlib, in a worker, until done or told to stop.

python custom_plugin.py some.log

A processor that needs a heavy library has a module of its own, which only workers import; zlib is in every Python.
"""

import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import anyio
from msgspec import Meta

from offloop import Encoded, Operation, Payload, Plugin, Pool, Raster, Task, TaskFailed, WorkerContext

CHUNK_NBYTES = 256 * 1024


class Compress(Operation, frozen=True):
    """Compress with zlib. Checked when it is made: Compress(11) raises InvalidTask."""

    level: Annotated[int, Meta(ge=0, le=9)] = 6


class CompressPlugin(Plugin):
    """The light half: a server imports it."""

    name = "compress"
    operations = (Compress,)
    processor = "custom_plugin:CompressProcessor"  # text, so that a server need not import it


class CompressProcessor:
    """The heavy half: only workers use it, one task at a time."""

    def open(self, worker: WorkerContext) -> None:
        """Nothing to load here; a model or a library would be."""

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        for operation in operations:
            assert isinstance(operation, Compress)
            payload = compress(payload, operation, task)
        return payload


def compress(payload: Payload, operation: Compress, task: Task) -> Payload:
    if isinstance(payload, Raster):
        raise TaskFailed("unsupported_format", "samples are not compressed here, only files")
    source, output = memoryview(payload.data), task.output(len(payload.data) // 2)
    compressor = zlib.compressobj(operation.level)
    for start in range(0, source.nbytes, CHUNK_NBYTES):
        task.checkpoint()  # raises when the task's time is over, or when its caller has left
        output.write(compressor.compress(source[start : start + CHUNK_NBYTES]))
        task.progress(start / source.nbytes)
    output.write(compressor.flush())
    return Encoded(output.view, {"media_type": "application/zlib", "level": operation.level})


async def main(source: str) -> None:
    async with Pool(workers=1, plugins=[CompressPlugin]) as pool:
        result = await pool.run(Path(source), [Compress(level=9)])
        print(f"{len(zlib.decompress(result.data)):,} bytes became {result.nbytes:,}, {result.info.media_type}")


if __name__ == "__main__":
    import custom_plugin  # by the name that workers import it by: as __main__ they could not find it

    anyio.run(custom_plugin.main, sys.argv[1])
