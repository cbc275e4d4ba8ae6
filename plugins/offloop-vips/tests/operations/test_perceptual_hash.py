"""Perceptual hash."""

from __future__ import annotations

from typing import Any

import numpy as np

from offloop_vips import Jpeg, PerceptualHash


def picture(seed: int) -> Any:
    """A picture of 256 x 192 pixels of large random blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3))
    return blocks.repeat(32, 0).repeat(32, 1).astype("u1")


def bits(bench: Any, source: Any) -> int:
    text = bench.run(source, PerceptualHash()).info["perceptual_hash"]
    assert len(text) == 16
    return int(text, 16)


def test_another_size_or_quality_of_a_picture_shares_most_bits(bench: Any):
    original = bits(bench, picture(1))
    poor = bytes(bench.run(picture(1), Jpeg(quality=10)).data)
    assert (original ^ bits(bench, picture(1)[::2, ::2])).bit_count() <= 6
    assert (original ^ bits(bench, poor)).bit_count() <= 6


def test_unrelated_pictures_share_about_half(bench: Any):
    hashes = [bits(bench, picture(seed)) for seed in range(5)]
    assert min((a ^ b).bit_count() for index, a in enumerate(hashes) for b in hashes[:index]) > 12


def test_the_bits_are_the_signs_of_low_frequencies(bench: Any):
    grey = picture(2)[::6, ::8][:32, :32, :1].copy()  # 32 x 32 pixels, which are not resized
    wave = np.cos(np.pi * np.outer(np.arange(8), 2 * np.arange(32) + 1) / 64)
    values = (wave @ grey[..., 0].astype(float) @ wave.T).ravel()
    expected = int("".join("1" if value > np.median(values) else "0" for value in values), 2)
    assert bits(bench, grey) == expected
