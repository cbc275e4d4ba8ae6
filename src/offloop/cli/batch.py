"""Converts selected files with a limit of files in flight, and reports each outcome when it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import anyio
import anyio.to_thread
import msgspec

from ..errors import OffloopError
from ..pool import Pool
from .recipe import Recipe
from .selection import Refused, Selected
from .wording import one_line

__all__ = ["Converted", "Failed", "Outcome", "convert_all"]


class Converted(msgspec.Struct, frozen=True):
    """A source whose output was written."""

    source: str  # path as selected
    destination: Path  # path of the output
    nbytes_in: int  # length of the source in bytes
    nbytes_out: int  # length of the output in bytes
    pages_left_out: int = 0  # pages or frames of the source that the output does not have


class Failed(msgspec.Struct, frozen=True):
    """A source whose output was not written."""

    source: str  # path as selected
    reason: str  # error text in one line


Outcome: TypeAlias = Converted | Failed


async def convert_all(
    pool: Pool, selection: Iterator[Selected], recipe: Recipe, *, in_flight: int, report: Callable[[Outcome], None]
) -> None:
    """Convert all files of the iterator. At most `in_flight` files are taken from it and not yet reported.

    A failure of a file is reported and does not raise. After a cancellation, complete outputs remain, and no partial ones.
    """
    selection_lock = anyio.Lock()  # because only one thread at a time may run the generator

    async def convert_files() -> None:
        while True:
            async with selection_lock:
                selected = await anyio.to_thread.run_sync(next, selection, None)
            if selected is None:
                return
            report(await _outcome_of(pool, selected, recipe))

    async with anyio.create_task_group() as task_group:
        for _ in range(in_flight):
            task_group.start_soon(convert_files)


async def _outcome_of(pool: Pool, selected: Selected, recipe: Recipe) -> Outcome:
    if isinstance(selected, Refused):
        return Failed(selected.source, selected.reason)
    destination = selected.destination
    try:
        await anyio.Path(destination.parent).mkdir(parents=True, exist_ok=True)
        result = await pool.run(Path(selected.source), recipe.pipeline(selected.format), to=destination)
    except OffloopError as error:
        return Failed(selected.source, one_line(error))
    except OSError as error:
        return Failed(selected.source, f"{destination.parent} cannot be created: {error.strerror}")
    left_out = getattr(result.info, "pages_left_out", 0)
    return Converted(selected.source, destination, selected.nbytes, result.nbytes, left_out)
