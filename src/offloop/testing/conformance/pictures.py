"""What any picture plugin must pass: round trips, order, limits, damage, cancellation, progress, estimates, several outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, ClassVar, cast

import anyio
import msgspec
import pytest

from ...errors import InvalidTask, TaskFailed
from ...operation import Header, Operation, Plugin
from ...pool import Pool
from ...processor import Encoded, Payload, Raster, TaskCancelled
from ..inline import InlineTask, InlineWorker, run_inline
from .damage import damaged_copies
from .peak import measure_peak

__all__ = ["PictureConformance", "PictureSubject"]

_WIDTH, _HEIGHT, _BANDS = 48, 32, 3
_LARGE = 1600, 1200  # pixels of the picture whose peak is measured
_MUTATIONS = 60  # damaged files
_MAX_FACTOR, _MARGIN_NBYTES = 3, 30_000_000  # greatest estimate, relative to the measured peak


class PictureSubject(msgspec.Struct, frozen=True, kw_only=True):
    """A picture plugin, with the operations that the tests need."""

    plugin: type[Plugin]
    """The plugin. It has no parameters, or defaults for all of them."""

    encoder: Operation
    """Last step that makes a file without loss, of three bands of 8 bits."""

    raw: Operation
    """Last step that makes a raster of 8 bits: (height, width, bands)."""

    resize: Callable[[int, int], Operation]
    """Makes a step that stretches the picture to a width and a height."""

    quarter_turn: Operation
    """Step that rotates the picture by 90 degrees."""

    limit: Callable[[int], Operation]
    """Makes a first step that refuses a source with more than a number of pixels."""

    @property
    def processor(self) -> Any:
        """A new processor of the plugin, which is not opened."""
        module, _, name = self.plugin.processor.partition(":")
        return getattr(import_module(module), name)()


class _RecordingTask(InlineTask):
    def __init__(self) -> None:
        super().__init__()
        self.fractions: list[float] = []

    def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)


class PictureConformance:
    """Subclass it in a test module, with a name that pytest collects, and set `subject`."""

    subject: ClassVar[PictureSubject]

    def run(self, payload: Payload, *operations: Operation) -> Any:
        """Runs operations without a pool."""
        return run_inline(self.subject.processor, payload, operations)

    def file(self, width: int = _WIDTH, height: int = _HEIGHT) -> bytes:
        """Returns a picture as a file of the plugin's encoder."""
        return bytes(self.run(_raster(width, height), self.subject.encoder).data)

    def test_samples_survive_a_file_without_loss(self) -> None:
        shown = self.run(Encoded(self.file()), self.subject.raw)
        assert isinstance(shown, Raster)
        assert (shown.shape, shown.dtype) == ((_HEIGHT, _WIDTH, _BANDS), "|u1")
        assert bytes(shown.data) == _samples(_WIDTH, _HEIGHT)

    def test_info_tells_media_type_and_size(self) -> None:
        info = self.run(Encoded(self.file()), self.subject.resize(24, 8), self.subject.encoder).info
        assert (info["width"], info["height"]) == (24, 8)
        assert info["media_type"].startswith("image/")

    def test_operations_are_applied_in_their_order(self) -> None:
        resize, turn, raw = self.subject.resize(40, 10), self.subject.quarter_turn, self.subject.raw
        assert self.run(Encoded(self.file()), resize, turn, raw).shape[:2] == (40, 10)
        assert self.run(Encoded(self.file()), turn, resize, raw).shape[:2] == (10, 40)

    def test_a_source_is_only_read(self) -> None:
        source = bytearray(self.file())
        before = bytes(source)
        self.run(Encoded(memoryview(source).toreadonly()), self.subject.resize(24, 8), self.subject.raw)
        assert source == before

    def test_the_header_has_the_size_of_the_picture(self) -> None:
        plugin = self.subject.plugin()
        header = plugin.probe(memoryview(self.file())[: plugin.probe_nbytes])
        assert isinstance(header, Header)
        assert (header.width, header.height) == (_WIDTH, _HEIGHT)

    def test_no_bytes_make_the_light_half_raise(self) -> None:
        plugin = self.subject.plugin()
        for damaged in damaged_copies(self.file(), 4 * _MUTATIONS):
            header = plugin.probe(memoryview(damaged)[: plugin.probe_nbytes])
            assert header is None or header.width * header.height >= 0
            plugin.estimate(header, [self.subject.raw], len(damaged))

    def test_a_damaged_file_is_a_typed_error_or_a_picture(self) -> None:
        for damaged in damaged_copies(self.file(), _MUTATIONS):
            try:
                shown = self.run(Encoded(damaged), self.subject.limit(10**6), self.subject.raw)
            except (TaskFailed, InvalidTask):
                continue
            assert len(shown.shape) == 3  # noqa: PLR2004 (height, width, bands)

    @pytest.mark.parametrize("source", [b"", b"This is a text.\n", bytes(100)])
    def test_no_picture_is_a_typed_error(self, source: bytes) -> None:
        with pytest.raises(TaskFailed):
            self.run(Encoded(source), self.subject.raw)

    def test_a_source_beyond_the_limit_of_pixels_is_refused(self) -> None:
        self.run(Encoded(self.file()), self.subject.limit(_WIDTH * _HEIGHT), self.subject.raw)
        with pytest.raises(TaskFailed):
            self.run(Encoded(self.file()), self.subject.limit(_WIDTH * _HEIGHT - 1), self.subject.raw)

    def test_a_cancelled_task_stops(self) -> None:
        processor, task = self.subject.processor, InlineTask()
        processor.open(InlineWorker(self.subject.plugin.settings))
        task.cancel()
        with pytest.raises(TaskCancelled):
            processor.run(Encoded(self.file()), [self.subject.resize(24, 8), self.subject.raw], task)

    def test_progress_is_a_fraction_that_grows(self) -> None:
        processor, task = self.subject.processor, _RecordingTask()
        processor.open(InlineWorker(self.subject.plugin.settings))
        processor.run(Encoded(self.file(*_LARGE)), [self.subject.resize(800, 600), self.subject.encoder], task)
        assert task.fractions == sorted(task.fractions)
        assert all(0 <= fraction <= 1 for fraction in task.fractions)

    def test_the_estimate_is_near_the_measured_peak(self) -> None:
        source, plugin = self.file(*_LARGE), self.subject.plugin()
        header = plugin.probe(memoryview(source)[: plugin.probe_nbytes])
        for steps in ([self.subject.resize(800, 600), self.subject.raw], [self.subject.quarter_turn, self.subject.encoder]):
            estimate = plugin.estimate(header, steps, len(source))
            assert estimate is not None
            measured = measure_peak(self.subject.plugin, source, steps, 4 * _LARGE[0] * _LARGE[1] * _BANDS)
            assert measured <= estimate.peak_bytes <= _MAX_FACTOR * measured + _MARGIN_NBYTES

    def test_several_outputs_in_a_pool_are_what_each_is_alone(self) -> None:
        pipelines = {
            "small": [self.subject.resize(24, 8), self.subject.raw],
            "turned": [self.subject.quarter_turn, self.subject.raw],
        }
        source = self.file()
        alone = {name: bytes(self.run(Encoded(source), *steps).data) for name, steps in pipelines.items()}
        assert anyio.run(_run_together, self.subject.plugin, source, pipelines) == alone


async def _run_together(plugin: type[Plugin], source: bytes, pipelines: dict[str, list[Operation]]) -> dict[str, bytes]:
    async with Pool(1, plugins=[plugin]) as pool:
        outcomes = await pool.run_many(source, cast("dict[str, Sequence[Operation]]", pipelines))
        return {name: bytes(outcome.unwrap()) for name, outcome in outcomes.items()}


def _samples(width: int, height: int) -> bytes:
    """Returns a picture whose pixels differ from their neighbours, and that no turn maps to itself."""
    row = bytes((x * step) % 251 for x in range(width) for step in (1, 3, 5))
    rows = [row[_BANDS * shift :] + row[: _BANDS * shift] for shift in range(min(width, 7))]
    return b"".join(rows[y * y % len(rows)] for y in range(height))


def _raster(width: int, height: int) -> Raster:
    return Raster(_samples(width, height), (height, width, _BANDS), "|u1")
