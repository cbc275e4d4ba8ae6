"""Pixels of a small picture as Python numbers."""

from __future__ import annotations

from ...picture import Picture

__all__ = ["Rows", "cosine_coefficients", "rows_of"]

Rows = list[list[float]]
"""Values of one band, row by row."""


def rows_of(picture: Picture) -> list[Rows]:
    """Returns the samples of each band, 0 to 255."""
    image = picture.with_depth(8).image
    samples = memoryview(image.write_to_memory()).tolist()
    width, bands = image.width, image.bands
    return [
        [
            [float(sample) for sample in samples[y * width * bands + band : (y + 1) * width * bands : bands]]
            for y in range(image.height)
        ]
        for band in range(bands)
    ]


def cosine_coefficients(rows: Rows, columns: list[list[float]], lines: list[list[float]]) -> list[list[float]]:
    """Returns the sums of all values times a function of x times a function of y.

    Args:
        rows: the values.
        columns: the functions of x, by their values at each column.
        lines: the functions of y, by their values at each row.

    Returns:
        One list for each function of y, with one sum for each function of x.
    """
    across = [[sum(map(float.__mul__, row, column)) for column in columns] for row in rows]
    return [[sum(line[y] * across[y][number] for y in range(len(rows))) for number in range(len(columns))] for line in lines]
