"""Which operation may stand where: Decode first, an encoder or Raw last, everything else between, in the order written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offloop.errors import InvalidTask
from offloop.operation import Operation, describe

from .geometry import Size
from .headers.formats import FormatName
from .operations import AutoOrient, Avif, Decode, Encoder, Jpeg, Png, Raw, Resize, Webp
from .operations.resize import fitting

__all__ = ["Pipeline", "default_encoder", "shrink_on_load"]

SHRINKING = ("jpeg", "webp")
_AS_BY_DEFAULT = Decode()  # made once: checking its fields costs a fifth of an estimate
SHRINKS = (8, 4, 2)  # what a JPEG decoder can leave out while it decodes, at next to no cost in quality


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A list of operations, sorted by their roles."""

    decode: Decode
    steps: tuple[Operation, ...]
    ending: Encoder | Raw | None
    """None where the list names none: the source's own kind is made again."""

    @classmethod
    def of(cls, operations: Sequence[Operation], *, encoded: bool) -> Pipeline:
        """Sort a list of operations.

        Raises:
            InvalidTask: one stands where it cannot.
        """
        for place, operation in enumerate(operations):
            if isinstance(operation, Decode):
                _check_decode(operation, place, encoded=encoded)
            if isinstance(operation, Encoder | Raw) and place != len(operations) - 1:
                after = describe(operations[place + 1])
                raise InvalidTask(f"{describe(operation)} ends a pipeline, but {after} comes after it")
        decode, ending = None, None
        if operations and isinstance(first := operations[0], Decode):
            decode, operations = first, operations[1:]
        if operations and isinstance(last := operations[-1], Encoder | Raw):
            ending, operations = last, operations[:-1]
        return cls(decode or _AS_BY_DEFAULT, tuple(operations), ending)

    @property
    def first_resize(self) -> tuple[Resize, bool] | None:
        """The resize that sees the picture as it was decoded, and whether it sees it upright; None if another step comes first.

        Then the decoder may leave out detail that the resize would throw away.
        """
        auto_orient = self.decode.auto_orient
        for step in self.steps:
            if isinstance(step, AutoOrient):
                auto_orient = True
            else:
                return (step, auto_orient) if isinstance(step, Resize) else None
        return None


def default_encoder(source: FormatName, pages: int) -> Encoder:
    """What is made of an encoded source whose pipeline names no ending: the same format, with that format's defaults.

    GIF and TIFF sources become PNG, which loses nothing, and several pages become a WebP animation.
    """
    if pages > 1:
        return Webp()
    return {"jpeg": Jpeg, "webp": Webp, "avif": Avif}.get(source, Png)()


def shrink_on_load(pipeline: Pipeline, source: FormatName, stored: Size, orientation: int) -> int:
    """By how much one page of a source is shrunk while it is decoded; 1 where it is not.

    It is the most that still leaves the resize at least as many pixels as it is to make. libvips' own `thumbnail` leaves it
    twice as many, which takes twice as long at a reduction of 3.8.
    """
    if source not in SHRINKING or pipeline.first_resize is None:
        return 1
    resize, auto_orient = pipeline.first_resize
    if resize.kernel == "nearest":  # picks pixels of the original, and nothing else will do
        return 1
    seen = stored.turned if auto_orient and orientation >= 5 else stored  # noqa: PLR2004 (5 to 8 are the ones on their side)
    least = fitting(resize, seen).scaled
    return next((by for by in SHRINKS if seen.width // by >= least.width and seen.height // by >= least.height), 1)


def _check_decode(decode: Decode, place: int, *, encoded: bool) -> None:
    if not encoded:
        raise InvalidTask(f"{describe(decode)}: the source is a raster already, there is nothing to decode")
    if place != 0:
        raise InvalidTask(f"{describe(decode)} can only be the first step, and it stands at place {place + 1}")
