"""What decoders, steps and encoders take by themselves: the numbers of `estimates`, each with its source.

"Measured" is by `benchmarks/calibrate_vips.py`: libvips 8.18 of the pyvips-binary wheel, on pictures like photographs. So is
whatever has no source beside it. Bytes are rounded up to what the worst of them took; nanoseconds are of the middle one.
"""

from __future__ import annotations

from typing import NamedTuple

from offloop.operation import Header, Operation

from ..geometry import Size, is_strategy
from ..headers.formats import FormatName
from ..headers.parser import VipsHeader
from ..operations import Avif, Blur, Encoder, Jpeg, Png, Resize, Sharpen, Webp

__all__ = [
    "COLD_NBYTES",
    "PAGE_ROWS_NBYTES",
    "ROWS_AT_ONCE",
    "Cost",
    "decoding",
    "encoding",
    "resize_rows",
    "step_rows",
    "step_tiles_nbytes",
    "step_work_ns",
]

COLD_NBYTES = 3_000_000  # a worker's first picture: threads, tables, a heap that is not yet there. Measured
PAGE_ROWS_NBYTES = (
    6_000_000  # of rows, for each page but the first. Measured: 5 MB for the smallest pages, less for larger ones
)
ROWS_AT_ONCE = 750  # between a decoder and whatever asks for rows. Measured: 650 to 725, whatever the height


class Cost(NamedTuple):
    """What one part takes."""

    whole_nbytes: float = 0.0
    """Of whole pictures: from the first row to the end of the task, as libvips keeps its decoders until then."""

    rows_nbytes: float = 0.0
    work_ns: float = 0.0
    start_nbytes: float = 0.0
    """Before the first row, and given back by then."""


def decoding(source: FormatName, header: Header, stored: Size, loaded: Size, pages: int, nbytes: int) -> Cost:
    """What a decoder takes for pages that are stored in one size and come out in another."""
    if source == "jpeg":
        return _jpeg_decoding(header, stored, loaded, nbytes)
    if source == "png":
        return _png_decoding(header, stored)
    if source == "webp":
        return _webp_decoding(header, stored, loaded, pages)
    if source == "avif":
        return _avif_decoding(header, stored, pages)
    if (
        source == "gif"
    ):  # libnsgif's canvas, four bytes for each pixel, and a table; then pages are gathered as for any other format
        return Cost(4.2 * stored.pixels, 4 * 200 * stored.width, pages * 16 * stored.pixels)
    return _tiff_decoding(header, stored, pages, nbytes)


def _jpeg_decoding(header: Header, stored: Size, loaded: Size, nbytes: int) -> Cost:
    samples = _samples(header, 3.0 if header.bands is None else float(header.bands))
    # libjpeg keeps every coefficient, two bytes each, until the last pass is over; shrinking does not help
    whole = 2 * samples * stored.pixels * 1.01 if header.progressive else 0.0
    cmyk = 6_000_000 if (header.bands or 3) > 3 else 0  # noqa: PLR2004 (cyan, magenta, yellow and black; profiles for them are large)
    by_pass = (
        57 if header.progressive else 12
    )  # nanoseconds for each byte of the file: Huffman decoding, in several passes or one
    transform = 2.2 * samples * loaded.pixels
    convert = 55 * loaded.pixels if cmyk else 0  # through the profile, pixel by pixel
    return Cost(whole, cmyk, by_pass * nbytes + transform + convert)


def _png_decoding(header: Header, stored: Size) -> Cost:
    sample_nbytes = (header.bits or 8) / 8
    row = stored.width * (header.bands or 4) * sample_nbytes
    # libvips reads all of an interlaced picture before it gives the first row
    whole = row * stored.height if header.progressive else 0.0
    deep = 400 * row if sample_nbytes > 1 else 0  # the rows before they become eight bits
    return Cost(whole, deep, row * stored.height * (6.5 if header.progressive else 3.5))


def _webp_decoding(header: Header, stored: Size, loaded: Size, pages: int) -> Cost:
    lossless = isinstance(header, VipsHeader) and header.lossless
    alpha = header.bands != 3  # noqa: PLR2004 (no alpha)
    # libvips has a canvas and the frame that is painted onto it, four bytes for each pixel of both
    canvas = 8.2 * loaded.pixels
    # libwebp unpacks lossless pictures, and alpha is one, in their full size before anything is shrunk
    unpacked = (4.2 if lossless else 5.4 if alpha else 0.2) * stored.pixels
    roll = 4.2 * stored.pixels * pages if pages > 1 else 0.0
    work = 27 * stored.pixels + 8 * loaded.pixels
    return Cost(max(canvas, unpacked + canvas / 2) + roll + 2_000_000, 0, work * pages)


def _avif_decoding(header: Header, stored: Size, pages: int) -> Cost:
    samples = _samples(header, 3.0)
    deep = 2 if (header.bits or 8) > 8 else 1  # noqa: PLR2004 (bits that fit into a byte)
    # the codec's planes and those it refers to, libheif's planes, and the interleaved picture that is left in the end
    start = (13.5 + 2 * samples * deep) * stored.pixels + 5_000_000
    return Cost(4.1 * stored.pixels, 0, (25 + 15 * samples * deep) * stored.pixels * pages, start)


def _tiff_decoding(header: Header, stored: Size, pages: int, nbytes: int) -> Cost:
    sample_nbytes = max((header.bits or 8) / 8, 1)
    row = stored.width * (header.bands or 4) * sample_nbytes
    return Cost(0, 100 * row, (1 + 5 * (nbytes < 0.9 * row * stored.height)) * row * stored.height * pages)


def _samples(header: Header, otherwise: float) -> float:
    known = header.samples_per_pixel if isinstance(header, VipsHeader) else None
    return known or otherwise


def resize_rows(reduction: float) -> int:
    """How many rows a resize looks at at once: it averages whole blocks first from a reduction of three on."""
    return 750 if reduction < 2.5 else 1450  # noqa: PLR2004 (just below where libvips begins to)


def step_rows(step: Operation) -> int:
    """How many rows any other step looks at at once."""
    if isinstance(step, Sharpen):
        return 300 if step.sigma is None else 1400
    if isinstance(step, Blur):
        return 400 + (0 if step.sigma is None else int(8 * step.sigma))
    return 250


def step_tiles_nbytes(step: Operation, *, alpha: bool) -> int:
    """What a step takes whatever the size: it works on squares of some hundred pixels."""
    if (
        isinstance(step, Sharpen) and step.sigma is not None
    ):  # in a space of three floats; alpha goes beside it, and is multiplied with it
        return 30_000_000 if alpha else 2_000_000
    if (
        isinstance(step, Resize) and alpha and is_strategy(step.position)
    ):  # looks at slices of what was multiplied with alpha, one by one
        return 75_000_000 if step.position == "entropy" else 10_000_000
    return 2_500_000 if alpha else 0


def step_work_ns(step: Operation, nbytes: int) -> float:
    """What a step costs for samples of so many bytes."""
    if isinstance(step, Blur):
        # its mask grows with sigma, and beyond some length is slower for each of its points
        return nbytes * (7.0 if step.sigma is None else 2.0 + 0.25 * step.sigma + 0.0018 * step.sigma**2)
    if isinstance(step, Sharpen):
        return nbytes * (8.0 if step.sigma is None else 25.0)
    if isinstance(step, Resize):
        return nbytes * 1.0
    return nbytes * 2.5


def encoding(encoder: Encoder, size: Size, pages: int, bands: int) -> Cost:
    """What an encoder takes for pages of that size."""
    pixels = size.pixels * pages
    rows = 300.0 * size.width * bands
    if isinstance(encoder, Jpeg):
        return _jpeg_encoding(encoder, pixels, rows, bands)
    if isinstance(encoder, Png):
        return _png_encoding(encoder, pixels, rows, bands)
    if isinstance(encoder, Webp):
        return _webp_encoding(encoder, pixels, rows, bands)
    if isinstance(encoder, Avif):
        return _avif_encoding(encoder, pixels, rows, bands)
    return Cost(rows_nbytes=rows)


def _jpeg_encoding(jpeg: Jpeg, pixels: int, rows: float, bands: int) -> Cost:
    samples = 1.0 if bands < 3 else 3.0 if jpeg.chroma_subsampling == "4:4:4" else 1.5  # noqa: PLR2004 (colour)
    # mozjpeg keeps every coefficient twice, two bytes each, before and after rounding, where tables or passes need them all
    whole = 4.1 * samples * pixels if jpeg.optimise_coding or jpeg.progressive or jpeg.mozjpeg else 0.0
    files = 1.0 * pixels if jpeg.mozjpeg else 0.0  # the passes that it chooses from
    work = (100 if jpeg.mozjpeg else 15 if jpeg.progressive else 9 if jpeg.optimise_coding else 4) * samples
    return Cost(whole + files, rows, work * pixels)


def _png_encoding(png: Png, pixels: int, rows: float, bands: int) -> Cost:
    if (
        png.palette
    ):  # a table of all colours that there are, which stops growing at some number of them, and the pixels that refer to it
        colours = min(75_000_000.0, 350.0 * pixels)
        return Cost(colours + 6.5 * pixels, rows, min(9e9, 9000.0 * pixels) + 1200.0 * pixels)
    whole = 1.45 * bands * pixels if png.progressive else 0.0
    level = (4, 8, 8, 8, 12, 12, 16, 20, 30, 40)[png.compression_level]
    return Cost(whole, rows, (level * (1.6 if png.adaptive_filtering else 1.0) + 0.0) * bands * pixels)


def _webp_encoding(webp: Webp, pixels: int, rows: float, bands: int) -> Cost:
    if webp.lossless or webp.near_lossless:
        return Cost(42.0 * pixels, rows, (700 if webp.lossless else 1200) * pixels)
    if bands == 4:  # noqa: PLR2004 (alpha, which is lossless, and takes what a lossless picture takes, if there is anything to see in it)
        return Cost(47.0 * pixels, rows, (400 + 90 * webp.effort) * pixels)
    whole = 6.0 if webp.effort == 0 else 10.0
    work = (40, 60, 80, 120, 140, 300, 550)[webp.effort]
    return Cost(
        (whole + (6.5 if webp.smart_subsample else 0)) * pixels, rows, (work + (200 if webp.smart_subsample else 0)) * pixels
    )


def _avif_encoding(avif: Avif, pixels: int, rows: float, bands: int) -> Cost:
    samples = 1.5 if avif.chroma_subsampling == "4:2:0" else 3.0
    deep = 2 if avif.bitdepth > 8 else 1  # noqa: PLR2004 (bits that fit into a byte)
    whole = 25 + 10 * samples * (0.5 + deep / 2)
    whole *= 1.3 if bands in (2, 4) else 1.0  # alpha is a picture of its own
    work = (90, 300, 700, 1500, 3600, 5000, 7000, 10_000, 20_000, 60_000)[avif.effort]
    work *= 2.5 if avif.lossless else 1.0
    return Cost(whole * pixels, rows, work * pixels * (1 + deep) / 2)
