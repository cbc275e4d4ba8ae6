"""BlurHash."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import BlurHash

NINE = (
    "|oF=?,2lwsbcWnofSKs:SKqKW8jye:fOjIa{jIa_gEfofPfgfTfhfRfifRs;WojqfUfOjsa~jsa}eof5fTf4fPf9fOf8fPt7W=jrfifTj;a~j[a{enf6f"
    "Rf9fOf9fRf5fSt7W;jsfifSj[a_j]a{eVf5fSf8fQf5fSf6fO"
)


def picture() -> Any:
    y, x = np.mgrid[0:16, 0:24]
    return np.stack([x * 10, y * 15, (x * 7 + y * 11) % 256], -1).astype("u1")


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        ((4, 3), "LoF=?,2lwsbcqKW8jye:gEfofPfg"),
        ((1, 1), "00F=?,"),
        ((9, 9), NINE),
    ],
)
def test_it_is_the_hash_of_the_reference_in_c(bench: Any, components: tuple[int, int], expected: str):
    result = bench.run(picture(), BlurHash(*components))
    assert result.info["blurhash"] == expected
    assert bytes(result.data).decode() == f'{{"blurhash":"{expected}"}}'


def test_a_large_picture_has_the_hash_of_a_small_one(bench: Any):
    large = picture().repeat(8, 0).repeat(8, 1)
    small, reduced = (bench.run(array, BlurHash(1, 1)).info["blurhash"] for array in (picture(), large))
    assert small[:4] == reduced[:4]


def test_transparent_pixels_show_the_background(bench: Any):
    clear = np.zeros((8, 8, 4), "u1")
    assert bench.run(clear, BlurHash(1, 1)).info == bench.run(np.full((8, 8, 3), 255, "u1"), BlurHash(1, 1)).info
    assert bench.run(clear, BlurHash(1, 1, "#000")).info == bench.run(np.zeros((8, 8, 1), "u1"), BlurHash(1, 1)).info


@pytest.mark.parametrize("parameters", [(0, 1), (1, 10), (4, 3, "#0000"), (4, 3, "nix")])
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask):
        BlurHash(*parameters)
