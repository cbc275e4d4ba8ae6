"""What a client asks for, and the pipelines for it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from offloop import Header, InvalidTask, Operation
from offloop_vips import Avif, Decode, Jpeg, Metadata, Png, Preview, Raw, Resize, Webp

__all__ = ["FORMATS", "SUFFIX_OF_FORMAT", "Conversion", "can_remove_background"]

Format: TypeAlias = Literal["auto", "webp", "avif", "jpeg", "png"]

_Side = Annotated[int, Meta(ge=1, le=16_384)]

FORMATS: tuple[Format, ...] = ("auto", "webp", "avif", "jpeg", "png")
SUFFIX_OF_FORMAT = {"webp": ".webp", "avif": ".avif", "jpeg": ".jpg", "png": ".png"}

_ENCODERS: dict[str, Any] = {"webp": Webp, "avif": Avif, "jpeg": Jpeg, "png": Png}
_ANIMATED = {"image/webp", "image/gif"}  # sources of which all frames are kept, if the result can have them
_PREVIEW_SIDE = 128  # pixels: 64 on screens with two pixels for each
_MAX_WIDTHS = 8


class Conversion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a batch."""

    format: Format = "auto"
    """Format of the results. "auto": WebP, which every browser shows, with alpha and animations."""

    quality: Annotated[int, Meta(ge=1, le=100)] | None = None
    """Quality of WebP, AVIF and JPEG; None: the default of each."""

    max_bytes: Annotated[int, Meta(ge=1)] | None = None
    """Maximum length of a result in bytes, for WebP, AVIF and JPEG: their quality is reduced until it fits; None: no limit."""

    widths: Annotated[tuple[_Side, ...], Meta(max_length=_MAX_WIDTHS)] = ()
    """Widths in pixels, one result for each. Empty: one result, with the width of the source."""

    height: _Side | None = None
    """Height in pixels; None: it follows from the width."""

    fit: Literal["inside", "cover", "contain", "fill"] = "inside"
    """How a picture fits into width and height, as for `Resize`."""

    remove_background: bool = False
    """Cut out people."""

    metadata: Literal["strip", "keep"] = "strip"
    """keep: EXIF, XMP and IPTC of the source, as far as the format has them. EXIF may have the place of a photograph. strip:
    the results have none."""

    def check(self) -> None:
        """Check what the types do not.

        Raises:
            InvalidTask: two settings contradict each other, or a plugin is not installed.
        """
        if len(set(self.widths)) != len(self.widths):
            raise InvalidTask(f"widths={list(self.widths)}: name each width once")
        if self.remove_background and not can_remove_background():
            raise InvalidTask("remove_background=true: the plugin offloop-onnx is not installed on this server")
        if self.remove_background and self.metadata == "keep":
            raise InvalidTask('metadata="keep", remove_background=true: a cut-out has no metadata')

    def pipelines(self, header: Header) -> dict[int | None, list[Operation]]:
        """Returns a pipeline for each width, or for None if the width is that of the source. The first one makes a preview."""
        widths: tuple[int | None, ...] = self.widths or (None,)
        return {width: self._pipeline(header, width, is_first=index == 0) for index, width in enumerate(widths)}

    def _pipeline(self, header: Header, width: int | None, *, is_first: bool) -> list[Operation]:
        output = "webp" if self.format == "auto" else self.format
        operations: list[Operation] = []
        if output == "webp" and header.media_type in _ANIMATED and not self.remove_background:
            operations.append(Decode(pages=-1))
        if width is not None or self.height is not None:
            border: dict[str, Any] = {"background": "#0000"} if self.fit == "contain" else {}
            operations.append(Resize(width, self.height, fit=self.fit, without_enlargement=self.fit == "inside", **border))
        if is_first:
            operations.append(Preview(_PREVIEW_SIDE))
        if self.metadata == "keep":
            operations.append(Metadata(keep=("exif", "xmp", "iptc")))
        if self.remove_background:
            from offloop_onnx import RemoveBackground  # noqa: PLC0415 (because the plugin is optional)

            operations += [Raw(), RemoveBackground()]
        return [*operations, self._encoder(output)]

    def _encoder(self, output: str) -> Operation:
        options: dict[str, Any] = {}
        if self.quality is not None and output != "png":
            options["quality"] = self.quality
        if self.max_bytes is not None and output != "png":
            options["max_bytes"] = self.max_bytes
        if output == "jpeg":
            options["background"] = "white"  # behind transparent parts
        return _ENCODERS[output](**options)


def can_remove_background() -> bool:
    """Returns whether the plugin for it is installed."""
    return find_spec("offloop_onnx") is not None
