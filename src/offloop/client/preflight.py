"""What a task is likely to take, found out from its source before that is brought in: by its first bytes, or by its shape."""

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
    """What was found out."""

    nbytes: int = 0  # of the source; 0: its memory was released, which staging will report
    estimate: Estimate | None = None  # None: nobody knows
    media_type: str = ""  # of the source, as its header says
    file_contents: memoryview | None = None  # the contents of a file that is no longer than what was looked at


async def run_preflight(
    estimator: Estimator, material: Bytes | File | Samples | Result, background: BackgroundTasks
) -> Preflight:
    """Read the header of a source and ask the plugins.

    In a thread; on the event loop, and within the loop's budget, where the plugins are quick and the bytes are in memory.

    Raises:
        InvalidTask: a file, or the memory of the source, cannot be read.
    """
    try:
        return await _run(estimator, material, background)
    except InvalidTask:
        raise
    except ValueError:
        return Preflight()  # its memory was released


async def _run(estimator: Estimator, material: Bytes | File | Samples | Result, background: BackgroundTasks) -> Preflight:
    match material:
        case Samples(data, shape):
            look = partial(_of_samples, estimator, shape, data.nbytes)
        case Result() if material.raster is not None:
            look = partial(_of_samples, estimator, material.raster.shape, material.nbytes)
        case File() | Result(path=Path()):
            look = partial(_of_file, estimator, str(material.path))
            return await background.run_in_thread(look, limiter=background.file_threads)
        case Bytes(data, private) if not (private and data.c_contiguous):
            look = partial(_of_foreign_bytes, estimator, data)
            return await background.run_in_thread(look, limiter=background.source_threads)
        case _:
            head = material.data[: estimator.probe_nbytes].toreadonly()
            look = partial(_of_bytes, estimator, head, material.data.nbytes)
    if estimator.quick:
        return await background.loop_budget.call(look)
    return await background.run_in_thread(look, limiter=background.source_threads)


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
