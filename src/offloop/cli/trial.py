"""Tries a pool: starts one worker, and runs one real task."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from time import monotonic

import msgspec

from ..errors import OffloopError
from ..operation import Operation
from ..pool import Pool
from ..sandbox import Posture
from .event_loop import run_in_loop
from .wording import one_line

__all__ = ["Trial", "try_pool"]

_TIMEOUT_S = 30.0
_SIDE, _SMALLER_SIDE = 8, 4  # sides of the source and of the result in pixels


class Trial(msgspec.Struct, frozen=True):
    """Outcome of the trial."""

    worker_started: bool = False
    start_s: float | None = None  # seconds until the worker was ready; None: no worker was
    converted: bool | None = None  # whether the conversion succeeded; None: no plugin can convert a picture
    task_s: float | None = (
        None  # seconds of the task, which includes loading the plugin's libraries; None: it failed or none ran
    )
    error: str | None = None  # error text in one line; None: no error
    sandbox: Posture | None = None  # layers of the worker's sandbox, and reasons for the missing ones; None: no worker started

    @property
    def sandbox_text(self) -> str:
        """The sandbox in one line."""
        return "unknown, because no worker started" if self.sandbox is None else str(self.sandbox)


def try_pool(plugins: Sequence[str]) -> Trial:
    """Start a worker. If the plugins include "vips", convert a tiny PNG to a smaller WebP."""
    pipeline = _pipeline() if "vips" in plugins else None
    return run_in_loop(lambda: _try(plugins, pipeline))


async def _try(plugins: Sequence[str], pipeline: list[Operation] | None) -> Trial:
    trial = Trial()
    began = monotonic()
    try:
        async with Pool(1, timeout=_TIMEOUT_S, start_timeout=_TIMEOUT_S, plugins=plugins) as pool:
            trial = Trial(worker_started=True, start_s=monotonic() - began, sandbox=pool.sandbox)
            if pipeline is not None:
                trial = msgspec.structs.replace(trial, converted=False)
                trial = await _convert(pool, pipeline, trial)
    except (OffloopError, OSError) as error:
        return msgspec.structs.replace(trial, error=one_line(error))
    return trial


async def _convert(pool: Pool, pipeline: list[Operation], trial: Trial) -> Trial:
    began = monotonic()
    result = await pool.run(_tiny_png(), pipeline)
    took = monotonic() - began
    if (result.info.media_type, result.info.width) != ("image/webp", _SMALLER_SIDE):
        return msgspec.structs.replace(trial, error=f"the conversion returned an unexpected result: {result!r}")
    return msgspec.structs.replace(trial, converted=True, task_s=took)


def _pipeline() -> list[Operation]:
    from offloop_vips import Resize, Webp  # noqa: PLC0415 (offloop does not depend on it; the registry has loaded it)

    return [Resize(_SMALLER_SIDE, _SMALLER_SIDE), Webp()]


def _tiny_png() -> bytes:
    """Returns an 8 x 8 PNG in one colour. It is built by hand, because this process loads no image library."""
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)  # 8 bits, RGB
    rows = (b"\0" + b"\x33\x99\xcc" * _SIDE) * _SIDE
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
