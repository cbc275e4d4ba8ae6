"""Estimator of a pipeline's memory and time in a worker: simulates the steps with sizes instead of pixels.

There are two kinds of memory. Whole pictures: the buffers of a decoder before its first row, copies to memory for random
access, and the buffers of an encoder before its first byte. Rows: in all other steps pixels stream from the top down, and each
step buffers some hundred rows. Source and result are in shared memory and are not counted.

A number without a derivation was measured by `benchmarks/calibrate_vips.py` with libvips 8.18, and rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offloop.operation import Estimate, Header, Operation, SourceHeader

from ..colours import rgba
from ..geometry import Size, is_strategy
from ..headers.formats import FORMAT_OF, FORMATS, FormatName
from ..headers.parser import VipsHeader
from ..operations import Answer, Auto, AutoOrient, Avif, Encoder, Jpeg, Png, Raw, Resize, Shape, Stats, Step, Tiles, Webp
from ..operations.geometry.resize import fit_resize
from ..operations.kept_rows import kept_rows, repeated_work
from ..operations.step import StepCost
from ..pipeline import Pipeline, default_encoder, load_shrink_factor
from .costs import (
    COLD_START_NBYTES,
    DECODER_ROWS,
    PAGE_ROWS_NBYTES,
    Cost,
    decoding_cost,
    encoding_cost,
    resize_rows,
)

__all__ = ["estimate", "expected_size", "source_after"]

_ITEM_NBYTES = {"uint8": 1, "uint16": 2, "float32": 4}


def estimate(
    header: Header, operations: Sequence[Operation], nbytes: int, attachments: Sequence[SourceHeader] = ()
) -> Estimate | None:
    """Estimates the operations for a source of `nbytes` with this header. None if its media type is not supported.

    `attachments` are the further sources, from index 1 on.
    """
    source = FORMAT_OF.get(header.media_type)
    if source is None and header.media_type:
        return None
    return _simulate(header, Pipeline.of(operations, encoded=source is not None), nbytes, attachments).estimate()


def expected_size(header: Header, operations: Sequence[Operation], nbytes: int) -> Size | None:
    """Returns the size of one page of the result. None: it depends on pixels, or the processor would fail at a step."""
    pipeline = Pipeline.of(operations, encoded=True)
    if any(isinstance(step, Step) and not step.has_exact_shape for step in pipeline.steps):
        return None
    picture = _simulate(header, pipeline, nbytes, ())
    if picture.is_too_large or isinstance(pipeline.output_step, Answer):
        return None
    return picture.page_size


def source_after(header: Header, operations: Sequence[Operation], nbytes: int) -> SourceHeader | None:
    """Predicts what another plugin gets after the operations: samples, or a file if they end with an encoder. None: no picture,
    or not known."""
    source = FORMAT_OF.get(header.media_type)
    if source is None and header.media_type:
        return None
    picture = _simulate(header, Pipeline.of(operations, encoded=source is not None), nbytes, (), is_last=False)
    if picture.media_type is None:
        return None
    width, height = picture.page_size.width, picture.page_size.height * picture.pages
    known = Header(media_type=picture.media_type, width=width, height=height, bands=picture.bands)
    return SourceHeader(known, picture.output_nbytes)


def _simulate(
    header: Header, pipeline: Pipeline, nbytes: int, attachments: Sequence[SourceHeader], *, is_last: bool = True
) -> _SimulatedPicture:
    """Returns the picture after all steps, or after the step that makes it too large. What another plugin takes is encoded only
    if the pipeline has an encoder."""
    source = FORMAT_OF.get(header.media_type)
    picture = _SimulatedPicture.load(header, source, pipeline, nbytes)
    picture.attachments = attachments
    if picture.is_too_large:
        return picture
    if pipeline.preview is not None:
        picture.make_preview(header, source, nbytes)
    for step in pipeline.steps:
        picture.apply_step(step)
        if picture.is_too_large:
            return picture
    picture.make_upright()
    picture.save(pipeline.output_step or (default_encoder(source, picture.pages) if source and is_last else Raw()))
    return picture


@dataclass(slots=True)
class _SimulatedPicture:
    """Sizes of the picture between two steps, like `Picture`, and the cost of the steps so far."""

    page_size: Size  # of one page as it lies in memory
    pages: int  # number of pages
    bands: int  # bands, alpha included
    max_pixels: int  # maximum number of pixels, all pages together
    auto_orient: bool  # whether the orientation is applied before the next step
    orientation: int  # EXIF orientation that has not been applied yet
    unshrunk_size: Size | None = None  # stored size of one page, if the decoder shrank it for a resize
    sample_nbytes: int = 1  # bytes of a sample; 2 if the source has more than 8 bits
    is_sequential: bool = False  # whether rows can only be read once, from the top down
    whole_nbytes: float = 0  # bytes of whole pictures
    rows_nbytes: float = 0  # bytes of buffered rows
    peak_nbytes: float = 0  # peak so far; whole pictures and rows exist together until the end of the task
    work_ns: float = 0  # CPU time in nanoseconds
    repeated_ns: float = 0  # CPU time to compute the pixels again, as `Picture.work_ns`
    output_nbytes: int = 0  # size of the result
    media_type: str | None = None  # media type of the result, "" for samples; None: it is no picture, or is not there yet
    attachments: Sequence[SourceHeader] = ()  # further sources, from index 1 on

    @classmethod
    def load(cls, header: Header, source: FormatName | None, pipeline: Pipeline, nbytes: int) -> _SimulatedPicture:
        """Simulates the load of a source."""
        stored = Size(header.width, header.height)
        bands = header.bands or (3 if source else 4)
        if source is None:
            max_pixels = max(pipeline.decode.max_pixels, stored.pixels)
            return cls(stored, 1, bands, max_pixels, auto_orient=True, orientation=1)
        decode = pipeline.decode
        orientation = header.orientation or 1
        if source == "avif":  # the decoder applies the orientation
            stored, orientation = (stored.transposed if orientation >= 5 else stored), 1  # noqa: PLR2004 (5 to 8 swap the sides)
        pages = _count_pages(header, pipeline, nbytes)
        shrink = 1
        if pages == 1 and decode.page == 0:
            has_alpha = source == "webp" and header.bands != 3  # noqa: PLR2004 (colour without alpha)
            shrink = load_shrink_factor(pipeline, source, stored, orientation, has_alpha=has_alpha)
        size = Size(-(-stored.width // shrink), -(-stored.height // shrink))
        coded = header.coded_size if isinstance(header, VipsHeader) else None
        decoder = decoding_cost(source, header, Size(*coded) if coded else stored, size, pages, nbytes)
        picture = cls(size, pages, min(bands, 4), decode.max_pixels, decode.auto_orient, orientation)
        if picture.is_too_large or stored.pixels * pages > decode.max_pixels:
            picture.page_size = stored
            return picture
        if source in ("png", "tiff", "avif") and (header.bits or 8) > 8:  # noqa: PLR2004 (bits)
            picture.sample_nbytes = 2
        picture.is_sequential, picture.unshrunk_size = True, stored if shrink > 1 else None
        picture.whole_nbytes, picture.work_ns = decoder.whole_nbytes, decoder.work_ns
        picture.rows_nbytes = decoder.rows_nbytes + DECODER_ROWS * picture.row_nbytes
        picture.peak_nbytes = decoder.setup_nbytes
        if decode.colours == "p3":
            picture.work_ns += 12 * size.pixels * pages
        if source == "jpeg" and bands > 3:  # noqa: PLR2004 (CMYK becomes RGB)
            picture.bands = 3
        picture.update_peak()
        if pages > 1:
            picture.copy_to_memory()
        return picture

    @property
    def row_nbytes(self) -> int:
        return self.page_size.width * self.bands * self.sample_nbytes

    @property
    def nbytes(self) -> int:
        return self.samples * self.sample_nbytes

    @property
    def samples(self) -> int:
        return self.page_size.pixels * self.pages * self.bands

    @property
    def is_too_large(self) -> bool:
        """Whether the processor fails at this step, because the picture exceeds `max_pixels`."""
        return self.page_size.pixels * self.pages > self.max_pixels

    @property
    def logical_size(self) -> Size:
        stored = self.unshrunk_size or self.page_size
        return stored.transposed if self.is_sideways else stored

    @property
    def is_sideways(self) -> bool:
        return self.auto_orient and self.orientation >= 5  # noqa: PLR2004 (5 to 8 swap width and height)

    @property
    def has_alpha(self) -> bool:
        return self.bands in (2, 4)

    @property
    def shape(self) -> Shape:
        return Shape(self.page_size, self.bands)

    def fixed_nbytes_of(self, cost: StepCost) -> int:
        return cost.fixed_nbytes + (cost.alpha_fixed_nbytes if self.has_alpha else 0)

    def add_rows(self, nbytes: float, alpha_factor: float = 1.4) -> None:
        """Adds the row buffers of a step. Premultiplied rows are larger, and each page has buffers of its own."""
        nbytes *= alpha_factor if self.has_alpha else 1.0
        self.rows_nbytes += nbytes + (self.pages - 1) * min(nbytes, PAGE_ROWS_NBYTES)

    def update_peak(self) -> None:
        self.peak_nbytes = max(self.peak_nbytes, self.whole_nbytes + self.rows_nbytes)

    def copy_to_memory(self) -> None:
        """Adds a copy of the whole picture, if its rows can only be read once."""
        if not self.is_sequential:
            return
        self.whole_nbytes += self.nbytes
        self.work_ns += 1.5 * self.nbytes
        self.is_sequential, self.repeated_ns = False, 0
        self.update_peak()

    def keep_rows(self, step: Step) -> None:
        """Adds the rows that are kept for a step, as `apply_step` does; with alpha they are float."""
        if not self.repeated_ns:
            return
        if rows := kept_rows(self.repeated_ns, step.reads(self.shape, is_sequential=self.is_sequential)):
            self.add_rows(min(rows, self.page_size.height) * self.row_nbytes, alpha_factor=4 / self.sample_nbytes)
            self.repeated_ns = 0

    def make_preview(self, header: Header, source: FormatName | None, nbytes: int) -> None:
        """Adds the picture in memory, of which preview and result are made, or the first scans of a progressive JPEG."""
        if source != "jpeg" or not header.progressive:
            self.copy_to_memory()
            return
        stored = Size(header.width, header.height)
        small = Size(-(-stored.width // 8), -(-stored.height // 8))
        decoder = decoding_cost(source, header, stored, small, 1, nbytes // 8)  # first scans: less than an eighth of a file
        self.peak_nbytes = max(self.peak_nbytes, decoder.setup_nbytes, decoder.whole_nbytes + decoder.rows_nbytes)
        self.work_ns += decoder.work_ns

    def make_upright(self) -> None:
        if not self.auto_orient or self.orientation == 1:
            return
        self.copy_to_memory()
        self.work_ns += 3 * self.nbytes
        if self.is_sideways:
            self.page_size = self.page_size.transposed
        self.orientation = 1

    def apply_step(self, step: Operation) -> None:
        """Simulates one step."""
        if isinstance(step, AutoOrient):
            self.auto_orient = True
            return
        if isinstance(step, Resize):
            self._resize(step)
            return
        if not isinstance(step, Step):
            raise TypeError(step)  # an operation of another plugin, which the worker refuses
        self.make_upright()
        self.keep_rows(step)
        before, row_nbytes, cost = self.nbytes, self.row_nbytes, step.cost(self.shape)
        repeated_ns = repeated_work(cost, self.shape)
        self.add_rows(cost.rows * row_nbytes)
        self.rows_nbytes += self.fixed_nbytes_of(cost)
        for attachment in step.attached:
            self._load_attachment(attachment.index)
        if cost.needs_random_access:
            self.copy_to_memory()
        self.repeated_ns += repeated_ns
        self.page_size, self.bands = step.shape_after(self.shape)
        if self.is_too_large:
            return
        self.work_ns += cost.work_ns * max(before, self.nbytes) * (cost.alpha_factor if self.has_alpha else 1.0)
        self.update_peak()

    def _load_attachment(self, index: int) -> None:
        """Adds the decode of a further source into memory. It takes nothing if its header is not known."""
        known = self.attachments[index - 1] if 0 < index <= len(self.attachments) else None
        if known is None or known.header is None:
            return
        header, source = known.header, FORMAT_OF.get(known.header.media_type)
        size = Size(header.width, header.height)
        nbytes = size.pixels * (header.bands or 4) * (1 if (header.bits or 8) <= 8 else 2)  # noqa: PLR2004 (bits of a byte)
        if source is not None:
            decoder = decoding_cost(source, header, size, size, 1, known.nbytes)
            self.whole_nbytes += decoder.whole_nbytes + max(decoder.setup_nbytes, nbytes)
            self.rows_nbytes += decoder.rows_nbytes + DECODER_ROWS * nbytes / size.height
            self.work_ns += decoder.work_ns
        self.work_ns += 10 * nbytes

    def _resize(self, resize: Resize) -> None:
        scaled, canvas = fit_resize(resize, self.logical_size)
        if canvas.pixels * self.pages > self.max_pixels:
            self.page_size = canvas
            return
        self.keep_rows(resize)
        before, is_exact, cost = self.nbytes, resize.kernel == "nearest", resize.cost(self.shape)
        repeated_ns = repeated_work(cost, self.shape)
        stored = scaled.transposed if self.is_sideways else scaled
        if stored != self.page_size:
            rows = resize_rows(self.page_size.height / stored.height)
            deep_factor = 2 if self.sample_nbytes > 1 and not is_exact else 1  # because 16 bits are reduced in float
            nbytes = deep_factor * (rows * self.row_nbytes + 100 * stored.width * self.bands * self.sample_nbytes)
            self.add_rows(nbytes, alpha_factor=1 if is_exact else 2 if resize.fast else 4 / deep_factor)
        alpha_factor = cost.alpha_factor if self.has_alpha and not is_exact else 1
        self.page_size, self.unshrunk_size = stored, None
        self.work_ns += alpha_factor * (cost.work_ns * before + 8 * min(self.nbytes, canvas.pixels * self.pages * self.bands))
        self.make_upright()
        self.rows_nbytes += self.fixed_nbytes_of(cost)
        # the decoder must read the rows that are cropped, too
        is_cropped = scaled.height > canvas.height and scaled.pixels * self.bands < before
        if is_strategy(resize.position) or is_cropped:
            self.copy_to_memory()
        self.repeated_ns += repeated_ns
        if canvas != scaled and resize.fit == "contain":
            self.bands = self.shape.with_bands_for(rgba(resize.background)).bands
        self.page_size = canvas
        self.update_peak()

    def save(self, output_step: Encoder | Auto | Raw | Answer | Tiles) -> None:
        """Simulates the output step."""
        if isinstance(output_step, Auto):
            output_step = output_step.resolve(has_alpha=self.has_alpha, pages=self.pages)
        if isinstance(output_step, Answer):
            self.output_nbytes = 4096
            if isinstance(output_step, Stats):  # which reads the picture five times
                self.copy_to_memory()
                self.work_ns += 30 * self.nbytes
            self.work_ns += 30e6  # of Python code
            return
        if isinstance(output_step, Raw):
            self.output_nbytes = self.samples * _ITEM_NBYTES[output_step.dtype]
            self.work_ns += 0.3 * self.output_nbytes
            self.media_type = ""
            return
        if isinstance(output_step, Tiles):
            self._save_tiles(output_step)
            return
        if isinstance(output_step, Jpeg) and self.has_alpha:
            self.bands -= 1
        depth = 2 if isinstance(output_step, Png) and output_step.bitdepth > 8 else 1  # noqa: PLR2004 (bits)
        encoder = encoding_cost(output_step, self.page_size, self.pages, self.bands * depth)
        if isinstance(output_step, Jpeg | Webp | Avif) and (
            output_step.max_bytes is not None or output_step.target is not None
        ):
            encoder = self._searched(encoder, compares=output_step.target is not None)
        self.whole_nbytes += encoder.whole_nbytes
        self.rows_nbytes += encoder.rows_nbytes
        self.work_ns += encoder.work_ns
        self.output_nbytes = int(self.samples * depth * output_step.typical_ratio)
        self.media_type = FORMATS[output_step.format].media_type
        self.update_peak()

    def _save_tiles(self, tiles: Tiles) -> None:
        """Simulates tiles of all sizes, which are a third more pixels: the files, twice, and rows of tiles."""
        encoder = encoding_cost(tiles.encoder, self.page_size, self.pages, self.bands)
        self.output_nbytes = int(1.5 * self.samples * tiles.encoder.typical_ratio)
        self.whole_nbytes += 2 * self.output_nbytes + 5_000_000
        self.rows_nbytes += 6 * (tiles.size + tiles.overlap) * self.row_nbytes
        self.work_ns += 2 * encoder.work_ns + 5 * self.samples
        self.update_peak()

    def _searched(self, encoder: Cost, *, compares: bool) -> Cost:
        """Returns the cost of a search of the quality: a copy of the picture, the file, and about eight encoded files."""
        whole = encoder.whole_nbytes + 1.5 * self.nbytes
        if compares:  # the file is decoded and compared
            return encoder._replace(
                whole_nbytes=whole + 32 * self.page_size.pixels, work_ns=8 * (encoder.work_ns + 150 * self.page_size.pixels)
            )
        return encoder._replace(whole_nbytes=whole, work_ns=8 * encoder.work_ns)

    def estimate(self) -> Estimate:
        return Estimate(
            peak_bytes=int(self.peak_nbytes) + COLD_START_NBYTES,
            work_s=self.work_ns / 1e9 + 0.002,
            output_bytes=self.output_nbytes,
        )


def _count_pages(header: Header, pipeline: Pipeline, nbytes: int) -> int:
    """Returns the number of pages that are read. If the header has no number, the size of the file gives an estimate."""
    decode = pipeline.decode
    if decode.pages != -1:
        return decode.pages
    total = header.pages
    if total is None:
        page_nbytes = header.page_nbytes if isinstance(header, VipsHeader) else None
        max_pages = decode.max_pixels // (header.width * header.height)
        total = min(-(-nbytes // page_nbytes), max_pages) if page_nbytes else 1
    return max(total - decode.page, 1)
