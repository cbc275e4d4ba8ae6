"""One real task in a pool of one worker: what tells a machine that works from one that merely has everything."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from time import monotonic

import msgspec

from ..errors import OffloopError
from ..operation import Operation
from ..pool import Pool
from .event_loop import run_in_loop
from .wording import one_line

__all__ = ["Trial", "try_pool"]

_TIMEOUT_S = 30.0
_SIDE, _SMALLER_SIDE = 8, 4  # pixels


class Trial(msgspec.Struct, frozen=True):
    """How it went."""

    worker_started: bool = False
    start_s: float | None = None  # from nothing to a worker that is ready
    converted: bool | None = None  # None: no plugin here can convert a picture
    task_s: float | None = None  # the first task loads the plugin's libraries too
    error: str | None = None


def try_pool(plugins: Sequence[str]) -> Trial:
    """Start a worker and, if the plugins include "vips", have it make a smaller WebP of a tiny PNG."""
    pipeline = _pipeline() if "vips" in plugins else None
    return run_in_loop(lambda: _try(plugins, pipeline))


async def _try(plugins: Sequence[str], pipeline: list[Operation] | None) -> Trial:
    trial = Trial()
    began = monotonic()
    try:
        async with Pool(1, timeout=_TIMEOUT_S, start_timeout=_TIMEOUT_S, plugins=plugins) as pool:
            trial = Trial(worker_started=True, start_s=monotonic() - began)
            if pipeline is not None:
                trial = msgspec.structs.replace(trial, converted=False)
                trial = await _converting(pool, pipeline, trial)
    except (OffloopError, OSError) as error:
        return msgspec.structs.replace(trial, error=one_line(error))
    return trial


async def _converting(pool: Pool, pipeline: list[Operation], trial: Trial) -> Trial:
    began = monotonic()
    result = await pool.run(_tiny_png(), pipeline)
    took = monotonic() - began
    if (result.info.media_type, result.info.width) != ("image/webp", _SMALLER_SIDE):
        return msgspec.structs.replace(trial, error=f"the conversion gave something else: {result!r}")
    return msgspec.structs.replace(trial, converted=True, task_s=took)


def _pipeline() -> list[Operation]:
    from offloop_vips import Resize, Webp  # noqa: PLC0415 (offloop does not depend on it; the registry has just loaded it)

    return [Resize(_SMALLER_SIDE, _SMALLER_SIDE), Webp()]


def _tiny_png() -> bytes:
    """An 8 x 8 picture in one colour, made here because nothing that encodes belongs in this process."""
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)  # 8 bits, RGB
    rows = (b"\0" + b"\x33\x99\xcc" * _SIDE) * _SIDE
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
