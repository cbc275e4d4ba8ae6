"""Converting a selection: a few files in flight, each reported as soon as it is finished."""

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
    """A file that was written."""

    source: str
    destination: Path
    nbytes_in: int
    nbytes_out: int


class Failed(msgspec.Struct, frozen=True):
    """A file that was not, and why in one line."""

    source: str
    reason: str


Outcome: TypeAlias = Converted | Failed


async def convert_all(
    pool: Pool, selection: Iterator[Selected], recipe: Recipe, *, in_flight: int, report: Callable[[Outcome], None]
) -> None:
    """Convert everything that the iterator gives; it is never more than `in_flight` ahead of the outcomes.

    A failure is an outcome like any other. Cancelling it leaves the files that were written, whole, and no others.
    """
    turn = anyio.Lock()  # the iterator is a generator: one thread at a time

    async def take_turns() -> None:
        while True:
            async with turn:
                selected = await anyio.to_thread.run_sync(next, selection, None)
            if selected is None:
                return
            report(await _outcome_of(pool, selected, recipe))

    async with anyio.create_task_group() as task_group:
        for _ in range(in_flight):
            task_group.start_soon(take_turns)


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
        return Failed(selected.source, f"{destination.parent} cannot be made: {error.strerror}")
    return Converted(selected.source, destination, selected.nbytes, result.nbytes)
