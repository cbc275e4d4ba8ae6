"""The task of all contenders: a thumbnail of a photograph, as an offloop worker makes it, without offloop's workers."""

from __future__ import annotations

from functools import cache

from offloop import Encoded
from offloop.testing import InlineTask
from offloop_vips import Resize, Webp

__all__ = ["PIPELINE", "thumbnail"]

PIPELINE = [Resize(320), Webp()]


class _Worker:
    slot = 0


@cache
def processor() -> object:
    """Returns the opened processor of offloop-vips. It is opened once in each process of a peer."""
    from offloop_vips.processor import VipsProcessor

    loaded = VipsProcessor()
    loaded.open(_Worker())
    return loaded


def thumbnail(source: bytes) -> bytes:
    """The task of the peers."""
    return bytes(processor().run(Encoded(memoryview(source)), PIPELINE, InlineTask()).data)
