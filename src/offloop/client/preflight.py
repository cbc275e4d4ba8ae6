"""Preflight: estimates a task from the header or the shape of its source, before the source is staged."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec

from ..errors import InvalidTask
from ..operation import Estimate
from ..plugins.estimator import Estimator
from ..runtime.files.source_files import read_file_head
from ..runtime.loop.background import BackgroundTasks
from ..runtime.memory.source_memory import read_head
from .results import Result
from .sources import Bytes, File, Samples

__all__ = ["Preflight", "run_preflight"]


class Preflight(msgspec.Struct, frozen=True):
    """Result of a preflight."""

    nbytes: int = 0  # length of the source in bytes; 0: its memory was released, and staging raises the error
    estimate: Estimate | None = None  # the plugin's estimate; None: unknown
    media_type: str = ""  # media type of the source, from its header
    file_contents: memoryview | None = None  # contents of a file that is no longer than the header that was read


async def run_preflight(
    estimator: Estimator, source: Bytes | File | Samples | Result, background: BackgroundTasks
) -> Preflight:
    """Read the header of a source and ask the plugins for an estimate.

    Runs in a thread, or, if the plugins are quick and the bytes are in memory, on the event loop within the `LoopBudget`.

    Raises:
        InvalidTask: the file or the memory of the source cannot be read.
    """
    try:
        return await _run(estimator, source, background)
    except InvalidTask:
        raise
    except ValueError:
        return Preflight()  # the source's memory was released


async def _run(estimator: Estimator, source: Bytes | File | Samples | Result, background: BackgroundTasks) -> Preflight:
    match source:
        case Samples(data, shape):
            estimate = partial(_of_samples, estimator, shape, data.nbytes)
        case Result() if source.raster is not None:
            estimate = partial(_of_samples, estimator, source.raster.shape, source.nbytes)
        case File() | Result(path=Path()):
            estimate = partial(_of_file, estimator, str(source.path))
            return await background.run_in_thread(estimate, limiter=background.file_threads)
        case Bytes(data, private) if not (private and data.c_contiguous):
            estimate = partial(_of_foreign_bytes, estimator, data)
            return await background.run_in_thread(estimate, limiter=background.source_threads)
        case _:
            head = source.data[: estimator.probe_nbytes].toreadonly()
            estimate = partial(_of_bytes, estimator, head, source.data.nbytes)
    if estimator.quick:
        return await background.loop_budget.call(estimate)
    return await background.run_in_thread(estimate, limiter=background.source_threads)


def _of_samples(estimator: Estimator, shape: tuple[int, ...], nbytes: int) -> Preflight:
    return Preflight(nbytes, *estimator.estimate_samples(shape, nbytes))


def _of_bytes(estimator: Estimator, head: memoryview, nbytes: int) -> Preflight:
    return Preflight(nbytes, *estimator.estimate_bytes(head, nbytes))


def _of_foreign_bytes(estimator: Estimator, data: memoryview) -> Preflight:
    return _of_bytes(estimator, memoryview(read_head(data, estimator.probe_nbytes)), data.nbytes)


def _of_file(estimator: Estimator, path: str) -> Preflight:
    head = read_file_head(path, estimator.probe_nbytes)
    preflight = _of_bytes(estimator, head.data, head.nbytes)
    return msgspec.structs.replace(preflight, file_contents=head.data) if 0 < len(head.data) == head.nbytes else preflight
