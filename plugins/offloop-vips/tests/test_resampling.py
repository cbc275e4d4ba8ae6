"""Quality and alignment of a resize, compared with Pillow and with a resampler written here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from offloop_vips import Decode, Raw, Resize


def lanczos3(x: Any) -> Any:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


def catmull_rom(x: Any) -> Any:
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def weights(before: int, after: int, kernel: Any) -> Any:
    """Returns the matrix that resamples `before` samples to `after`, with the centres of both pictures at one point."""
    factor = max(before / after, 1.0)
    centres = (np.arange(after) + 0.5) * before / after - 0.5
    reach = int(3 * factor) + 2
    padded = np.arange(-reach, before + reach)
    matrix = kernel((padded[None, :] - centres[:, None]) / factor)
    matrix /= matrix.sum(axis=1, keepdims=True)
    return matrix @ np.eye(before)[padded.clip(0, before - 1)]  # the last pixel continues beyond the edge


def resampled(array: Any, width: int, height: int, kernel: Any = lanczos3) -> Any:
    rows, columns = weights(array.shape[0], height, kernel), weights(array.shape[1], width, kernel)
    return np.einsum("yh,hwb,xw->yxb", rows, array.astype(float), columns, optimize=True).clip(0, 255)


def psnr(array: Any, reference: Any) -> float:
    return 20 * np.log10(255 / np.linalg.norm(array - reference)) + 10 * np.log10(array.size)


@pytest.fixture(scope="module")
def photo() -> Any:
    """A picture with the detail of a photograph: the power of its frequencies falls with their square."""
    height, width = 600, 802
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    noise = np.fft.rfft2(np.random.default_rng(3).standard_normal((3, height, width)))
    detail = np.fft.irfft2(noise / np.maximum(frequency, 1 / width), s=(height, width))
    mixed = detail + 3 * detail.mean(axis=0)  # like a photograph it is mostly grey
    spread = (mixed - mixed.mean()) / mixed.std()
    return np.moveaxis(np.clip(128 + 50 * spread, 0, 255), 0, -1).round().astype("u1")


@pytest.mark.parametrize("size", [(401, 300), (263, 431), (97, 71), (801, 599)])
def test_a_reduction_is_that_of_pillow_and_of_numpy(bench: Any, photo: Any, size: tuple[int, int]):
    shown = bench.show(photo, Resize(*size, fit="fill"))
    least = 50 if size[0] > 200 else 44  # libvips averages whole blocks before it reduces by more than four
    assert psnr(shown, resampled(photo, *size)) > least
    assert psnr(shown, np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS)).astype(float)) > least


@pytest.mark.parametrize("width", [500, 512, 640])
@pytest.mark.parametrize("size", [(201, 300), (133, 100), (161, 800)])
def test_a_reduction_weights_colours_by_alpha_as_that_of_numpy(bench: Any, photo: Any, width: int, size: tuple[int, int]):
    array = np.dstack([photo[:400, :width], photo[200:, :width, 0]])
    alpha = array[..., 3:].astype(float)
    reference = np.dstack([resampled(array[..., :3] * alpha / 255, *size), resampled(alpha, *size)])
    shown = bench.show(array, Resize(*size, fit="fill"))
    assert shown.shape == (size[1], size[0], 4)
    assert psnr(shown[..., 3], reference[..., 3]) > 44
    assert psnr(shown[..., :3] * shown[..., 3:] / 255, reference[..., :3]) > 44


@pytest.mark.parametrize("size", [(201, 300), (133, 100), (61, 800), (300, 30)])
def test_white_of_16_bits_stays_white(bench: Any, size: tuple[int, int]):
    array = np.full((400, 512, 3), 65_535, "<u2")
    assert (bench.show(array, Resize(*size, fit="fill"), Raw("uint16")) == 65_535).all()


@pytest.mark.parametrize("size", [(61, 43), (120, 200), (333, 47)])
def test_an_enlargement_is_that_of_numpy(bench: Any, photo: Any, size: tuple[int, int]):
    small = photo[100:142, 100:160]
    assert psnr(bench.show(small, Resize(*size, fit="fill")), resampled(small, *size, catmull_rom)) > 55


DOTS = (0.15, 0.5, 0.85)  # positions, in parts of width and height


def dots(width: int, height: int) -> Any:
    """Returns a grey picture with soft dots near the left top, in the middle, and near the right bottom."""
    y, x = np.mgrid[0:height, 0:width]
    picture: Any = sum(
        255 * np.exp(-(((x - width * at) ** 2 + (y - height * at) ** 2) / (2 * (height / 30) ** 2))) for at in DOTS
    )
    return np.repeat(picture.round().astype("u1")[..., None], 3, axis=2)


def centres(array: Any) -> Any:
    """Returns the positions of the dots as (dot, axis), in parts of width and height."""
    height, width = array.shape[:2]
    weight = array[..., 1].astype(float) ** 2
    y, x = np.mgrid[0:height, 0:width]
    y, x = (y + 0.5) / height, (x + 0.5) / width
    nearby = [np.where(np.hypot(x - at, y - at) < 0.15, weight, 0) for at in DOTS]
    return np.array([[(x * dot).sum() / dot.sum(), (y * dot).sum() / dot.sum()] for dot in nearby])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("size", [(643, 431), (647, 423)])
@pytest.mark.parametrize("to", [(900, 500), (500, 500), (301, 207), (121, 80), (61, 43)])
def test_a_picture_does_not_shift(bench: Any, suffix: str, size: tuple[int, int], to: tuple[int, int]):
    array = dots(*size)
    source = bench.file(array, suffix, **({} if suffix == ".png" else {"Q": 95}))
    for fast in (False, True):
        shown = bench.show(source, Resize(*to, fit="fill", fast=fast), Raw())
        assert np.abs((centres(shown) - centres(array)) * to).max() < 0.05, "pixels of the result"


@pytest.mark.parametrize("to", [7, 20, 21, 64, 3, 2, 1])
def test_nearest_takes_the_pixel_in_the_middle(bench: Any, to: int):
    array = (np.arange(20, dtype="u1") * 10)[None, :, None]
    shown = bench.show(array, Resize(to, 1, fit="fill", kernel="nearest"))
    assert shown[0, :, 0].tolist() == [int((x + 0.5) * 20 / to) * 10 for x in range(to)]


@pytest.mark.parametrize(("reduction", "loss"), [(2.0, 0.1), (2.5, 0.1), (2.99, 0.1), (4.0, 2), (4.99, 2), (8.1, 9), (8.99, 9)])
def test_shrink_on_load_loses_little_where_it_leaves_the_resize_few_pixels(
    bench: Any, photo: Any, reduction: float, loss: float
):
    source = bench.file(photo, ".jpg", Q=95)
    decoded = bench.show(source, Raw())
    size = (round(802 / reduction), round(600 / reduction))
    reference = resampled(decoded, *size)
    of_all_pixels = psnr(bench.show(decoded.astype("u1"), Resize(*size, fit="fill")), reference)
    by_default, fast = (
        psnr(bench.show(source, Resize(*size, fit="fill", fast=fast), Raw()), reference) for fast in (False, True)
    )
    assert by_default > of_all_pixels - loss
    assert by_default > fast + 5


def test_the_decoder_does_not_mix_colours_of_transparent_pixels_in(bench: Any):
    array = np.zeros((64, 64, 4), "u1")
    array[:, :, :3] = np.where((np.arange(64) // 2 % 2 == 0)[:, None, None], (255, 0, 0), (0, 255, 0))
    array[:, :, 3] = np.where(np.arange(64) // 2 % 2 == 0, 255, 0)[:, None]
    source = bench.file(array, ".webp", lossless=True, exact=True)
    for fast in (False, True):
        shown = bench.show(source, Decode(), Resize(8, fast=fast), Raw())
        assert shown[4, 4, :3] == pytest.approx([255, 0, 0], abs=1)
