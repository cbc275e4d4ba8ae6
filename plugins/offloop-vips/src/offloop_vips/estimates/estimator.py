"""What a pipeline is likely to take in a worker: a walk along its steps with sizes in place of pixels.

Memory is of two kinds. Whole pictures: what a decoder keeps before it gives the first row, what is gathered so that it can be
read in any order, what an encoder collects before it writes the first byte. And rows: everything else flows through from the
top down, and each step looks at some hundred rows at once. The source and the result lie in shared memory and are not counted.

Where a number has no derivation beside it, it was measured by `benchmarks/calibrate_vips.py` with libvips 8.18, and rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, radians, sin

from offloop.operation import Estimate, Header, Operation

from ..colours import rgba
from ..geometry import Size, is_strategy
from ..headers.formats import FORMATS, FormatName
from ..headers.parser import VipsHeader
from ..operations import AutoOrient, Encoder, Grayscale, Jpeg, Raw, Resize, Rotate, Tint
from ..operations.resize import fitting
from ..pipeline import Pipeline, default_encoder, shrink_on_load
from .costs import (
    COLD_NBYTES,
    PAGE_ROWS_NBYTES,
    ROWS_AT_ONCE,
    decoding,
    encoding,
    resize_rows,
    step_rows,
    step_tiles_nbytes,
    step_work_ns,
)

__all__ = ["estimate"]

_FORMAT_OF: dict[str, FormatName] = {form.media_type: name for name, form in FORMATS.items()}
_ITEM_NBYTES = {"uint8": 1, "uint16": 2, "float32": 4}


def estimate(header: Header, operations: Sequence[Operation], nbytes: int) -> Estimate | None:
    """What the operations are likely to take on a source of `nbytes` with that header; None for what is no source of ours."""
    source = _FORMAT_OF.get(header.media_type)
    if source is None and header.media_type:
        return None
    pipeline = Pipeline.of(operations, encoded=source is not None)
    way = _Way.of(header, source, pipeline, nbytes)
    if way.is_refused:
        return way.estimate()
    for step in pipeline.steps:
        way.take(step)
        if way.is_refused:
            return way.estimate()
    way.turn_upright()
    way.end(pipeline.ending or (default_encoder(source, way.pages) if source else Raw()))
    return way.estimate()


@dataclass(slots=True)
class _Way:
    """A picture between two steps, as `Picture` is, and what it has taken so far."""

    size: Size  # of one page as it lies in memory
    pages: int
    bands: int
    max_pixels: int
    auto_orient: bool
    orientation: int  # that the pixels do not show yet
    loaded_from: Size | None = None
    sequential: bool = False  # rows come from the top down, once
    whole_nbytes: float = 0  # of whole pictures
    rows_nbytes: float = 0  # of rows
    peak_nbytes: float = 0  # so far; what is whole and what flows is there at the same time, until the end
    work_ns: float = 0
    output_nbytes: int = 0

    @classmethod
    def of(cls, header: Header, source: FormatName | None, pipeline: Pipeline, nbytes: int) -> _Way:
        """A picture that has been opened, though nothing of it has been read."""
        stored = Size(header.width, header.height)
        bands = header.bands or (3 if source else 4)
        if source is None:
            most = max(pipeline.decode.max_pixels, stored.pixels)
            return cls(stored, 1, bands, most, auto_orient=True, orientation=1)
        decode = pipeline.decode
        orientation = header.orientation or 1
        if source == "avif":  # its decoder turns the picture
            stored, orientation = (stored.turned if orientation >= 5 else stored), 1  # noqa: PLR2004 (5 to 8 lie on their side)
        pages = _pages(header, pipeline, nbytes)
        shrink = 1
        if pages == 1 and decode.page == 0:
            shrink = shrink_on_load(pipeline, source, stored, orientation)
        size = Size(-(-stored.width // shrink), -(-stored.height // shrink))
        decoder = decoding(source, header, stored, size, pages, nbytes)
        way = cls(size, pages, min(bands, 4), decode.max_pixels, decode.auto_orient, orientation)
        if way.is_refused or stored.pixels * pages > decode.max_pixels:
            way.size = stored
            return way
        way.sequential, way.loaded_from = True, stored if shrink > 1 else None
        way.whole_nbytes, way.work_ns = decoder.whole_nbytes, decoder.work_ns
        way.rows_nbytes = decoder.rows_nbytes + ROWS_AT_ONCE * way.row_nbytes
        way.peak_nbytes = decoder.start_nbytes
        if source == "jpeg" and bands > 3:  # noqa: PLR2004 (cyan, magenta, yellow and black become three)
            way.bands = 3
        way.note_peak()
        if pages > 1:
            way.gather()
        return way

    @property
    def row_nbytes(self) -> int:
        return self.size.width * self.bands

    @property
    def nbytes(self) -> int:
        return self.size.pixels * self.pages * self.bands

    @property
    def is_refused(self) -> bool:
        """Whether the processor stops here, as the picture is larger than allowed."""
        return self.size.pixels * self.pages > self.max_pixels

    @property
    def seen(self) -> Size:
        stored = self.loaded_from or self.size
        return stored.turned if self.turns else stored

    @property
    def turns(self) -> bool:
        return self.auto_orient and self.orientation >= 5  # noqa: PLR2004 (5 to 8 are the ones on their side)

    @property
    def has_alpha(self) -> bool:
        return self.bands in (2, 4)

    def take_rows(self, nbytes: float) -> None:
        """A step looks at so many bytes of rows; more where they are multiplied by their alpha, and for each page anew."""
        nbytes *= 1.4 if self.has_alpha else 1.0
        self.rows_nbytes += nbytes + (self.pages - 1) * min(nbytes, PAGE_ROWS_NBYTES)

    def note_peak(self) -> None:
        self.peak_nbytes = max(self.peak_nbytes, self.whole_nbytes + self.rows_nbytes)

    def gather(self) -> None:
        """All pixels come into memory, where a decoder gives them."""
        if not self.sequential:
            return
        self.whole_nbytes += self.nbytes
        self.work_ns += 1.5 * self.nbytes
        self.sequential = False
        self.note_peak()

    def turn_upright(self) -> None:
        if not self.auto_orient or self.orientation == 1:
            return
        self.gather()
        self.work_ns += 3 * self.nbytes
        if self.turns:
            self.size = self.size.turned
        self.orientation = 1

    def take(self, step: Operation) -> None:
        """One step is made."""
        if isinstance(step, AutoOrient):
            self.auto_orient = True
            return
        if isinstance(step, Resize):
            self._resize(step)
            return
        self.turn_upright()
        self.work_ns += step_work_ns(step, self.nbytes) * (1.5 if self.has_alpha else 1.0)
        self.take_rows(step_rows(step) * self.row_nbytes)
        self.rows_nbytes += step_tiles_nbytes(step, alpha=self.has_alpha)
        if isinstance(step, Rotate):
            self._rotate(step)
        elif isinstance(step, Grayscale):
            self.bands = 2 if self.has_alpha else 1
        elif isinstance(step, Tint):
            self.bands = 4 if self.has_alpha else 3
        self.note_peak()

    def _resize(self, resize: Resize) -> None:
        scaled, canvas = fitting(resize, self.seen)
        if canvas.pixels * self.pages > self.max_pixels:
            self.size = canvas
            return
        before = self.nbytes
        stored = scaled.turned if self.turns else scaled
        if stored != self.size:
            rows = resize_rows(self.size.height / stored.height)
            self.take_rows(rows * self.row_nbytes + 100 * stored.width * self.bands)
        alpha = 2 if self.has_alpha else 1
        self.size, self.loaded_from = stored, None
        self.work_ns += alpha * (step_work_ns(resize, before) + 8 * min(self.nbytes, canvas.pixels * self.pages * self.bands))
        self.turn_upright()
        self.rows_nbytes += step_tiles_nbytes(resize, alpha=self.has_alpha)
        if is_strategy(resize.position):
            self.gather()
        if canvas != scaled and resize.fit == "contain" and rgba(resize.background).alpha < 1:
            self.bands = 4
        self.size = canvas
        self.note_peak()

    def _rotate(self, rotate: Rotate) -> None:
        angle = rotate.angle % 360
        if angle == 0:
            return
        self.gather()
        if angle in (90, 270):
            self.size = self.size.turned
        elif angle != 180:  # noqa: PLR2004 (degrees)
            if rgba(rotate.background).alpha < 1:
                self.bands = 4
            self.size = rotated(self.size, angle)
        self.work_ns += 0 if angle % 90 == 0 else 8 * self.nbytes

    def end(self, ending: Encoder | Raw) -> None:
        """The result is made."""
        if isinstance(ending, Raw):
            self.output_nbytes = self.nbytes * _ITEM_NBYTES[ending.dtype]
            self.work_ns += 0.3 * self.output_nbytes
            return
        if isinstance(ending, Jpeg) and self.has_alpha:
            self.bands -= 1
        encoder = encoding(ending, self.size, self.pages, self.bands)
        self.whole_nbytes += encoder.whole_nbytes
        self.rows_nbytes += encoder.rows_nbytes
        self.work_ns += encoder.work_ns
        self.output_nbytes = int(self.nbytes * ending.typical_ratio)
        self.note_peak()

    def estimate(self) -> Estimate:
        return Estimate(
            peak_bytes=int(self.peak_nbytes) + COLD_NBYTES, work_s=self.work_ns / 1e9 + 0.002, output_bytes=self.output_nbytes
        )


def rotated(size: Size, angle: float) -> Size:
    """The canvas that holds a picture turned by any angle."""
    across, down = abs(cos(radians(angle))), abs(sin(radians(angle)))
    return Size(round(size.width * across + size.height * down), round(size.width * down + size.height * across))


def _pages(header: Header, pipeline: Pipeline, nbytes: int) -> int:
    """How many pages are read. Where the header does not tell how many there are, the file's length gives an idea."""
    decode = pipeline.decode
    if decode.pages != -1:
        return decode.pages
    there = header.pages
    if there is None:
        page_nbytes = header.page_nbytes if isinstance(header, VipsHeader) else None
        most = decode.max_pixels // (header.width * header.height)
        there = min(-(-nbytes // page_nbytes), most) if page_nbytes else 1
    return max(there - decode.page, 1)
