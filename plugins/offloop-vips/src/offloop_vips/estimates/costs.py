"""Cost model of single decoders and encoders: their memory and CPU time, each number with its source.

"Measured" means by `benchmarks/calibrate_vips.py`, with libvips 8.18 of the pyvips-binary wheel, on pictures like photographs.
A number without a source was measured, too. Bytes are the maximum of the measurements, rounded up; nanoseconds are the median.
"""

from __future__ import annotations

from typing import NamedTuple

from offloop.operation import Header

from ..geometry import Size
from ..headers.formats import FormatName
from ..headers.parser import VipsHeader
from ..operations import Avif, Encoder, Gif, Jpeg, Png, Tiff, Webp

__all__ = [
    "COLD_START_NBYTES",
    "DECODER_ROWS",
    "PAGE_ROWS_NBYTES",
    "Cost",
    "decoding_cost",
    "encoding_cost",
    "resize_rows",
]

COLD_START_NBYTES = 3_000_000  # of a worker's first picture: threads, tables, growth of the heap. Measured
PAGE_ROWS_NBYTES = 6_000_000  # of rows, for each page except the first. Measured: 5 MB for the smallest pages, less for larger
DECODER_ROWS = 750  # buffered after a decoder. Measured: 650 to 725, for any height


class Cost(NamedTuple):
    """Cost of one decoder or encoder."""

    whole_nbytes: float = 0.0
    """Bytes of whole pictures, from the first row to the end of the task, because libvips keeps its decoders until then."""

    rows_nbytes: float = 0.0
    """Bytes of buffered rows."""

    work_ns: float = 0.0
    """CPU time in nanoseconds."""

    setup_nbytes: float = 0.0
    """Bytes that are allocated before the first row, and freed by then."""


def decoding_cost(source: FormatName, header: Header, stored: Size, loaded: Size, pages: int, nbytes: int) -> Cost:
    """Returns the cost of a decoder. `stored` and `loaded` are the sizes of a page before and after shrink on load."""
    if source == "jpeg":
        return _jpeg_decoding(header, stored, loaded, nbytes)
    if source == "png":
        return _png_decoding(header, stored)
    if source == "webp":
        return _webp_decoding(header, stored, loaded, pages)
    if source == "avif":
        return _avif_decoding(header, stored, pages)
    if source == "gif":  # canvas of libnsgif, four bytes for each pixel, and a table
        return Cost(4.2 * stored.pixels, 4 * 200 * stored.width, pages * 16 * stored.pixels)
    return _tiff_decoding(header, stored, pages, nbytes)


def _jpeg_decoding(header: Header, stored: Size, loaded: Size, nbytes: int) -> Cost:
    samples = _samples_per_pixel(header, 3.0 if header.bands is None else float(header.bands))
    # libjpeg keeps every coefficient, two bytes each, until the end of the last pass, with or without shrink on load
    whole = 2 * samples * stored.pixels * 1.01 if header.progressive else 0.0
    cmyk = 6_000_000 if (header.bands or 3) > 3 else 0  # noqa: PLR2004 (CMYK, which has large profiles)
    file_byte_ns = 57 if header.progressive else 12  # Huffman decoding, in several passes or in one
    transform = 2.2 * samples * loaded.pixels
    convert = 55 * loaded.pixels if cmyk else 0  # colour conversion by the profile
    return Cost(whole, cmyk, file_byte_ns * nbytes + transform + convert)


def _png_decoding(header: Header, stored: Size) -> Cost:
    sample_nbytes = (header.bits or 8) / 8
    row = stored.width * (header.bands or 4) * sample_nbytes
    # libvips reads the whole of an interlaced picture before it gives the first row
    whole = row * stored.height if header.progressive else 0.0
    return Cost(whole, 0, row * stored.height * (6.5 if header.progressive else 3.5))


def _webp_decoding(header: Header, stored: Size, loaded: Size, pages: int) -> Cost:
    lossless = isinstance(header, VipsHeader) and header.lossless
    has_alpha = header.bands != 3  # noqa: PLR2004 (colour without alpha)
    # libvips has a canvas and the frame that it paints onto the canvas, four bytes for each pixel of both
    canvas = 8.2 * loaded.pixels
    # libwebp decodes lossless data, which alpha is, at full size before it shrinks
    unshrunk = (4.2 if lossless else 5.4 if has_alpha else 0.2) * stored.pixels
    all_pages = 4.2 * stored.pixels * pages if pages > 1 else 0.0
    work = 27 * stored.pixels + 8 * loaded.pixels
    return Cost(max(canvas, unshrunk + canvas / 2) + all_pages + 2_000_000, 0, work * pages)


def _avif_decoding(header: Header, stored: Size, pages: int) -> Cost:
    samples = _samples_per_pixel(header, 3.0)
    sample_nbytes = 2 if (header.bits or 8) > 8 else 1  # noqa: PLR2004 (bits that fit into a byte)
    # planes and reference planes of the codec, planes of libheif, and the interleaved picture, which remains
    setup = (13.5 + 2 * samples * sample_nbytes) * stored.pixels + 5_000_000
    return Cost(4.1 * stored.pixels, 0, (25 + 15 * samples * sample_nbytes) * stored.pixels * pages, setup)


def _tiff_decoding(header: Header, stored: Size, pages: int, nbytes: int) -> Cost:
    sample_nbytes = max((header.bits or 8) / 8, 1)
    row = stored.width * (header.bands or 4) * sample_nbytes
    return Cost(0, 100 * row, (1 + 5 * (nbytes < 0.9 * row * stored.height)) * row * stored.height * pages)


def _samples_per_pixel(header: Header, default: float) -> float:
    known = header.samples_per_pixel if isinstance(header, VipsHeader) else None
    return known or default


def resize_rows(reduction: float) -> int:
    """Returns the number of rows that a resize buffers. From a reduction of three on, libvips averages whole blocks first."""
    return 750 if reduction < 2.5 else 1450  # noqa: PLR2004 (a little below that reduction)


def encoding_cost(encoder: Encoder, size: Size, pages: int, bands: int) -> Cost:
    """Returns the cost of an encoder for pages of one size."""
    pixels = size.pixels * pages
    rows = 300.0 * size.width * bands
    if isinstance(encoder, Jpeg):
        return _jpeg_encoding(encoder, pixels, rows, bands)
    if isinstance(encoder, Png):
        return _png_encoding(encoder, pixels, rows, bands)
    if isinstance(encoder, Webp):
        return _webp_encoding(encoder, pixels, rows, bands)
    if isinstance(encoder, Gif):  # each frame is quantised on its own
        return Cost(min(90_000_000.0, 400.0 * size.pixels) + 22.0 * size.pixels, rows, 4500.0 * pixels)
    if isinstance(encoder, Tiff):  # the whole file is in private memory
        return Cost(1.3 * pixels * bands, rows, (15.0 if encoder.compression in ("none", "jpeg") else 40.0) * pixels * bands)
    return _avif_encoding(encoder, pixels, rows, bands) if isinstance(encoder, Avif) else Cost(rows_nbytes=rows)


def _jpeg_encoding(jpeg: Jpeg, pixels: int, rows: float, bands: int) -> Cost:
    samples = 1.0 if bands < 3 else 3.0 if jpeg.chroma_subsampling == "4:4:4" else 1.5  # noqa: PLR2004 (colour)
    # mozjpeg keeps every coefficient twice, two bytes each, before and after rounding, if tables or passes need all of them
    whole = 4.1 * samples * pixels if jpeg.optimise_coding or jpeg.progressive or jpeg.mozjpeg else 0.0
    candidates = 1.0 * pixels if jpeg.mozjpeg else 0.0  # encoded scans, of which it chooses
    work = (100 if jpeg.mozjpeg else 15 if jpeg.progressive else 9 if jpeg.optimise_coding else 4) * samples
    return Cost(whole + candidates, rows, work * pixels)


def _png_encoding(png: Png, pixels: int, rows: float, bands: int) -> Cost:
    if png.palette:  # a table of all colours, which is limited to some number of them, and the pixels with their indices
        colours = min(75_000_000.0, 350.0 * pixels)
        return Cost(colours + 6.5 * pixels, rows, min(9e9, 9000.0 * pixels) + 1200.0 * pixels)
    whole = 1.45 * bands * pixels if png.progressive else 0.0
    level = (4, 8, 8, 8, 12, 12, 16, 20, 30, 40)[png.compression_level]
    return Cost(whole, rows, (level * (1.6 if png.adaptive_filtering else 1.0) + 0.0) * bands * pixels)


def _webp_encoding(webp: Webp, pixels: int, rows: float, bands: int) -> Cost:
    if webp.lossless or webp.near_lossless:
        return Cost(42.0 * pixels, rows, (700 if webp.lossless else 1200) * pixels)
    if bands == 4:  # noqa: PLR2004 (alpha is lossless, and costs as much as a lossless picture unless it is uniform)
        return Cost(47.0 * pixels, rows, (400 + 90 * webp.effort) * pixels)
    whole = 6.0 if webp.effort == 0 else 10.0
    work = (40, 60, 80, 120, 140, 300, 550)[webp.effort]
    return Cost(
        (whole + (6.5 if webp.smart_subsample else 0)) * pixels, rows, (work + (200 if webp.smart_subsample else 0)) * pixels
    )


def _avif_encoding(avif: Avif, pixels: int, rows: float, bands: int) -> Cost:
    samples = 1.5 if avif.chroma_subsampling == "4:2:0" else 3.0
    sample_nbytes = 2 if avif.bitdepth > 8 else 1  # noqa: PLR2004 (bits that fit into a byte)
    whole = 25 + 10 * samples * (0.5 + sample_nbytes / 2)
    whole *= 1.3 if bands in (2, 4) else 1.0  # alpha is a separate picture
    work = (90, 300, 700, 1500, 3600, 5000, 7000, 10_000, 20_000, 60_000)[avif.effort]
    work *= 2.5 if avif.lossless else 1.0
    return Cost(whole * pixels, rows, work * pixels * (1 + sample_nbytes) / 2)
