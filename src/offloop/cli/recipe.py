"""Turns the options of `offloop convert` into the pipeline and the output name of a picture.

It is the only module of the command line that imports the plugins, so commands import it only when they need it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from string import Formatter
from typing import Any

import msgspec

from offloop_vips import Avif, Decode, Gif, Jpeg, Png, Raw, Resize, Tiff, VipsPlugin, Webp

from ..operation import Operation

__all__ = ["FORMAT_OF_SUFFIX", "Recipe", "check_template", "format_of", "format_of_bytes"]

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

_SUFFIX_OF_FORMAT = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "avif": ".avif", "gif": ".gif", "tiff": ".tif"}
_ENCODERS: dict[str, Callable[..., Operation]] = {
    "jpeg": Jpeg,
    "png": Png,
    "webp": Webp,
    "avif": Avif,
    "gif": Gif,
    "tiff": Tiff,
}
_ONLY_ON_REQUEST = ("gif", "tiff")  # formats that their own sources do not keep
_ANIMATED = ("webp", "gif")
_LOSSLESS = "png"  # output format for sources that do not keep their own
_WITHOUT_QUALITY = ("png", "gif")


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """The options for pictures of one run."""

    to: str | None  # format of all outputs; None: the format of the source
    sizes: tuple[int | None, ...] = (None,)  # one: maximum width and height in pixels, None: unchanged; several: widths
    quality: int | None = None  # 1 to 100, for formats that have one; None: the encoder's default
    remove_background: bool = False  # whether people are cut out
    max_pixels: int | None = None  # maximum number of pixels of a source and of an output; None: the default of `Decode`
    template: str | None = None  # name of an output with {stem}, {suffix}, {ext}, {width}; None: the source's name

    @property
    def has_widths(self) -> bool:
        """Whether each picture has several outputs, one for each width."""
        return len(self.sizes) > 1

    def output_format(self, source_format: str) -> str:
        """Returns the output format for a picture with a given format."""
        if self.to is None and self.remove_background and source_format == "jpeg":
            return _LOSSLESS  # because JPEG has no transparency
        return self.to or (_LOSSLESS if source_format in _ONLY_ON_REQUEST else source_format)

    def output_name(self, name: str, source_format: str, size: int | None) -> str:
        """Returns the name of a picture's output of one size.

        Without a template, a suffix of another format is replaced; other suffixes are kept.
        """
        output_format = self.output_format(source_format)
        suffix = PurePath(name).suffix
        known = FORMAT_OF_SUFFIX.get(suffix.lower())
        keeps_name = known == output_format or (known is None and self.to is None and output_format == source_format)
        stem = name if known is None else PurePath(name).stem
        template = self.template or ("{stem}-{width}w.{ext}" if self.has_widths else None)
        if template is not None:
            given = "" if known is None else suffix[1:]
            ext = given if known == output_format else _SUFFIX_OF_FORMAT[output_format][1:]
            return template.format(stem=stem, suffix=given, ext=ext, width=size)
        return name if keeps_name else stem + _SUFFIX_OF_FORMAT[output_format]

    def pipeline(self, source_format: str, size: int | None) -> list[Operation]:
        """Returns the operations for a picture with a given format, and one of the sizes.

        Raises:
            InvalidTask: an option is out of the range of its operation.
        """
        output_format = self.output_format(source_format)
        has_quality = self.quality is not None and output_format not in _WITHOUT_QUALITY
        options: dict[str, Any] = {"quality": self.quality} if has_quality else {}
        if self.remove_background and output_format == "jpeg":
            options["background"] = "white"
        if output_format == "tiff" and not has_quality:
            options["compression"] = "deflate"  # lossless, and with the alpha that JPEG in a TIFF cannot have
        operations = self._decode(source_format, output_format)
        if size is not None:
            height = None if self.has_widths else size
            operations.append(Resize(size, height, fit="inside", without_enlargement=True))
        if self.remove_background:
            from offloop_onnx import RemoveBackground  # noqa: PLC0415 (because no other option needs the plugin)

            operations += [Raw(), RemoveBackground()]
        return [*operations, _ENCODERS[output_format](**options)]

    def _decode(self, source_format: str, output_format: str) -> list[Operation]:
        """Returns the step that reads all frames of an animation, if the output can have them, and applies the limit."""
        options: dict[str, Any] = {} if self.max_pixels is None else {"max_pixels": self.max_pixels}
        if output_format in _ANIMATED and source_format in _ANIMATED and not self.remove_background:
            options["pages"] = -1
        return [Decode(**options)] if options else []


def check_template(template: str, *, has_widths: bool) -> None:
    """Check that a template gives each picture, and each of several widths, a file name of its own.

    Raises:
        ValueError: it does not; the message says what is missing or unknown.
    """
    allowed = ["stem", "suffix", "ext", *(["width"] if has_widths else [])]
    required = ["stem", *(["width"] if has_widths else [])]
    fields: set[str] = set()
    for literal, field, specification, conversion in Formatter().parse(template):
        if "/" in literal:
            raise ValueError("it is the name of a file, and no path; it has a '/'")
        if field is not None:
            if field not in allowed or specification or conversion:
                raise ValueError(f"it may have {', '.join(f'{{{name}}}' for name in allowed)}, and not {{{field}}}")
            fields.add(field)
    missing = [name for name in required if name not in fields]
    if missing:
        raise ValueError(f"it must have {{{missing[0]}}}, because outputs would have one name otherwise")


def format_of(path: str) -> str | None:
    """Returns the format of a file by its suffix, or else by its first bytes; None if it is unknown.

    Raises:
        OSError: the file cannot be read.
    """
    known = FORMAT_OF_SUFFIX.get(PurePath(path).suffix.lower())
    if known is not None:
        return known
    with open(path, "rb", buffering=0) as file:
        return format_of_bytes(file.read(VipsPlugin.probe_nbytes))


def format_of_bytes(data: bytes) -> str | None:
    """Returns the format of a picture by its first bytes; None if it is unknown."""
    header = VipsPlugin().probe(memoryview(data)[: VipsPlugin.probe_nbytes])
    return None if header is None else header.media_type.removeprefix("image/")
