"""The pipeline of the options of `offloop cluster-map`: of pictures, or any list of operations of a module."""

from __future__ import annotations

from functools import reduce
from importlib import import_module
from typing import Any, cast

from offloop import InvalidTask, Operation

__all__ = ["SUFFIXES", "find_pipeline", "picture_pipeline"]

SUFFIXES = {"webp": ".webp", "jpeg": ".jpg", "png": ".png", "avif": ".avif"}


def picture_pipeline(format_: str, size: int | None, quality: int | None) -> list[Operation]:
    """Operations that make pictures of one format.

    Args:
        format_: one of `SUFFIXES`.
        size: maximum width and height in pixels; None: unchanged.
        quality: 1 to 100; None: the default of the format.

    Raises:
        InvalidTask: offloop-vips is not installed, or an option is out of its range.
    """
    try:
        vips = import_module("offloop_vips")
    except ImportError as error:
        raise InvalidTask(f"--format needs offloop-vips: {error}") from None
    encoder = getattr(vips, format_.capitalize())
    resize = [] if size is None else [vips.Resize(size, size, fit="inside", without_enlargement=True)]
    return [*resize, encoder(**({} if quality is None else {"quality": quality}))]


def find_pipeline(reference: str) -> list[Operation]:
    """The list of operations with this "module:name".

    Raises:
        InvalidTask: there is none.
    """
    module, _, name = reference.partition(":")
    try:
        found: Any = reduce(getattr, name.split("."), import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidTask(f"--pipeline {reference}: {error}; give one as in 'module:PIPELINE'") from None
    if not isinstance(found, list | tuple) or not all(isinstance(one, Operation) for one in cast("list[object]", found)):
        raise InvalidTask(f"--pipeline {reference}: it is no list of operations")
    return list(cast("list[Operation]", found))
