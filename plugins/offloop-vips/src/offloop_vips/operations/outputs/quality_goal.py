"""Goal of an encoder that searches its quality: a number of bytes, or a similarity."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import Meta

from offloop.errors import InvalidTask

__all__ = ["MaxBytes", "QualityTarget", "check_goal", "ssim_of"]

MaxBytes: TypeAlias = Annotated[int, Meta(ge=1)]
"""Length in bytes."""

QualityTarget: TypeAlias = Annotated[str, Meta(pattern=r"^ssim:(0(\.\d{1,6})?|1(\.0{1,6})?)$")]
"""A measure and its least value: "ssim:0.98"."""


def check_goal(encoder: Any, default_quality: int) -> None:
    """Refuses goals of an encoder that have no meaning.

    Raises:
        InvalidTask: there is a goal, but the file is lossless; or a quality is given, although the target decides about it.
    """
    name, lossless = type(encoder).__name__, getattr(encoder, "lossless", False)
    if (encoder.max_bytes is not None or encoder.target is not None) and lossless:
        raise InvalidTask(f"{name}(lossless=True): max_bytes and target need a quality that can be reduced")
    if encoder.target is not None and encoder.quality != default_quality:
        raise InvalidTask(f"{name}(quality={encoder.quality}, target={encoder.target!r}): the target decides about the quality")


def ssim_of(target: str) -> float:
    """Returns the least structural similarity, 0 to 1, of a checked target."""
    return float(target.partition(":")[2])
