"""`Picture`: the samples of a raster, read as floats, some rows at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from offloop.errors import InvalidTask
from offloop.processor import Encoded, Payload, Raster, Task

__all__ = ["Floats", "Picture", "Samples", "allocate_picture", "put_pixels", "strips", "to_samples"]

Floats: TypeAlias = Any  # numpy's types do not know float32 through a computation
"""A numpy array of float32. Values from 0 for black or transparent to 1 for white or opaque."""

Samples: TypeAlias = Any
"""A numpy array of samples as a raster has them."""

_STRIP_PIXELS = 200_000  # pixels that are computed at a time: a plane of them fits into the cache of a CPU
_WHITE = {"|u1": 255.0, "<u2": 65535.0, ">u2": 65535.0, "<f4": 255.0, ">f4": 255.0}  # value of a white sample
_MAX_BANDS = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """A grey or RGB picture, with or without alpha. It reads the memory of a payload in place."""

    samples: Samples  # shape (height, width, bands)
    white: float  # value of a white or opaque sample

    @classmethod
    def of(cls, payload: Payload) -> Picture:
        """Returns the picture in a raster.

        Raises:
            InvalidTask: the payload is no raster, or no picture of 1 to 4 bands of 8 bits, 16 bits or float32.
        """
        if isinstance(payload, Encoded):
            raise InvalidTask(
                "the model operations take a raster, but the source is encoded; put Decode() and Raw() of offloop-vips before"
            )
        dtype = np.dtype(payload.dtype).str
        if len(payload.shape) not in (2, 3) or 0 in payload.shape:
            raise InvalidTask(f"a raster of shape {payload.shape}: expected (height, width) or (height, width, bands)")
        height, width, bands = (*payload.shape, 1)[:3]
        if bands > _MAX_BANDS:
            raise InvalidTask(f"a raster of shape {payload.shape}: expected 1 to {_MAX_BANDS} bands")
        if dtype not in _WHITE:
            raise InvalidTask(f"a raster of {payload.dtype!r}: expected one of {', '.join(_WHITE)}")
        samples: Samples = np.frombuffer(payload.data, dtype).reshape(height, width, bands)
        return cls(samples, _WHITE[dtype])

    @property
    def height(self) -> int:
        return self.samples.shape[0]

    @property
    def width(self) -> int:
        return self.samples.shape[1]

    @property
    def bands(self) -> int:
        return self.samples.shape[2]

    @property
    def colours(self) -> int:
        """Number of bands without alpha: 1 if the picture is grey, otherwise 3."""
        return 1 if self.bands < 3 else 3  # noqa: PLR2004 (red, green, blue)

    @property
    def has_alpha(self) -> bool:
        return self.bands in (2, 4)

    def part(self, top: int, left: int, height: int, width: int) -> Picture:
        """Returns a part of the picture, which reads the same memory."""
        return Picture(self.samples[top : top + height, left : left + width], self.white)

    def floats(self, top: int, bottom: int, left: int = 0, right: int | None = None) -> Floats:
        """Returns a part of the picture, all bands, as a new array of shape (rows, columns, bands)."""
        part = self.samples[top:bottom, left:right].astype(np.float32)
        part *= np.float32(1 / self.white)
        return part

    def every_row(self, top: int, bottom: int, step: int) -> Floats:
        """Returns every `step`-th row. Without alpha these are its samples; otherwise values from 0 to 1, on a grey background
        where the picture is transparent."""
        rows = self.samples[top:bottom:step]
        return self._flattened(rows * np.float32(1 / self.white)) if self.has_alpha else rows

    def colours_at(self, top: int, bottom: int, pixels: Any, *, is_flattened: bool = True) -> Floats:
        """Returns some pixels of some rows without alpha, of shape (colours, pixels): on a grey background, or with their own
        colours. `pixels` are their indices, counted from the first pixel of the first row."""
        samples = np.take(self.samples[top:bottom].reshape(-1, self.bands), pixels, 0)
        found = np.ascontiguousarray(samples.T, np.float32)
        found *= np.float32(1 / self.white)
        return self._flattened(found.T).T if is_flattened else found[: self.colours]

    def _flattened(self, part: Floats) -> Floats:
        if not self.has_alpha:
            return part
        alpha = part[..., -1:]
        return part[..., :-1] * alpha + np.float32(0.5) * (1 - alpha)


def strips(height: int, width: int, min_rows: int = 1) -> Iterator[tuple[int, int]]:
    """Cuts a picture into strips. Returns the first row of each strip, and the row after its last."""
    rows = max(_STRIP_PIXELS // width, min_rows, 1)
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def to_samples(values: Floats, into: Samples, white: float) -> None:
    """Writes values into samples, rounded and clipped if these are integers."""
    scaled = values * np.float32(white)
    if into.dtype.kind == "u":
        np.clip(scaled, 0, white, out=scaled)
        np.rint(scaled, out=scaled)
    into[...] = scaled


def put_pixels(values: Floats, pixels: Samples, into: Samples, white: float) -> None:
    """Writes values, of shape (bands, pixels), into some pixels of samples, of shape (rows, width, bands). `pixels` are their
    indices, counted from the first pixel of the first row."""
    written = np.empty(values.shape[::-1], into.dtype)
    to_samples(values.T, written, white)
    pixel = np.dtype((np.void, into.itemsize * into.shape[2]))  # one value instead of an array: a quarter of the time
    np.put(into.view(pixel), pixels, written.view(pixel))


def allocate_picture(task: Task, height: int, width: int, bands: int, dtype: str) -> tuple[memoryview, Samples]:
    """Returns a block of result memory for a picture, and its samples as an array over that block."""
    kind = np.dtype(dtype)
    block = task.allocate(height * width * bands * kind.itemsize)
    samples: Samples = np.frombuffer(block, kind).reshape(height, width, bands)
    return block, samples


def raster_of(block: memoryview, samples: Samples) -> Raster:
    """Returns the result that lies in a block of result memory."""
    height, width, bands = samples.shape
    info = {"media_type": "application/octet-stream", "format": "raw", "width": width, "height": height, "bands": bands}
    return Raster(block, samples.shape, samples.dtype.str, info)


NATIVE_FLOAT = "<f4" if sys.byteorder == "little" else ">f4"
