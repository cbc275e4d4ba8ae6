"""Turns the options of `offloop convert` into the pipeline and the output name of a picture.

It is the only module of the command line that imports the plugins, so commands import it only when they need it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import msgspec

from offloop_vips import Avif, Decode, Jpeg, Png, Raw, Resize, VipsPlugin, Webp

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
_ANIMATED_OUTPUT, _ANIMATED_SOURCES = "webp", ("webp", "gif")
_LOSSLESS = "png"  # output format for sources without an encoder, and the only encoder without a quality


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """The options for pictures of one run."""

    to: str | None  # format of all outputs; None: the format of the source
    longest_side: int | None  # maximum width and height in pixels; None: unchanged
    quality: int | None  # 1 to 100, for formats that have one; None: the encoder's default
    remove_background: bool = False  # whether people are cut out
    max_pixels: int | None = None  # maximum number of pixels of a source and of an output; None: the default of `Decode`

    def output_format(self, source_format: str) -> str:
        """Returns the output format for a picture with a given format."""
        if self.to is None and self.remove_background and source_format == "jpeg":
            return _LOSSLESS  # because JPEG has no transparency
        return self.to or (source_format if source_format in _ENCODERS else _LOSSLESS)

    def output_name(self, name: str, source_format: str) -> str:
        """Returns the name of a picture's output. A suffix of another format is replaced; other suffixes are kept."""
        output_format = self.output_format(source_format)
        known = FORMAT_OF_SUFFIX.get(PurePath(name).suffix.lower())
        if known == output_format or (known is None and self.to is None and output_format == source_format):
            return name
        stem = name if known is None else PurePath(name).stem
        return stem + _SUFFIX_OF_FORMAT[output_format]

    def pipeline(self, source_format: str) -> list[Operation]:
        """Returns the operations for a picture with a given format.

        Raises:
            InvalidTask: an option is out of the range of its operation.
        """
        output_format = self.output_format(source_format)
        has_quality = self.quality is not None and output_format != _LOSSLESS
        options: dict[str, Any] = {"quality": self.quality} if has_quality else {}
        if self.remove_background and output_format == "jpeg":
            options["background"] = "white"
        operations = self._decode(source_format, output_format)
        if self.longest_side is not None:
            operations.append(Resize(self.longest_side, self.longest_side, fit="inside", without_enlargement=True))
        if self.remove_background:
            from offloop_onnx import RemoveBackground  # noqa: PLC0415 (because no other option needs the plugin)

            operations += [Raw(), RemoveBackground()]
        return [*operations, _ENCODERS[output_format](**options)]

    def _decode(self, source_format: str, output_format: str) -> list[Operation]:
        """Returns the step that reads all frames of an animation, if the output can have them, and applies the limit."""
        options: dict[str, Any] = {} if self.max_pixels is None else {"max_pixels": self.max_pixels}
        if output_format == _ANIMATED_OUTPUT and source_format in _ANIMATED_SOURCES and not self.remove_background:
            options["pages"] = -1
        return [Decode(**options)] if options else []


def format_of(path: str) -> str | None:
    """Returns the format of a file by its suffix, or else by its first bytes; None if it is unknown.

    Raises:
        OSError: the file cannot be read.
    """
    known = FORMAT_OF_SUFFIX.get(PurePath(path).suffix.lower())
    if known is not None:
        return known
    with open(path, "rb", buffering=0) as file:
        header = VipsPlugin().probe(memoryview(file.read(VipsPlugin.probe_nbytes)))
    return None if header is None else header.media_type.removeprefix("image/")
