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


async def run_preflight(forecaster: Estimator, material: Bytes | File | Samples | Result, errands: BackgroundTasks) -> Preflight:
    """Read the header of a source and ask the plugins.

    In a thread; on the event loop, and within the loop's budget, where the plugins are quick and the bytes are in memory.

    Raises:
        InvalidTask: a file, or the memory of the source, cannot be read.
    """
    try:
        return await _appraise(forecaster, material, errands)
    except InvalidTask:
        raise
    except ValueError:
        return Preflight()  # its memory was released


async def _appraise(forecaster: Estimator, material: Bytes | File | Samples | Result, errands: BackgroundTasks) -> Preflight:
    match material:
        case Samples(data, shape):
            look = partial(_of_samples, forecaster, shape, data.nbytes)
        case Result() if material.raster is not None:
            look = partial(_of_samples, forecaster, material.raster.shape, material.nbytes)
        case File() | Result(path=Path()):
            look = partial(_of_file, forecaster, str(material.path))
            return await errands.run_in_thread(look, limiter=errands.file_threads)
        case Bytes(data, private) if not (private and data.c_contiguous):
            look = partial(_of_foreign_bytes, forecaster, data)
            return await errands.run_in_thread(look, limiter=errands.source_threads)
        case _:
            head = material.data[: forecaster.probe_nbytes].toreadonly()
            look = partial(_of_bytes, forecaster, head, material.data.nbytes)
    if forecaster.quick:
        return await errands.loop_budget.call(look)
    return await errands.run_in_thread(look, limiter=errands.source_threads)


def _of_samples(forecaster: Estimator, shape: tuple[int, ...], nbytes: int) -> Preflight:
    return Preflight(nbytes, *forecaster.estimate_samples(shape, nbytes))


def _of_bytes(forecaster: Estimator, head: memoryview, nbytes: int) -> Preflight:
    return Preflight(nbytes, *forecaster.estimate_bytes(head, nbytes))


def _of_foreign_bytes(forecaster: Estimator, data: memoryview) -> Preflight:
    return _of_bytes(forecaster, memoryview(read_head(data, forecaster.probe_nbytes)), data.nbytes)


def _of_file(forecaster: Estimator, path: str) -> Preflight:
    head = read_file_head(path, forecaster.probe_nbytes)
    appraisal = _of_bytes(forecaster, head.data, head.nbytes)
    return msgspec.structs.replace(appraisal, whole=head.data) if 0 < len(head.data) == head.nbytes else appraisal
