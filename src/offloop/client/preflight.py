"""What a task is likely to take, found out from its source before that is brought in: by its first bytes, or by its shape."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec

from ..errors import InvalidTask
from ..operation import Estimate
from ..plugins.estimator import Forecaster
from ..runtime.files.source_files import read_file_head
from ..runtime.loop.background import Errands
from ..runtime.memory.source_memory import read_head
from .results import Result
from .sources import Bytes, File, Samples

__all__ = ["Appraisal", "appraise"]


class Appraisal(msgspec.Struct, frozen=True):
    """What was found out."""

    nbytes: int = 0  # of the source; 0: its memory was released, which staging will report
    estimate: Estimate | None = None  # None: nobody knows
    media_type: str = ""  # of the source, as its header says
    whole: memoryview | None = None  # the contents of a file that is no longer than what was looked at


async def appraise(forecaster: Forecaster, material: Bytes | File | Samples | Result, errands: Errands) -> Appraisal:
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
        return Appraisal()  # its memory was released


async def _appraise(forecaster: Forecaster, material: Bytes | File | Samples | Result, errands: Errands) -> Appraisal:
    match material:
        case Samples(data, shape):
            look = partial(_of_samples, forecaster, shape, data.nbytes)
        case Result() if material.raster is not None:
            look = partial(_of_samples, forecaster, material.raster.shape, material.nbytes)
        case File() | Result(path=Path()):
            look = partial(_of_file, forecaster, str(material.path))
            return await errands.in_thread(look, limiter=errands.file_threads)
        case Bytes(data, private) if not (private and data.c_contiguous):
            look = partial(_of_foreign_bytes, forecaster, data)
            return await errands.in_thread(look, limiter=errands.source_threads)
        case _:
            head = material.data[: forecaster.probe_nbytes].toreadonly()
            look = partial(_of_bytes, forecaster, head, material.data.nbytes)
    if forecaster.quick:
        return await errands.loop_budget.call(look)
    return await errands.in_thread(look, limiter=errands.source_threads)


def _of_samples(forecaster: Forecaster, shape: tuple[int, ...], nbytes: int) -> Appraisal:
    return Appraisal(nbytes, *forecaster.of_samples(shape, nbytes))


def _of_bytes(forecaster: Forecaster, head: memoryview, nbytes: int) -> Appraisal:
    return Appraisal(nbytes, *forecaster.of_bytes(head, nbytes))


def _of_foreign_bytes(forecaster: Forecaster, data: memoryview) -> Appraisal:
    return _of_bytes(forecaster, memoryview(read_head(data, forecaster.probe_nbytes)), data.nbytes)


def _of_file(forecaster: Forecaster, path: str) -> Appraisal:
    head = read_file_head(path, forecaster.probe_nbytes)
    appraisal = _of_bytes(forecaster, head.data, head.nbytes)
    return msgspec.structs.replace(appraisal, whole=head.data) if 0 < len(head.data) == head.nbytes else appraisal
