"""Join channel: bands of a second picture."""

from __future__ import annotations

from typing import ClassVar

from offloop.errors import InvalidTask
from offloop.operation import Attachment

from ...picture import Picture, interpretation_of
from ..step import Shape, Step, StepCost

__all__ = ["JoinChannel"]

_MAX_BANDS = 4


class JoinChannel(Step, frozen=True):
    """Adds the bands of a second picture of the same size. Two bands are grey and alpha, three are colours, four have alpha.

    A mask, which is grey, gives a picture without alpha its alpha.
    """

    has_exact_shape: ClassVar[bool] = False

    channel: Attachment
    """Source of the second picture: anything that is a source of `Pool.run`."""

    @property
    def attached(self) -> tuple[Attachment, ...]:
        return (self.channel,)

    def apply(self, picture: Picture) -> Picture:
        picture = picture.in_known_colours().straight()
        other = picture.evaluation.load_attachment(self.channel.index, picture)
        if other.page_size != picture.page_size:
            sizes = "{} x {}, and the picture has {} x {}".format(*other.page_size, *picture.page_size)
            raise InvalidTask(f"JoinChannel: the second picture has {sizes}; make them equal with Resize")
        bands = picture.image.bands + other.image.bands
        if bands > _MAX_BANDS:
            raise InvalidTask(f"JoinChannel: {picture.image.bands} and {other.image.bands} bands are more than four")
        name = interpretation_of(bands, is_deep=picture.is_deep)
        return picture.map_pages(lambda page: page.bandjoin(other.image).copy(interpretation=name))

    def shape_after(self, shape: Shape) -> Shape:
        return shape._replace(bands=min(shape.bands + 1, _MAX_BANDS))

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=2.0)
