"""The light half of the plugin, for the server: it must not import a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from offloop.operation import Estimate, Header, Operation, Plugin, SourceHeader
from offloop.sandbox import Needs

from . import operations
from .estimates.estimator import estimate, expected_size, source_after
from .geometry import Size
from .headers.formats import FORMAT_OF, FORMATS, SNIFF_NBYTES, FormatName, sniff
from .headers.metadata_size import count_metadata
from .headers.parser import MAX_CHUNKS, ParsedHeader, VipsHeader, parse_header
from .limits import (
    check_bands,
    check_format,
    check_metadata,
    check_nbytes,
    check_output_side,
    check_page_count,
    check_pixels,
)
from .pipeline import Pipeline

__all__ = ["VipsPlugin"]

_BITS_OF_A_BYTE = 8
# The fonts of the system, their configuration and its cache: `Text` finds fonts while it draws. Missing ones are left out.
_FONTS = ("/etc/fonts", "/usr/share/fonts", "/usr/local/share/fonts", "/usr/share/fontconfig", "/var/cache/fontconfig")


class VipsPlugin(Plugin):
    """Image operations by libvips."""

    name: ClassVar[str] = "vips"
    operations: ClassVar[tuple[type[Operation], ...]] = (
        operations.Decode,
        operations.Affine,
        operations.AutoOrient,
        operations.Extend,
        operations.Extract,
        operations.Flip,
        operations.Flop,
        operations.Resize,
        operations.Rotate,
        operations.Trim,
        operations.Clahe,
        operations.Gamma,
        operations.Grayscale,
        operations.IccProfile,
        operations.Linear,
        operations.Modulate,
        operations.Negate,
        operations.Normalise,
        operations.Recomb,
        operations.Threshold,
        operations.Tint,
        operations.EnsureAlpha,
        operations.ExtractChannel,
        operations.Flatten,
        operations.RemoveAlpha,
        operations.RoundCorners,
        operations.Blur,
        operations.Convolve,
        operations.Median,
        operations.Pixelate,
        operations.Sharpen,
        operations.Unsharp,
        operations.Text,
        operations.Composite,
        operations.Watermark,
        operations.JoinChannel,
        operations.Metadata,
        operations.Auto,
        operations.Avif,
        operations.Gif,
        operations.Tiff,
        operations.Tiles,
        operations.Jpeg,
        operations.Png,
        operations.Raw,
        operations.Preview,
        operations.Webp,
        operations.BlurHash,
        operations.Lqip,
        operations.PerceptualHash,
        operations.Stats,
        operations.ThumbHash,
    )
    quick: ClassVar[bool] = True  # a hostile header takes at most half a millisecond, an estimate at most a tenth
    needs = Needs(read=_FONTS)
    processor: ClassVar[str] = "offloop_vips.processor:VipsProcessor"

    def check(self, operations: Sequence[Operation]) -> None:
        """Checks that an encoder is last and a Decode first.

        The kind of the source is not known here. A Decode for a raster is refused in the worker.

        Raises:
            InvalidTask: an operation stands in a wrong position. The message names it.
        """
        Pipeline.of(operations, encoded=True)

    def refuse(self, header: Header, operations: Sequence[Operation], nbytes: int) -> None:
        """Checks what a header declares against the limits of the pipeline's Decode.

        Raises:
            TaskFailed: "source_too_large", "unsupported_format", "too_many_pixels", "too_many_bands", "too_much_metadata",
                "too_many_pages" or "output_too_wide".
        """
        source = FORMAT_OF.get(header.media_type)
        if source is None:
            return
        decode = Pipeline.of(operations, encoded=True).decode
        check_nbytes(nbytes, decode.max_bytes)
        check_format(source, decode.formats)
        coded = header.coded_size if isinstance(header, VipsHeader) else None
        size = Size(*coded) if coded else Size(header.width, header.height)
        check_pixels(size, 1, decode.max_pixels)
        check_bands(header.bands or 0, decode.max_bands)
        total = header.pages or 1
        metadata = header.metadata_nbytes if isinstance(header, VipsHeader) else 0
        check_metadata(min(metadata, nbytes), decode.max_metadata_bytes)  # a damaged file declares more than it has
        check_page_count(total, source, decode.max_pages)
        check_pixels(size, max(total - decode.page, 1) if decode.pages == -1 else min(decode.pages, total), decode.max_pixels)
        may_be_turned = header.orientation is None and nbytes > self.probe_nbytes  # by EXIF after the pixels
        if decode.max_output_side is not None and not may_be_turned:
            expected = self._expected_size(header, operations, nbytes)
            check_output_side(expected or Size(1, 1), decode.max_output_side)

    def _expected_size(self, header: Header, operations: Sequence[Operation], nbytes: int) -> Size | None:
        try:
            return expected_size(header, operations, nbytes)
        except Exception:  # the numbers are untrusted, and an arithmetic error must not reach the server
            return None

    def probe(self, data: memoryview) -> Header | None:
        """Reads a header in pure Python: format, stored size and parsed.

        Returns:
            None if the format is not supported, or the header is broken, longer than `data`, or exceeds a limit of the parser.
        """
        source = sniff(bytes(data[:SNIFF_NBYTES]))
        if source is None:
            return None
        try:
            return _header(source, bytes(data), whole=len(data) < self.probe_nbytes)
        except Exception:  # the data is untrusted; the worker reports the error in it
            return None

    def source_after(self, source: SourceHeader, operations: Sequence[Operation]) -> SourceHeader:
        """Predicts the picture that another plugin takes. Without a header nothing is known."""
        try:
            after = None if source.header is None else source_after(source.header, operations, source.nbytes)
        except Exception:  # the numbers are untrusted, and an arithmetic error must not reach the server
            after = None
        return after or SourceHeader(None, 0)

    def shared_bytes(self, header: Header | None) -> int:
        """Estimates the decoded source, which several pipelines share: its samples, before the decoder skips detail."""
        if header is None:
            return 0
        samples = header.width * header.height * (header.bands or 4)
        return samples * (1 if (header.bits or 8) <= _BITS_OF_A_BYTE else 2)

    def estimate(self, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Estimate | None:
        """Estimates memory, time and output size, from the coding of the source and the operations.

        Returns:
            None if the header is unknown, or is not that of an image.
        """
        return self.estimate_sources([SourceHeader(header, nbytes)], operations)

    def estimate_sources(self, sources: Sequence[SourceHeader], operations: Sequence[Operation]) -> Estimate | None:
        """Estimates a task with further sources, which are decoded into memory. None as for `estimate`."""
        header, nbytes = sources[0].header, sources[0].nbytes
        if header is None:
            return None
        try:
            return estimate(header, operations, nbytes, sources[1:])
        except Exception:  # the numbers are untrusted, and an arithmetic error must not reach the server
            return None


class _PictureHeader(VipsHeader, frozen=True, kw_only=True):
    @property
    def estimated_peak_bytes(self) -> int | None:
        """Estimated peak of private memory, in bytes, of a task that decodes the first page at its size; None: unknown."""
        expected = VipsPlugin().estimate(self, [operations.Raw()], 0)
        return None if expected is None else expected.peak_bytes

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "estimated_peak_bytes": self.estimated_peak_bytes}


def _header(source: FormatName, data: bytes, *, whole: bool) -> Header:
    parsed = parse_header(source, data, whole=whole)
    width, height = parsed.size
    orientation = parsed.orientation if 1 <= (parsed.orientation or 0) <= 8 else None  # noqa: PLR2004 (EXIF's)
    oriented = Size(width, height).transposed if (orientation or 1) >= 5 else Size(width, height)  # noqa: PLR2004 (the sides swap)
    return _PictureHeader(
        media_type=FORMATS[source].media_type,
        width=width,
        height=height,
        bands=parsed.bands,
        orientation=orientation,
        bits=parsed.bits,
        pages=parsed.pages,
        progressive=parsed.progressive,
        samples_per_pixel=parsed.samples_per_pixel,
        lossless=parsed.lossless,
        page_nbytes=parsed.page_nbytes,
        coded_size=parsed.coded_size,
        metadata_nbytes=count_metadata(source, data, MAX_CHUNKS),
        has_alpha=_has_alpha(source, parsed),
        has_profile=parsed.has_profile,
        oriented_width=oriented.width,
        oriented_height=oriented.height,
    )


def _has_alpha(source: FormatName, parsed: ParsedHeader) -> bool | None:
    if source == "jpeg":
        return False
    if source == "tiff":
        return parsed.first_extra_sample in (1, 2)
    return None if parsed.bands is None else parsed.bands in (2, 4)
