"""What is to be made of each picture: from the options to a pipeline and the name of its output.

The one file of the command line that needs offloop-vips; the commands import it when they know that they need it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import msgspec

from offloop_vips import Avif, Jpeg, Png, Resize, VipsPlugin, Webp

from ..operation import Operation

__all__ = ["FORMAT_OF_SUFFIX", "Recipe", "format_of"]

FORMAT_OF_SUFFIX = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".png": "png",
    ".webp": "webp",
    ".avif": "avif",
    ".gif": "gif",
    ".tif": "tiff",
    ".tiff": "tiff",
}

_SUFFIX_OF_FORMAT = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "avif": ".avif"}
_ENCODERS: dict[str, Callable[..., Operation]] = {"jpeg": Jpeg, "png": Png, "webp": Webp, "avif": Avif}
_LOSSLESS = "png"  # what becomes of formats that we can only read, and the one encoder without a quality


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one run, as far as pictures are concerned."""

    to: str | None  # the format of every output; None: each picture's own
    longest_side: int | None  # pixels; None: as it is
    quality: int | None  # 1 to 100, where the format has one; None: what the encoder thinks best

    def output_format(self, source_format: str) -> str:
        """The format that a picture of a given format is written in."""
        return self.to or (source_format if source_format in _ENCODERS else _LOSSLESS)

    def output_name(self, name: str, source_format: str) -> str:
        """The name of a picture's output: a suffix that tells another format is replaced, any other is kept."""
        output_format = self.output_format(source_format)
        known = FORMAT_OF_SUFFIX.get(PurePath(name).suffix.lower())
        if known == output_format or (known is None and self.to is None and output_format == source_format):
            return name
        stem = name if known is None else PurePath(name).stem
        return stem + _SUFFIX_OF_FORMAT[output_format]

    def pipeline(self, source_format: str) -> list[Operation]:
        """The operations for a picture of a given format.

        Raises:
            InvalidTask: an option is out of its operation's range.
        """
        output_format = self.output_format(source_format)
        has_quality = self.quality is not None and output_format != _LOSSLESS
        options: dict[str, Any] = {"quality": self.quality} if has_quality else {}
        encoder = _ENCODERS[output_format](**options)
        if self.longest_side is None:
            return [encoder]
        return [Resize(self.longest_side, self.longest_side, fit="inside", without_enlargement=True), encoder]


def format_of(path: str) -> str | None:
    """The format that a file's name tells, or else its first bytes; None if neither does.

    Raises:
        OSError: it cannot be read.
    """
    known = FORMAT_OF_SUFFIX.get(PurePath(path).suffix.lower())
    if known is not None:
        return known
    with open(path, "rb", buffering=0) as file:
        header = VipsPlugin().probe(memoryview(file.read(VipsPlugin.probe_nbytes)))
    return None if header is None else header.media_type.removeprefix("image/")
