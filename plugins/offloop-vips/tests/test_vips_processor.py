"""`VipsProcessor`: cancellation, progress, memory and errors."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import pytest
import pyvips

from offloop.errors import InvalidTask, TaskFailed
from offloop.processor import Encoded, Raster, TaskCancelled
from offloop.testing import InlineTask
from offloop_vips import Avif, Blur, Decode, Jpeg, Png, Raw, Resize, Rotate, Sharpen, Webp
from offloop_vips.processor import VipsProcessor


@pytest.fixture
def processor() -> VipsProcessor:
    processor = VipsProcessor()
    processor.open(None)  # type: ignore[arg-type]
    return processor


@pytest.fixture(autouse=True)
def _no_images_of_other_tests():
    gc.collect()


class CountingTask(InlineTask):
    """Records the number of libvips threads at the allocation of the result."""

    threads_seen = 0

    def allocate(self, nbytes: int) -> memoryview:
        self.threads_seen = cast("Any", pyvips).concurrency_get()
        return super().allocate(nbytes)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_task_has_its_number_of_threads_and_the_next_task_the_default(processor: Any, bench: Any, smooth: Any, threads: int):
    source = bench.file(smooth(600, 400), ".png")
    task = CountingTask(threads)
    result = processor.run(Encoded(memoryview(source)), [Blur(2.0), Resize(100), Raw()], task)
    assert task.threads_seen == threads
    assert cast("Any", pyvips).concurrency_get() == 1
    alone = processor.run(Encoded(memoryview(source)), [Blur(2.0), Resize(100), Raw()], InlineTask())
    assert bytes(result.data) == bytes(alone.data)


def test_a_failed_task_resets_the_number_of_threads(processor: Any, bench: Any, smooth: Any):
    damaged = bench.file(smooth(300, 200), ".jpg")[:2000]
    with pytest.raises(TaskFailed):
        processor.run(Encoded(memoryview(damaged)), [Raw()], InlineTask(3))
    assert cast("Any", pyvips).concurrency_get() == 1


def images_alive() -> list[Any]:
    """Returns the libvips objects that Python keeps alive. Each of them may point into memory of the task."""
    return [item for item in gc.get_objects() if isinstance(item, pyvips.Image | pyvips.Source | pyvips.Target)]


class SelfCancellingTask(InlineTask):
    """Cancels itself at a fraction, and then calls the cancel callback every millisecond, as a worker does."""

    def __init__(self, cancel_at: float) -> None:
        super().__init__()
        self.cancel_at = cancel_at

    def progress(self, fraction: float) -> None:
        super().progress(fraction)
        if fraction >= self.cancel_at:
            self.cancel()

    @contextmanager
    def on_cancel(self, callback: Any) -> Generator[None]:
        done = threading.Event()

        def repeat() -> None:
            while not done.wait(0.001):
                if self.cancelled:
                    callback()

        thread = threading.Thread(target=repeat)
        thread.start()
        try:
            with super().on_cancel(callback):
                yield
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize(
    "operations",
    [[Sharpen(3.0), Raw()], [Sharpen(3.0), Png()], [Sharpen(3.0)], [Rotate(90), Sharpen(3.0)], [Sharpen(3.0), Resize(1200)]],
)
def test_a_cancelled_task_stops_during_evaluation(processor: Any, bench: Any, smooth: Any, operations: Any):
    source = bench.file(smooth(3000, 2000), ".jpg")
    task = SelfCancellingTask(cancel_at=0.05)
    with pytest.raises(TaskCancelled):
        processor.run(Encoded(memoryview(source)), operations, task)
    assert 0.05 <= task.fraction < 0.9


def test_a_cancelled_task_stops_after_its_source_has_been_read(processor: Any, bench: Any, smooth: Any):
    task = SelfCancellingTask(cancel_at=0.05)
    with pytest.raises(TaskCancelled):
        processor.run(Encoded(bench.file(smooth(9, 9), ".png")), [Resize(3000, 2000), Sharpen(3.0), Raw()], task)
    assert 0.05 <= task.fraction < 0.9


def test_a_cancelled_task_stops_during_a_copy_to_memory(processor: Any, bench: Any, smooth: Any):
    source = bench.file(smooth(3000, 2000), ".jpg")
    task = SelfCancellingTask(cancel_at=2)
    timer = threading.Timer(0.02, task.cancel)
    timer.start()
    started = time.process_time()
    with pytest.raises(TaskCancelled):
        processor.run(Encoded(memoryview(source)), [Blur(80.0), Rotate(20), Blur(80.0)], task)
    timer.join()
    assert task.fraction < 1
    assert time.process_time() - started < 2  # several without the cancellation


def test_a_task_that_is_cancelled_before_its_start_computes_nothing(processor: Any, quarters: Any):
    task = InlineTask()
    task.cancel()
    with pytest.raises(TaskCancelled):
        processor.run(Raster(quarters.tobytes(), quarters.shape, "|u1"), [Blur()], task)
    assert task.fraction == 0


def test_progress_increases_to_one(processor: Any, bench: Any, smooth: Any):
    seen: list[float] = []

    class Watched(InlineTask):
        def progress(self, fraction: float) -> None:
            seen.append(fraction)

    processor.run(Encoded(bench.file(smooth(1500, 1500), ".png")), [Blur(), Webp(effort=0)], Watched())
    assert seen == sorted(set(seen))
    assert len(seen) > 3
    assert seen[-1] == 1


@pytest.mark.parametrize("output_step", [Jpeg(), Webp(), Avif(effort=0), Png()])
def test_an_exception_of_the_output_is_raised_through_the_encoder(processor: Any, quarters: Any, output_step: Any):
    class FullError(Exception):
        pass

    class Refusing:
        view = memoryview(b"")

        def write(self, chunk: Any) -> int:
            raise FullError

    class Task(InlineTask):
        def output(self, expected_nbytes: int = 0) -> Any:
            return Refusing()

    with pytest.raises(FullError) as raised:
        processor.run(Raster(quarters.tobytes(), quarters.shape, "|u1"), [output_step], Task())
    assert raised.value.__traceback__ is not None  # the caller keeps the error; images are freed all the same
    assert not images_alive()


@pytest.mark.parametrize(
    "operations",
    [[], [Resize(40), Webp()], [Rotate(90)], [Raw()], [Resize(30, 30, position="attention"), Blur(3), Sharpen(1.0)],
     [Resize(100_000)], [Decode(formats=("png",))], [Decode(page=1)], [Blur(), Decode()]],
)  # fmt: skip
@pytest.mark.parametrize("damaged", [False, True])
def test_no_image_refers_to_the_source_after_the_task(processor: Any, bench: Any, smooth: Any, operations: Any, damaged: bool):
    source = bytearray(bench.file(smooth(200, 100), ".jpg"))
    if damaged:
        del source[-len(source) // 3 :]
    view = memoryview(source)
    error = None
    try:
        processor.run(Encoded(view), operations, InlineTask())
    except (TaskFailed, InvalidTask) as raised:
        error = raised  # kept, because its traceback must not keep images alive
    view.release()
    source.clear()  # raises BufferError while an object refers to the memory
    assert not images_alive()
    assert error is None or damaged or operations not in ([], [Raw()])


def test_no_image_refers_to_a_raster_or_its_result_after_the_task(processor: Any, quarters: Any):
    source, blocks = bytearray(quarters.tobytes()), list[bytearray]()

    class Task(InlineTask):
        def allocate(self, nbytes: int) -> memoryview:
            blocks.append(bytearray(nbytes))
            return memoryview(blocks[-1])

    view = memoryview(source)
    result = processor.run(Raster(view, quarters.shape, "|u1"), [Rotate(180)], Task())
    assert bytes(result.data) == quarters[::-1, ::-1].tobytes()
    result.data.release()
    view.release()
    source.clear()
    blocks[0].clear()


def test_a_result_is_computed_in_the_allocated_block(processor: Any, quarters: Any):
    blocks: list[Any] = []

    class Task(InlineTask):
        def allocate(self, nbytes: int) -> memoryview:
            blocks.append(np.zeros(nbytes, "u1"))
            return memoryview(blocks[-1])

    processor.run(Raster(quarters.tobytes(), quarters.shape, "|u1"), [Raw()], Task())
    (block,) = blocks
    assert (block.reshape(quarters.shape) == quarters).all()


def test_a_source_is_read_in_place(processor: Any, bench: Any, smooth: Any):
    source = bytearray(bench.file(smooth(64, 64), ".png") + bytes(1000))
    other = bench.file(255 - smooth(64, 64), ".png")
    swapped: list[bool] = []

    class Task(InlineTask):
        def allocate(self, nbytes: int) -> memoryview:  # after the header has been read, and before any pixel
            source[:] = other.ljust(len(source), b"\0")
            swapped.append(True)
            return super().allocate(nbytes)

    assert len(other) <= len(source)
    result = processor.run(Encoded(memoryview(source)[:]), [Raw()], Task())
    assert swapped
    assert (bench.read(result) == 255 - smooth(64, 64)).all()


def test_other_loaders_are_blocked_in_the_whole_process(processor: Any):
    for data in (b"P6 3 3 255\n" + bytes(27), b"#?RADIANCE\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>"):
        with pytest.raises(pyvips.Error):
            pyvips.Image.new_from_buffer(data, "")
    with pytest.raises(pyvips.Error, match="blocked"):
        pyvips.Image.matrixload(__file__)  # a loader that libvips itself trusts


def test_tasks_share_no_cache_and_no_threads(processor: Any):
    vips = cast("Any", pyvips)
    assert vips.cache_get_max() == 0
    assert vips.concurrency_get() == 1


def test_a_long_task_reports_its_progress_and_a_short_one_does_not(bench: Any, smooth: Any):
    class Reporting(InlineTask):
        reports = 0

        def progress(self, fraction: float) -> None:
            self.reports += 1

    reports: list[int] = []
    for side, operations in ((3000, [Blur(3), Raw()]), (300, [Resize(100), Raw()])):
        task = Reporting()
        VipsProcessor().run(Encoded(memoryview(bench.file(smooth(side, side), ".png", compression=0))), operations, task)
        reports.append(task.reports)
    assert reports[0] > 5
    assert reports[1] == 0
