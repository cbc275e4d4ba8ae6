"""Converts selected files in a pool, and reports each outcome when it is known.

Files with one output run in one `Pool.map`. A file with several widths is one `Pool.run_many`, which decodes it once.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, TypeAlias

import anyio
import anyio.to_thread
import msgspec

from ..client.batches.batch import Batch
from ..client.batches.batch_progress import BatchProgress
from ..client.results import Result
from ..errors import OffloopError
from ..operation import Operation
from ..pool import Pool
from .recipe import Recipe
from .selection import Output, Picked, Skipped
from .wording import one_line

__all__ = ["Conversion", "Converted", "Failed", "Outcome"]


class Converted(msgspec.Struct, frozen=True):
    """A source whose outputs were written."""

    source: str  # path as selected
    destinations: tuple[Path, ...]  # paths of the outputs
    nbytes_in: int  # length of the source in bytes
    nbytes_out: int  # length of all outputs in bytes
    pages_left_out: int = 0  # pages or frames of the source that the outputs do not have


class Failed(msgspec.Struct, frozen=True):
    """A source with an output that was not written."""

    source: str  # path as selected
    reason: str  # error text in one line


Outcome: TypeAlias = Converted | Failed | Skipped


class Conversion:
    """Converts files. After a cancellation, complete outputs remain, and no partial ones."""

    def __init__(
        self,
        files: Sequence[Picked],
        recipe: Recipe,
        report: Callable[[Outcome], None],
        *,
        max_in_flight: int,
        skip_larger: bool = False,
    ) -> None:
        """Store what is to be done.

        Args:
            files: the files.
            recipe: the options for all of them.
            report: called with the outcome of each file.
            max_in_flight: maximum number of files that are read or converted at a time.
            skip_larger: whether outputs that are larger than their source are dropped.
        """
        self._files = files
        self._recipe = recipe
        self._report = report
        self._max_in_flight = max_in_flight
        self._skip_larger = skip_larger
        self._prefix = f".offloop-{secrets.token_hex(8)}-"  # of files whose length is compared before they get their names
        self._batch: Batch[Any] | None = None
        self._begun_at = monotonic()
        self._done = self._failed = 0

    @property
    def progress(self) -> BatchProgress:
        """Number of files, share of the work that is done, and expected time until the end."""
        if self._batch is not None:
            return msgspec.structs.replace(self._batch.progress, total=len(self._files), done=self._done, failed=self._failed)
        total, ended = len(self._files), self._done + self._failed
        fraction = ended / total if total else 1.0
        eta_s = (monotonic() - self._begun_at) * (1 - fraction) / fraction if fraction else None
        return BatchProgress(total, self._done, self._failed, fraction, eta_s)

    async def run(self, pool: Pool) -> None:
        """Convert all files. The failure of a file is reported and does not raise."""
        self._begun_at = monotonic()
        reasons = await anyio.to_thread.run_sync(self._make_directories)
        files: list[Picked] = []
        for file in self._files:
            reason = reasons.get(file.outputs[0].path.parent)
            if reason is None:
                files.append(file)
            else:
                self._end(Failed(file.source, reason))
        try:
            await (self._run_many(pool, files) if self._recipe.has_widths else self._map(pool, files))
        finally:
            if self._skip_larger:
                self._remove_unnamed(files)

    def _make_directories(self) -> dict[Path, str]:
        """Make the directories of all outputs. Returns the error of each directory that cannot be made."""
        reasons: dict[Path, str] = {}
        for directory in {file.outputs[0].path.parent for file in self._files}:
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                reasons[directory] = f"{directory} cannot be created: {error.strerror}"
        return reasons

    async def _map(self, pool: Pool, files: Sequence[Picked]) -> None:
        size = self._recipe.sizes[0]
        pipelines = {name: self._recipe.pipeline(name, size) for name in {file.format for file in files}}
        pairs: list[Any] = [(file, pipelines[file.format]) for file in files]
        async with pool.map(
            pairs, max_in_flight=self._max_in_flight, to=lambda file: self._path_to_write(file.outputs[0])
        ) as batch:
            self._batch = batch
            async for outcome in batch:
                file: Picked = outcome.source
                if outcome.result is None:
                    self._end(Failed(file.source, _reason(outcome.error)))
                else:
                    self._end(await self._finish(file, [outcome.result]))

    async def _run_many(self, pool: Pool, files: Sequence[Picked]) -> None:
        waiting = iter(files)

        async def convert_files() -> None:
            for file in waiting:
                self._end(await self._all_widths_of(pool, file))

        async with anyio.create_task_group() as task_group:
            for _ in range(self._max_in_flight):
                task_group.start_soon(convert_files)

    async def _all_widths_of(self, pool: Pool, file: Picked) -> Outcome:
        pipelines: dict[str, list[Operation]] = {}
        for output in file.outputs:
            pipelines[f"{output.size}w"] = self._recipe.pipeline(file.format, output.size)
        paths = {f"{output.size}w": self._path_to_write(output) for output in file.outputs}
        try:
            outcomes = await pool.run_many(file, pipelines, to=paths)
        except OffloopError as error:
            return Failed(file.source, one_line(error))
        results: list[Result] = []
        for name, outcome in outcomes.items():
            if outcome.result is None:
                return Failed(file.source, f"{name}: {_reason(outcome.error)}")
            results.append(outcome.result)
        return await self._finish(file, results)

    def _path_to_write(self, output: Output) -> Path:
        return output.path.with_name(self._prefix + output.path.name) if self._skip_larger else output.path

    async def _finish(self, file: Picked, results: Sequence[Result]) -> Outcome:
        """The outcome of a file whose outputs were written. Drops those that are larger, if that was asked for."""
        written = list(zip(file.outputs, results, strict=True))
        if self._skip_larger:
            written = [(output, result) for output, result in written if result.nbytes <= file.nbytes]
            try:
                await anyio.to_thread.run_sync(self._give_names, [output for output, _ in written])
            except OSError as error:
                return Failed(file.source, f"the output cannot be written: {error.strerror}")
        if not written:
            return Skipped(file.source, "its output is larger")
        paths = tuple(output.path for output, _ in written)
        left_out = max(result.info.get("pages_left_out", 0) for _, result in written)
        return Converted(file.source, paths, file.nbytes, sum(result.nbytes for _, result in written), left_out)

    def _give_names(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            path = self._path_to_write(output)
            with suppress(FileNotFoundError):
                shutil.copymode(output.path, path)  # as a pool keeps the mode of a file that it replaces
            os.replace(path, output.path)

    def _remove_unnamed(self, files: Sequence[Picked]) -> None:
        for file in files:
            for output in file.outputs:
                with suppress(OSError):
                    self._path_to_write(output).unlink(missing_ok=True)

    def _end(self, outcome: Outcome) -> None:
        self._done += not isinstance(outcome, Failed)
        self._failed += isinstance(outcome, Failed)
        self._report(outcome)


def _reason(error: Exception | None) -> str:
    assert error is not None, "an outcome without a result has an error"
    return one_line(error)
