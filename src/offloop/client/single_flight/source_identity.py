"""Identity of a source: equal for two sources only if a task would read the same content from both.

Memory is identified by a hash of its content. A file is identified by its path and its status, without being read: a file that
was written in the last two seconds has no identity, because a file system may give two versions the same time. A result that
lies in the pool's memory is identified by its block, which is never written again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Sequence
from hashlib import blake2b

from ...runtime.memory.source_memory import read_head
from ...runtime.supervisor import Supervisor
from ..buffers import Buffer
from ..results import Result
from ..sources import ArrayObject, Bytes, File, Material, Samples, TableObject

__all__ = ["identify"]

_DIGEST_NBYTES = 32
_MAX_NBYTES_ON_LOOP = 64 * 1024  # hashed in less than 0.1 ms; more in a thread
_CHUNK_NBYTES = 1024 * 1024  # of memory that another process may truncate
_MIN_FILE_AGE_S = 2.0  # the coarsest time of a file system in use (FAT) has steps of two seconds


async def identify(sources: Sequence[Material], supervisor: Supervisor) -> Hashable | None:
    """Return the identity of a task's sources within their pool.

    It is None if one has none: its file is too new, its memory has gaps, or it is a table or an object that copies its samples.

    Raises:
        InvalidTask: the memory of a source cannot be read.
    """
    identities: list[Hashable] = []
    for source in sources:
        identity = await _identify(source, supervisor)
        if identity is None:
            return None
        identities.append(identity)
    return tuple(identities)


async def _identify(source: Material, supervisor: Supervisor) -> Hashable | None:
    match source:
        case Bytes():
            return await _of_memory(source.data, supervisor, private=source.private)
        case Samples():
            digest = await _of_memory(source.data, supervisor, private=source.private)
            return None if digest is None else (digest, source.shape, source.dtype)
        case File():
            return await _of_file(source.path, supervisor)
        case Buffer():
            await source.ready()
            return await _of_memory(source.view, supervisor, private=True)
        case Result():
            return await _of_result(source, supervisor)
        case ArrayObject() | TableObject():
            return None


async def _of_result(result: Result, supervisor: Supervisor) -> Hashable | None:
    block, raster = result.block, result.raster
    if result.path is not None:
        return await _of_file(str(result.path), supervisor)
    if block is not None and supervisor.owns(block):
        return block.generation
    try:
        digest = await _of_memory(result.data, supervisor, private=True)
    except ValueError:  # it was released; `Submission` raises the error
        return None
    return (digest, raster.shape, raster.dtype) if raster is not None else digest


async def _of_memory(data: memoryview, supervisor: Supervisor, *, private: bool) -> bytes | None:
    if not data.c_contiguous:
        return None
    if private and data.nbytes <= _MAX_NBYTES_ON_LOOP:
        return _digest(data)
    background = supervisor.background
    digest = _digest if private else _digest_safely
    return await background.run_in_thread(digest, data, limiter=background.source_threads)


def _digest(data: memoryview) -> bytes:
    return blake2b(data, digest_size=_DIGEST_NBYTES).digest()


def _digest_safely(data: memoryview) -> bytes:
    """Hash memory that another process may truncate, which would end this process if it read the memory itself."""
    digest = blake2b(digest_size=_DIGEST_NBYTES)
    for start in range(0, data.nbytes, _CHUNK_NBYTES):
        digest.update(read_head(data[start : start + _CHUNK_NBYTES], _CHUNK_NBYTES))
    return digest.digest()


async def _of_file(path: str, supervisor: Supervisor) -> Hashable | None:
    background = supervisor.background
    return await background.run_in_thread(_version_of_file, path, limiter=background.file_threads)


def _version_of_file(path: str) -> Hashable | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # `Submission` raises the error
        return None
    if time.time() - max(status.st_ctime, status.st_mtime) < _MIN_FILE_AGE_S:
        return None
    return path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
