"""Base class of the operations between Decode and the output step: how they are applied, and what they cost.

The costs were measured by `benchmarks/calibrate_vips.py` with libvips 8.18 on pictures like photographs, and rounded up.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from offloop.operation import Attachment, Operation

from ..colours import Rgba
from ..geometry import Size
from ..picture import TILE, Picture

__all__ = ["RowReads", "Shape", "Step", "StepCost"]


class Shape(NamedTuple):
    """Size and bands of one page."""

    size: Size
    bands: int  # alpha included

    @property
    def has_alpha(self) -> bool:
        return self.bands in (2, 4)

    @property
    def colour_bands(self) -> int:
        return self.bands - self.has_alpha

    def with_colours(self, bands: int) -> Shape:
        """Returns the shape with other colour bands, and with its alpha."""
        return self._replace(bands=bands + self.has_alpha)

    def with_bands_for(self, colour: Rgba) -> Shape:
        """Returns the shape with the bands that a background of `colour` needs, as `Picture.with_bands_for`."""
        colours = self.colour_bands if colour.is_grey else 3
        return self._replace(bands=colours + (self.has_alpha or colour.alpha < 1))


class StepCost(NamedTuple):
    """Memory and CPU time of a step. The CPU time is for each byte of samples, of the input or the result if that is larger."""

    work_ns: float = 2.5  # CPU time in nanoseconds for each byte
    alpha_factor: float = 1.5  # factor of the CPU time for a picture with alpha, because premultiplied samples are float
    rows: int = 250  # buffered rows of the input
    fixed_nbytes: int = 0  # bytes for a picture of any size
    alpha_fixed_nbytes: int = 2_500_000  # bytes for a picture of any size with alpha, because libvips computes in tiles
    needs_random_access: bool = False  # whether rows are read in any order, so that they are copied to memory
    window: int = 0  # rows above and below a row that are read to compute it
    times: float = 1.0  # times that a pixel of a picture in memory is read, beside windows


class RowReads(NamedTuple):
    """How a step reads the rows of its input."""

    rows: int = 1  # rows that are read at a time
    times: float = 1.0  # times that each pixel is read


class Step(Operation, frozen=True):
    """An operation that makes a picture from a picture. `apply` is carried out in a worker; the rest is for estimates."""

    applies_orientation: ClassVar[bool] = False
    """Whether `apply` takes a picture whose EXIF orientation has not been applied yet."""

    has_exact_shape: ClassVar[bool] = True
    """Whether `shape_after` is the size of the result, and not its greatest or its approximate size."""

    @property
    def attached(self) -> tuple[Attachment, ...]:
        """The further sources that the step reads."""
        return ()

    def apply(self, picture: Picture) -> Picture:
        """Returns the picture after this step. It calls libvips only through methods of the image.

        Raises:
            InvalidTask: the step is not possible for this picture.
            TaskFailed: "too_many_pixels".
        """
        raise NotImplementedError

    def shape_after(self, shape: Shape) -> Shape:
        """Returns size and bands of the result for a picture of `shape`: the largest size, if it depends on the content."""
        return shape

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002 (the signature is the contract)
        """Returns what the step costs for a picture of `shape`."""
        return StepCost()

    def reads(self, shape: Shape, *, is_sequential: bool) -> RowReads:
        """Returns how the step reads a picture of `shape`. `is_sequential`: its rows come from a file, from the top down.

        A file counts as read once. Kept tiles would be computed column by column, and the decoder does not keep the rows for
        all tiles below each other that a window touches.
        """
        if is_sequential:
            return RowReads()
        cost = self.cost(shape)
        rows, times = TILE + 2 * cost.window, cost.times
        for side in shape.size:
            times *= min(rows, side) / min(TILE, side)
        return RowReads(shape.size.height if cost.times > 1 else min(rows, shape.size.height), times)
