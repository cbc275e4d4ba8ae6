"""What a task is likely to take, found out from its source before that is brought in: by its first bytes, or by its shape."""

from __future__ import annotations

import os

import msgspec

from .host.errands import Errands
from .operation import Estimate
from .plugins.forecast import Forecaster
from .results import Result
from .sources import Bytes, File, Samples

__all__ = ["Appraisal", "appraise"]


class Appraisal(msgspec.Struct, frozen=True):
    """What was found out."""

    nbytes: int = 0  # of the source; 0: it cannot be read, and whoever tries to will say why
    estimate: Estimate | None = None  # None: nobody knows
    media_type: str = ""  # of the source, as its header says
    whole: memoryview | None = None  # the contents of a file that is no longer than what was looked at


async def appraise(forecaster: Forecaster, material: Bytes | File | Samples | Result, errands: Errands) -> Appraisal:
    """Read the header of a source and ask the plugins: in a thread, unless they are quick and the bytes are here."""
    try:
        return await _appraise(forecaster, material, errands)
    except ValueError:
        return Appraisal()  # its memory was released


async def _appraise(forecaster: Forecaster, material: Bytes | File | Samples | Result, errands: Errands) -> Appraisal:
    match material:
        case Samples(data, shape, _):
            return _of_samples(forecaster, shape, data.nbytes)
        case File(path):
            return await errands.in_thread(_of_file, forecaster, path, limiter=errands.source_threads)
        case Result() if material.raster is not None:
            return _of_samples(forecaster, material.raster.shape, material.nbytes)
        case Result() if material.path is not None:
            return await errands.in_thread(_of_file, forecaster, str(material.path), limiter=errands.source_threads)
        case Bytes() | Result():
            head = material.data[: forecaster.probe_nbytes].toreadonly()
            if forecaster.quick:
                return _of_bytes(forecaster, head, material.data.nbytes)
            return await errands.in_thread(_of_bytes, forecaster, head, material.data.nbytes, limiter=errands.source_threads)


def _of_samples(forecaster: Forecaster, shape: tuple[int, int, int], nbytes: int) -> Appraisal:
    return Appraisal(nbytes, *forecaster.of_samples(shape, nbytes))


def _of_bytes(forecaster: Forecaster, head: memoryview, nbytes: int) -> Appraisal:
    return Appraisal(nbytes, *forecaster.of_bytes(head, nbytes))


def _of_file(forecaster: Forecaster, path: str) -> Appraisal:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not hold the thread
        try:
            nbytes = os.fstat(descriptor).st_size
            head = os.pread(descriptor, forecaster.probe_nbytes, 0)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return Appraisal()
    appraisal = _of_bytes(forecaster, memoryview(head), nbytes)
    return msgspec.structs.replace(appraisal, whole=memoryview(head)) if 0 < len(head) == nbytes else appraisal
