"""Handles of shared memory, and the shapes that a block can have."""

from __future__ import annotations

import numpy as np
import pytest

from offloop.wire.handles import INBOX, OUTBOX, EncodedAt, Handle, RasterAt, itemsize_of


def block_of(nbytes: int) -> Handle:
    return Handle(OUTBOX, 4096, nbytes, 7)


def test_segment_numbers_are_the_same_on_both_ends() -> None:
    assert (INBOX, OUTBOX) == (0, 1)


@pytest.mark.parametrize(
    ("shape", "dtype", "nbytes"),
    [
        ((2, 3, 4), "|u1", 24),
        ((2, 3, 1), "<u2", 12),
        ((1, 1, 1), ">f8", 8),
        ((5, 5, 3), "<c16", 1200),
        ((1, 2, 3), "|b1", 6),
        ((5,), "|u1", 5),
        ((1,) * 8, "|u1", 1),
    ],
)
def test_samples_that_fill_their_block_are_accepted(shape: tuple[int, ...], dtype: str, nbytes: int) -> None:
    assert RasterAt(block_of(nbytes), shape, dtype).shape == shape


@pytest.mark.parametrize(
    ("shape", "dtype", "nbytes"),
    [
        ((2, 3, 4), "|u1", 23),
        ((2, 3, 4), "|u1", 25),
        ((2, 3, 4), "<u2", 24),
        ((-2, -3, 4), "|u1", 24),
        ((0, 3, 4), "|u1", 1),
        ((1 << 32, 1 << 32, 1), "|u1", 0),
    ],
)
def test_samples_that_do_not_fill_their_block_exactly_are_refused(shape: tuple[int, ...], dtype: str, nbytes: int) -> None:
    with pytest.raises(ValueError, match="does not fill"):
        RasterAt(block_of(nbytes), shape, dtype)


def test_without_a_block_there_are_no_samples() -> None:
    assert RasterAt(None, (0, 4, 3), "|u1").block is None
    with pytest.raises(ValueError, match="does not fill 0 bytes"):
        RasterAt(None, (1, 4, 3), "|u1")


@pytest.mark.parametrize("dtype", ["|u1", "<u2", ">u4", "<i8", "|i1", "<f2", "<f4", ">f8", "<f16", "<c8", "<c16", "|b1"])
def test_the_size_of_a_sample_is_that_of_numpy(dtype: str) -> None:
    assert itemsize_of(dtype) == np.dtype(dtype).itemsize


@pytest.mark.parametrize(
    "dtype", ["", "u1", "<", "<u", "<u3", "|O", "|O8", "|S4", "<U4", "|V8", "<M8[s]", "<M8", "<u1 ", "x" * 1000, "<u-1", "⟨u1"]
)
def test_a_dtype_that_is_not_a_plain_number_is_refused(dtype: str) -> None:
    with pytest.raises(ValueError, match="is not a plain numeric type"):
        itemsize_of(dtype)


@pytest.mark.parametrize("dtype", ["<b2", "<b8", "<f1", "<c1", "<c4", "<u16", "<i16"])
def test_a_dtype_that_numpy_does_not_know_is_refused(dtype: str) -> None:
    with pytest.raises(TypeError):
        np.dtype(dtype)
    with pytest.raises(ValueError, match="is not a plain numeric type"):
        itemsize_of(dtype)


def test_bytes_need_no_shape() -> None:
    assert EncodedAt(None).block is None
    assert EncodedAt(block_of(3)).block == block_of(3)


def test_an_empty_shape_that_no_array_can_have_is_refused() -> None:
    for shape, dtype in (((0, 1 << 29, 1 << 29), "<c16"), ((0,), "|u1"), ((1 << 20, 0, *[1 << 6] * 6), "|u1")):
        assert RasterAt(None, shape, dtype).shape == np.empty(shape, dtype).shape
    for shape in ((0, (1 << 62) + 1), (0, *[1 << 9] * 7)):
        with pytest.raises(ValueError, match="no array can have it"):
            RasterAt(None, shape, "|u1")


@pytest.mark.parametrize("shape", [(), (1,) * 9], ids=len)
def test_an_array_of_no_dimension_or_of_too_many_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"{len(shape)} dimensions; give 1 to 8"):
        RasterAt(block_of(1), shape, "|u1")
