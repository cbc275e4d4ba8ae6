"""Converts one picture from stdin to stdout: `offloop convert -`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import anyio.to_thread

from ..client.batches.batch_progress import BatchProgress
from ..errors import OffloopError
from ..pool import Pool
from .batch import Failed, Outcome
from .recipe import Recipe, format_of_bytes
from .wording import one_line

__all__ = ["StreamConversion"]

_SOURCE = "-"


class StreamConversion:
    """Converts stdin to stdout. Nothing is written before the whole picture was converted."""

    def __init__(self, recipe: Recipe, report: Callable[[Outcome], None]) -> None:
        self._recipe = recipe
        self._report = report

    @property
    def progress(self) -> BatchProgress:
        """A total of one picture."""
        return BatchProgress(1, 0, 0, None, None)

    async def run(self, pool: Pool) -> None:
        """Read, convert and write. A failure is reported and does not raise."""
        data = await anyio.to_thread.run_sync(sys.stdin.buffer.read, abandon_on_cancel=True)
        source_format = format_of_bytes(data) or self._recipe.to
        if source_format is None:
            self._report(Failed(_SOURCE, "its format is unknown by its first bytes; give the output format with --to"))
            return
        try:
            result = await pool.run(data, self._recipe.pipeline(source_format, self._recipe.sizes[0]))
            await anyio.to_thread.run_sync(_write, result.data, abandon_on_cancel=True)
        except OffloopError as error:
            self._report(Failed(_SOURCE, one_line(error)))
        except OSError as error:
            self._report(Failed(_SOURCE, f"stdout cannot be written: {error.strerror}"))


def _write(data: memoryview) -> None:
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]
