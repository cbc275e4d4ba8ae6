"""Every kind of WAV file has the same samples, and all other bytes are refused with a code."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from offloop import TaskFailed
from offloop_visualizer.wav import Wav

from .music import riff, wav_file

RATE = 22_050
TONE = 0.5 * np.sin(np.arange(1000) * 0.05)
PCM_16 = struct.pack("<HHIIHH", 1, 1, RATE, RATE * 2, 2, 16)
SAMPLES = np.rint(TONE * 32767).astype("<i2").tobytes()


def parse(file: bytes) -> Wav:
    return Wav.parse(memoryview(file))


def code_of(file: bytes) -> str:
    with pytest.raises(TaskFailed) as caught:
        parse(file)
    return caught.value.code


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize(
    ("bits", "is_float", "tolerance"),
    [(8, False, 0.01), (16, False, 1e-4), (24, False, 1e-6), (32, False, 1e-6), (32, True, 1e-7), (64, True, 1e-7)],
)
def test_every_encoding_has_the_same_samples(bits: int, is_float: bool, tolerance: float, channels: int) -> None:
    samples = TONE if channels == 1 else np.stack([TONE * (number != 1) for number in range(channels)], axis=1)
    wav = parse(wav_file(samples, bits=bits, is_float=is_float))
    assert (wav.rate, wav.channels, wav.count, wav.is_truncated) == (RATE, channels, 1000, False)
    mixed = TONE if channels == 1 else TONE * (channels - 1) / channels
    assert np.abs(wav.mono(0, 1000) - mixed).max() < tolerance
    assert wav.mono(0, 1000).dtype == np.float32


def test_the_extensible_header_names_its_codec_in_a_guid() -> None:
    form = struct.pack("<HHIIHHHHIH", 0xFFFE, 1, RATE, RATE * 2, 2, 16, 22, 16, 4, 1) + bytes(14)
    assert np.array_equal(parse(riff(form, SAMPLES)).mono(0, 1000), parse(riff(PCM_16, SAMPLES)).mono(0, 1000))


def test_other_chunks_may_come_first() -> None:
    odd = struct.pack("<4sI", b"LIST", 3) + b"abc\0"
    assert parse(riff(PCM_16, SAMPLES, before=odd)).count == 1000
    assert parse(b"RF64" + riff(PCM_16, SAMPLES)[4:]).count == 1000


@pytest.mark.parametrize("promised", [0xFFFFFFFF, len(SAMPLES) + 1])
def test_a_file_may_end_before_its_header_says(promised: int) -> None:
    wav = parse(riff(PCM_16, SAMPLES[:-3], data_nbytes=promised))
    assert (wav.count, wav.is_truncated) == (998, True)


def test_before_and_after_the_music_there_is_silence() -> None:
    wav = parse(riff(PCM_16, SAMPLES))
    around = wav.mono(-10, 1020)
    assert np.array_equal(around, np.pad(wav.mono(0, 1000), 10))
    assert not wav.mono(5000, 10).any()
    assert not wav.mono(-5000, 10).any()


def test_floats_that_are_no_sound_are_clipped_or_silent() -> None:
    wav = parse(wav_file(np.array([np.nan, np.inf, -np.inf, 1e300, 0.25]), bits=64, is_float=True))
    assert wav.mono(0, 5).tolist() == [0, 1, -1, 1, 0.25]


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (b"", "unsupported_format"),
        (b"RIFF", "unsupported_format"),
        (b"ID3\x04 not a WAV file at all", "unsupported_format"),
        (b"RIFF\x04\0\0\0AVI ", "unsupported_format"),
        (riff(struct.pack("<HHIIHH", 0x55, 2, RATE, 16000, 1, 0), SAMPLES), "unsupported_format"),
        (riff(struct.pack("<HHIIHH", 1, 1, RATE, RATE, 1, 12), SAMPLES), "unsupported_format"),
        (riff(struct.pack("<HHIIHH", 3, 1, RATE, RATE, 2, 16), SAMPLES), "unsupported_format"),
        (riff(struct.pack("<HHIIHH", 1, 1, 10, 20, 2, 16), SAMPLES), "unsupported_format"),
        (riff(struct.pack("<HHIIHH", 1, 0, RATE, 0, 0, 16), SAMPLES), "unsupported_format"),
        (riff(struct.pack("<HHIIHH", 1, 1000, RATE, 1, 2000, 16), SAMPLES), "unsupported_format"),
        (riff(struct.pack("<HHIIHH", 1, 2, RATE, RATE, 2, 16), SAMPLES), "broken_audio"),
        (riff(PCM_16[:10], SAMPLES), "broken_audio"),
        (riff(None, SAMPLES), "broken_audio"),
        (riff(None, None), "broken_audio"),
        (riff(PCM_16, None), "broken_audio"),
        (riff(PCM_16, b""), "no_audio"),
        (riff(PCM_16, b"x"), "no_audio"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_a_code(file: bytes, code: str) -> None:
    assert code_of(file) == code


def test_a_file_may_be_cut_anywhere() -> None:
    file = riff(PCM_16, SAMPLES)
    counts = [parse(file[:length]).count for length in range(46, len(file) + 1)]
    assert counts == [(length - 44) // 2 for length in range(46, len(file) + 1)]
    assert {code_of(file[:length]) for length in range(46)} == {"unsupported_format", "broken_audio", "no_audio"}


def test_damaged_headers_are_refused_or_read_and_nothing_else() -> None:
    random = np.random.default_rng(3)
    file = riff(PCM_16, SAMPLES)
    refused = 0
    for _ in range(3000):
        damaged = bytearray(file)
        for place in random.integers(0, 44, 3):
            damaged[place] = random.integers(256)
        try:
            wav = parse(bytes(damaged))
        except TaskFailed:
            refused += 1
        else:
            assert np.isfinite(wav.mono(0, wav.count)).all()
    assert 100 < refused < 2900
