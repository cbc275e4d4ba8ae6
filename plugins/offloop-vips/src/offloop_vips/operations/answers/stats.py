"""Statistics of a picture."""

from __future__ import annotations

from typing import Any

from ...picture import Image, Picture, image_class, interpretation_of
from .answer import Answer

__all__ = ["Stats"]

_LAPLACIAN = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
_BINS = 16  # of each colour band in the histogram of the dominant colour
_COLUMNS = ("min", "max", "sum", "squares_sum", "mean", "stdev", "min_x", "min_y", "max_x", "max_y")  # of `stats` of libvips
_POSITIONS = ("min_x", "min_y", "max_x", "max_y")


class Stats(Answer, frozen=True):
    """Measures the picture: `info.width`, `height`, `bands`, `min`, `max`, `sum`, `squares_sum`, `mean`, `stdev`, `min_x`,
    `min_y`, `max_x`, `max_y`, `is_opaque`, `entropy`, `sharpness` and `dominant`.

    Those from min to max_y are lists with a number for each band; the last four are the positions of a pixel with the least
    and with the greatest sample. White is 255, or 65535 for samples of 16 bits. `entropy` is that of the histogram of greys, in
    bits. `sharpness` is the standard deviation of a Laplacian of the greys, comparable in pictures of one size. `dominant` is
    the colour (red, green, blue) in the middle of the fullest of 4,096 equal bins.
    """

    def answer(self, picture: Picture) -> dict[str, Any]:
        picture = picture.straight().with_random_access()
        image = picture.evaluation.watch(picture.image)
        grey = image.colourspace("b-w")[0]
        laplacian = image_class(image).new_from_array(_LAPLACIAN, scale=9)
        width, height = picture.page_size
        return {
            "width": width,
            "height": height,
            "bands": image.bands,
            **_bands(image),
            "is_opaque": not image.hasalpha() or image[image.bands - 1].min() == picture.max_sample,
            "entropy": grey.hist_find().hist_entropy(),
            "sharpness": grey.conv(laplacian).deviate(),
            "dominant": _dominant(picture),
        }


def _bands(image: Image) -> dict[str, Any]:
    table = image.stats()
    columns = {name: [table(column, 1 + band)[0] for band in range(image.bands)] for column, name in enumerate(_COLUMNS)}
    return columns | {name: [int(value) for value in columns[name]] for name in _POSITIONS}


def _dominant(picture: Picture) -> list[int]:
    image = picture.in_colour().with_depth(8).image[:3].copy(interpretation=interpretation_of(3, is_deep=False))
    histogram = image.hist_find_ndim(bins=_BINS)  # red is x, green is y, and blue is the band
    _, red, green = histogram.maxpos()
    counts = histogram(red, green)
    width = 256 // _BINS
    return [int(number) * width + width // 2 for number in (red, green, counts.index(max(counts)))]
