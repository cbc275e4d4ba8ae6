"""Music for the tests, synthesized: click tracks of a known tempo, and WAV files of every kind."""

from __future__ import annotations

import struct
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["click_times", "click_track", "riff", "wav_file"]

Samples: TypeAlias = npt.NDArray[Any]  # of float64

RATE = 22_050


def click_times(bpm: float, seconds: float, first_s: float = 0.25) -> Samples:
    return np.arange(first_s, seconds - 0.1, 60 / bpm)


def click_track(times_s: Samples, seconds: float, *, noise: float = 0.0, rate: int = RATE) -> Samples:
    """Clicks of 30 ms at half of full scale, with white noise of the given amplitude (standard deviation)."""
    random = np.random.default_rng(7)
    samples = random.normal(0, noise, round(seconds * rate)) if noise else np.zeros(round(seconds * rate))
    ages = np.arange(round(0.03 * rate)) / rate
    click = 0.5 * np.sin(2 * np.pi * 1000 * ages) * np.exp(-ages / 0.008)
    for time_s in times_s:
        start = round(time_s * rate)
        part = samples[start : start + click.size]
        part += click[: part.size]
    return np.clip(samples, -1, 1)


def wav_file(samples: Samples, *, rate: int = RATE, bits: int = 16, is_float: bool = False) -> bytes:
    """A WAV file of samples from -1 to 1, of shape (count,) or (count, channels)."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", 3 if is_float else 1, channels, rate, rate * block, block, bits)
    return riff(form, _encoded(samples, bits, is_float))


def riff(form: bytes | None, data: bytes | None, *, before: bytes = b"", data_nbytes: int | None = None) -> bytes:
    """A RIFF file of a format and samples, each left out if None. `data_nbytes` is the length that the header promises."""
    chunks = before
    if form is not None:
        chunks += struct.pack("<4sI", b"fmt ", len(form)) + form
    if data is not None:
        chunks += struct.pack("<4sI", b"data", len(data) if data_nbytes is None else data_nbytes) + data
    return struct.pack("<4sI4s", b"RIFF", 4 + len(chunks) & 0xFFFFFFFF, b"WAVE") + chunks


def _encoded(samples: Samples, bits: int, is_float: bool) -> bytes:
    if is_float:
        return samples.astype(f"<f{bits // 8}").tobytes()
    if bits == 8:
        return (np.rint(samples * 127) + 128).astype("u1").tobytes()
    integers = np.rint(samples * float(2 ** (bits - 1) - 1)).astype("<i8").reshape(-1, 1)
    return integers.view("u1")[:, : bits // 8].tobytes()
