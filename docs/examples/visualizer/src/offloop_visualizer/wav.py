"""`Wav`: the samples of a WAV file, read in place, a range at a time.

The parser accepts the files that programs write in practice: PCM of 8, 16, 24 and 32 bits, float of 32 and 64 bits, the
extensible header, RF64, a `data` chunk whose length was never filled in, and a file that ends too early. It refuses all
others by name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from offloop.errors import TaskFailed

__all__ = ["Floats", "Wav"]

Floats: TypeAlias = npt.NDArray[Any]  # because numpy's types do not know float32 through a computation
"""A numpy array of float32."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_CODECS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "IMA ADPCM", 0x50: "MPEG", 0x55: "MP3", 0xFF: "AAC"}
_RIFF_HEADER_NBYTES, _CHUNK_HEADER_NBYTES, _FORMAT_NBYTES = 12, 8, 16
_MIN_RATE, _MAX_RATE = 4_000, 384_000
_MAX_CHANNELS = 32
_MAX_CHUNKS = 10_000  # before the samples; a real file has fewer than twenty


@dataclass(frozen=True, slots=True)
class Wav:
    """Samples of a WAV file. It refers to the memory of the file."""

    data: memoryview  # whole sample frames
    rate: int  # sample frames per second
    channels: int
    sample_nbytes: int  # bytes of one sample of one channel
    is_float: bool
    is_truncated: bool  # whether the header promises more samples than there are

    @classmethod
    def parse(cls, file: memoryview) -> Wav:
        """Read the header of a file.

        Raises:
            TaskFailed: with the code "unsupported_format" (not a WAV file, or a codec, a rate or a number of channels that
                is not read), "broken_audio" (the header contradicts itself or is not complete), or "no_audio" (no samples).
        """
        if len(file) < _RIFF_HEADER_NBYTES or bytes(file[:4]) not in (b"RIFF", b"RF64") or bytes(file[8:12]) != b"WAVE":
            raise TaskFailed("unsupported_format", f"not a WAV file: {len(file):,} bytes that do not start with RIFF and WAVE")
        form: bytes | None = None
        for name, start, nbytes in _chunks(file):
            if name == b"fmt ":
                form = bytes(file[start : start + min(nbytes, 40)])
            elif name == b"data":
                if form is None:
                    raise TaskFailed("broken_audio", "the WAV file has samples before its format ('data' before 'fmt ')")
                return cls._of(form, file[start : start + nbytes], nbytes)
        missing = "'data'" if form else "'fmt '"
        raise TaskFailed("broken_audio", f"the WAV file ends before its chunk {missing}: it is truncated, or has no samples")

    @classmethod
    def _of(cls, form: bytes, data: memoryview, promised_nbytes: int) -> Wav:
        codec, channels, rate, bits = _read_format(form)
        if codec not in (_PCM, _FLOAT) or bits not in ((32, 64) if codec == _FLOAT else (8, 16, 24, 32)):
            name = {_PCM: "PCM", _FLOAT: "float"}.get(codec, _CODECS.get(codec, "an unknown codec"))
            raise TaskFailed("unsupported_format", f"{bits}-bit {name} (0x{codec:04x}) in the WAV file: expected PCM or float")
        if not 1 <= channels <= _MAX_CHANNELS:
            raise TaskFailed("unsupported_format", f"{channels} channels in the WAV file: expected 1 to {_MAX_CHANNELS}")
        if not _MIN_RATE <= rate <= _MAX_RATE:
            raise TaskFailed("unsupported_format", f"{rate:,} Hz in the WAV file: expected {_MIN_RATE:,} to {_MAX_RATE:,}")
        frame_nbytes = channels * (bits // 8)
        whole = data[: len(data) // frame_nbytes * frame_nbytes]
        if not whole:
            raise TaskFailed("no_audio", "the WAV file has no samples")
        return cls(whole, rate, channels, bits // 8, codec == _FLOAT, len(data) < promised_nbytes)

    @property
    def count(self) -> int:
        """Number of sample frames."""
        return len(self.data) // (self.channels * self.sample_nbytes)

    def mono(self, first: int, count: int) -> Floats:
        """Returns the mean of the channels from -1 to 1, as float32 of shape (count,). Outside the file there is silence.

        Samples that are not finite are silence, and larger ones are clipped.
        """
        begin, end = max(first, 0), min(first + count, self.count)
        result = np.zeros(count, np.float32)
        if begin < end:
            frame_nbytes = self.channels * self.sample_nbytes
            values = self._decode(self.data[begin * frame_nbytes : end * frame_nbytes]).reshape(-1, self.channels)
            mixed = values[:, 0] if self.channels == 1 else values.mean(axis=1)
            result[begin - first : end - first] = mixed
        return result

    def _decode(self, data: memoryview) -> Floats:
        if self.is_float:
            values = np.frombuffer(data, f"<f{self.sample_nbytes}")
            with np.errstate(over="ignore", invalid="ignore"):
                return np.nan_to_num(values.astype(np.float32), nan=0.0).clip(-1.0, 1.0)
        return _INTEGERS[self.sample_nbytes](data)


def _chunks(file: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Yields name, start and declared length of each chunk. The length may exceed the file."""
    start = _RIFF_HEADER_NBYTES
    for _ in range(_MAX_CHUNKS):
        if start + _CHUNK_HEADER_NBYTES > len(file):
            return
        name, nbytes = struct.unpack_from("<4sI", file, start)
        start += _CHUNK_HEADER_NBYTES
        yield name, start, nbytes
        start += nbytes + nbytes % 2


def _read_format(form: bytes) -> tuple[int, int, int, int]:
    """Returns codec, channels, rate and bits of a `fmt ` chunk."""
    if len(form) < _FORMAT_NBYTES:
        raise TaskFailed("broken_audio", f"the format of the WAV file has {len(form)} bytes: expected {_FORMAT_NBYTES}")
    codec, channels, rate, _, block_nbytes, bits = struct.unpack_from("<HHIIHH", form)
    if codec == _EXTENSIBLE and len(form) >= 26:  # the codec is at the start of a GUID at byte 24
        (codec,) = struct.unpack_from("<H", form, 24)
    if codec in (_PCM, _FLOAT) and block_nbytes != channels * (bits // 8):
        raise TaskFailed(
            "broken_audio", f"the format of the WAV file has {block_nbytes} bytes for {channels} samples of {bits} bits"
        )
    return codec, channels, rate, bits


def _from_8_bits(data: memoryview) -> Floats:
    return (np.frombuffer(data, "u1").astype(np.float32) - 128.0) / np.float32(128)


def _from_16_bits(data: memoryview) -> Floats:
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(1 << 15)


def _from_24_bits(data: memoryview) -> Floats:
    wide = np.zeros((len(data) // 3, 4), "u1")
    wide[:, 1:] = np.frombuffer(data, "u1").reshape(-1, 3)  # the high bytes of 32 bits, so that the sign is right
    return wide.view("<i4").reshape(-1).astype(np.float32) / np.float32(1 << 31)


def _from_32_bits(data: memoryview) -> Floats:
    return np.frombuffer(data, "<i4").astype(np.float32) / np.float32(1 << 31)


_INTEGERS: dict[int, Callable[[memoryview], Floats]] = {1: _from_8_bits, 2: _from_16_bits, 3: _from_24_bits, 4: _from_32_bits}
