"""The light half of the plugin: imported by the server, where it must not bring in a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from offloop.operation import Estimate, Header, Operation, Plugin

from . import operations
from .estimates.estimator import estimate
from .headers.formats import FORMATS, SNIFF_NBYTES, FormatName, sniff
from .headers.parser import VipsHeader, read_coding
from .pipeline import Pipeline

__all__ = ["VipsPlugin"]


class VipsPlugin(Plugin):
    """Image operations by libvips."""

    name: ClassVar[str] = "vips"
    operations: ClassVar[tuple[type[Operation], ...]] = (
        operations.Decode,
        operations.AutoOrient,
        operations.Resize,
        operations.Rotate,
        operations.Blur,
        operations.Sharpen,
        operations.Grayscale,
        operations.Tint,
        operations.Jpeg,
        operations.Png,
        operations.Webp,
        operations.Avif,
        operations.Raw,
    )
    quick: ClassVar[bool] = True  # at most half a millisecond for a hostile header, and a tenth for an estimate
    processor: ClassVar[str] = "offloop_vips.processor:VipsProcessor"

    def check(self, operations: Sequence[Operation]) -> None:
        """Refuse an encoder that is not last and a Decode that is not first.

        Whether the source needs decoding is not known here; a Decode for samples is refused in the worker.

        Raises:
            InvalidTask: naming the operation that stands where it cannot.
        """
        Pipeline.of(operations, encoded=True)

    def probe(self, data: memoryview) -> Header | None:
        """Read a header in pure Python: the format by its signature, the size as it is stored, and how it is coded.

        Returns:
            None where the format is not one of ours, or the header is broken, longer than what was given, or of more parts
            than are looked at.
        """
        source = sniff(bytes(data[:SNIFF_NBYTES]))
        if source is None:
            return None
        try:
            return _header(source, bytes(data), whole=len(data) < self.probe_nbytes)
        except Exception:  # it parses what strangers send, and whatever it stumbles over is the worker's to name
            return None

    def estimate(self, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Estimate | None:
        """Reckon what the operations take, from how the source is coded and which of them need the whole picture.

        Returns:
            None where the header is not known, or is no picture's.
        """
        if header is None:
            return None
        try:
            return estimate(header, operations, nbytes)
        except Exception:  # the numbers come from strangers, and no mistake in reckoning with them may reach the server
            return None


def _header(source: FormatName, data: bytes, *, whole: bool) -> Header:
    coding = read_coding(source, data, whole=whole)
    width, height = coding.size
    orientation = coding.orientation
    return VipsHeader(
        media_type=FORMATS[source].media_type,
        width=width,
        height=height,
        bands=coding.bands,
        orientation=orientation if orientation is not None and 1 <= orientation <= 8 else None,  # noqa: PLR2004 (EXIF's)
        bits=coding.bits,
        pages=coding.pages,
        progressive=coding.progressive,
        samples_per_pixel=coding.samples_per_pixel,
        lossless=coding.lossless,
        page_nbytes=coding.page_nbytes,
    )
