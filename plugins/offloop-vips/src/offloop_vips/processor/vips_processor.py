"""`VipsProcessor`: runs pipelines with libvips in a worker."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import pyvips

from offloop.errors import InvalidTask, TaskFailed
from offloop.operation import Header, Operation, describe
from offloop.processor import Encoded, Payload, Task, WorkerContext

from ..evaluation import Evaluation
from ..geometry import Size
from ..headers.formats import FORMATS, FormatName
from ..limits import check_output_side, check_pixels
from ..operations import Answer, Auto, Decode, Raw, Step, Tiles
from ..operations.kept_rows import apply_step
from ..picture import Picture
from ..pipeline import Pipeline, default_encoder
from ..plugin import VipsPlugin
from .attachments import load_attachment
from .damage import check_rest, is_readable
from .libvips_errors import corrupt_source, is_corrupt_source, is_memory_limited, translate_error
from .loading import can_load_shrunk_webp, detect_format, load_encoded, load_raster
from .preview_loading import PreviewLoader
from .saving import save_answer, save_encoded, save_raster
from .tiles import save_tiles

__all__ = ["VipsProcessor"]

# Expected CPU time of a task that does not report its progress. The calls take 4 ms in a task of 30 ms, and progress is read
# every 50 ms at most.
_SHORT_S = 0.1
_NEVER_ON_DISC = "1024g"

vips = cast("Any", pyvips)  # some names are made at run time, where a type checker cannot see them


class VipsProcessor:
    """Runs image operations, one task at a time, with `task.threads` libvips threads."""

    def open(self, worker: WorkerContext) -> None:  # noqa: ARG002 (the signature is the contract)
        """Configures libvips for untrusted sources and unrelated tasks."""
        # because libvips decodes large pictures into a temporary file, which the sandbox refuses; in memory, the task's limit
        # bounds them
        os.environ["VIPS_DISC_THRESHOLD"] = _NEVER_ON_DISC
        vips.cache_set_max(0)  # the cache would keep results and their memory, which no later task uses
        vips.concurrency_set(1)  # because the workers of the pool run in parallel
        # because a client's damaged file would write a line for each strip; the task's error has what the decoder says
        logging.getLogger("pyvips").setLevel(logging.ERROR)
        vips.block_untrusted_set(True)
        vips.operation_block_set("VipsForeignLoad", True)
        for file_format in FORMATS.values():
            vips.operation_block_set(file_format.loader_class, False)

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        """Runs a pipeline. After the return no object of libvips points into the memory of the payload or of the result.

        Raises:
            TaskFailed: "corrupt_source", "unsupported_format", "too_many_pixels", "too_many_pages" or "processing_failed".
            InvalidTask: the order of the operations is wrong, or they do not suit the payload.
            TaskCancelled: the task was cancelled.
            MemoryError: an allocation failed. Some libraries abort the process instead.
        """
        pipeline = Pipeline.of(operations, encoded=isinstance(payload, Encoded))
        source = detect_format(payload, pipeline.decode) if isinstance(payload, Encoded) else None
        load = partial(load_attachment, task, pipeline.decode)
        evaluation = Evaluation(task, load, reports_progress=_is_long(payload, operations))
        vips.vips_lib.vips_error_clear()  # which may have lines of an earlier task
        try:
            with task.on_cancel(evaluation.stop), _concurrency(task.threads):
                made = _run(payload, source, pipeline, evaluation, task)
                if source is not None:
                    check_rest(cast("Encoded", payload), source, pipeline.decode, evaluation)
                return made
        except pyvips.Error as error:
            failure = translate_error(error, source)
        except BaseException as error:
            _clear_frames(error)
            raise
        finally:
            evaluation.release()
        task.checkpoint()  # raises TaskCancelled, because the error of a stopped task depends on the step
        if source is not None:
            failure = _explained(failure, cast("Encoded", payload), source, pipeline, evaluation)
        raise failure

    def run_many(
        self, payload: Payload, pipelines: Sequence[Sequence[Operation]], task: Task
    ) -> Iterator[tuple[int, Payload | Exception]]:
        """Runs several pipelines on one payload. Those with the same `Decode` share one decode, into memory.

        Yields:
            The index of a pipeline, and its result or its error, as for `run`.
        """
        by_decode: dict[Decode, dict[int, Pipeline]] = {}
        for index, operations in enumerate(pipelines):
            try:
                pipeline = Pipeline.of(operations, encoded=isinstance(payload, Encoded))
            except InvalidTask as error:
                yield index, error
            else:
                by_decode.setdefault(pipeline.decode, {})[index] = pipeline
        for decode, shared in by_decode.items():
            evaluation = Evaluation(task, partial(load_attachment, task, decode))
            try:
                with task.on_cancel(evaluation.stop), _concurrency(task.threads):
                    yield from self._run_shared(payload, shared, evaluation, task)
            finally:
                evaluation.release()

    def _run_shared(
        self, payload: Payload, pipelines: dict[int, Pipeline], evaluation: Evaluation, task: Task
    ) -> Iterator[tuple[int, Payload | Exception]]:
        try:
            picture, source = _load_shared(payload, pipelines, evaluation, task)
        except (TaskFailed, InvalidTask, MemoryError) as error:
            _clear_frames(error)
            yield from ((index, error) for index in pipelines)
            return
        for index, pipeline in pipelines.items():
            try:
                result = _finish(picture, source, pipeline, task)
            except pyvips.Error as error:
                task.checkpoint()  # raises TaskCancelled, because the error of a stopped task depends on the step
                yield index, translate_error(error, source)
            except (TaskFailed, InvalidTask, MemoryError) as error:
                _clear_frames(error)
                yield index, error
            else:
                yield index, result


def _load_shared(
    payload: Payload, pipelines: Mapping[int, Pipeline], evaluation: Evaluation, task: Task
) -> tuple[Picture, FormatName | None]:
    """Hands over the previews, and returns the picture in memory, and its format; None for a raster, which is in memory."""
    if not isinstance(payload, Encoded):
        return _send_previews(payload, load_raster(payload, evaluation), None, pipelines, task), None
    first, *others = pipelines.values()
    source = detect_format(payload, first.decode)
    vips.vips_lib.vips_error_clear()  # which may have lines of an earlier task
    try:
        picture = load_encoded(payload, source, first, evaluation, others)
        picture = _send_previews(payload, picture, source, pipelines, task).with_random_access()
        check_rest(payload, source, first.decode, evaluation)
    except pyvips.Error as error:
        failure = translate_error(error, source)
    else:
        return picture, source
    task.checkpoint()
    raise _explained(failure, payload, source, first, evaluation)


def _send_previews(
    payload: Payload, picture: Picture, source: FormatName | None, pipelines: Mapping[int, Pipeline], task: Task
) -> Picture:
    for index, pipeline in pipelines.items():
        if pipeline.preview is not None and task.wants_preview:
            picture = _send_preview(payload, picture, source, pipeline, task, index)
    return picture


def _explained(
    failure: TaskFailed | MemoryError, encoded: Encoded, source: FormatName, pipeline: Pipeline, evaluation: Evaluation
) -> TaskFailed | MemoryError:
    """Returns the failure with its reason, where the error of libvips does not tell it."""
    if isinstance(failure, MemoryError):
        return failure
    if failure.code == "processing_failed" and not is_readable(encoded, source, pipeline.decode, evaluation):
        return corrupt_source(source)
    if source == "webp" and is_corrupt_source(failure) and is_memory_limited() and can_load_shrunk_webp(encoded):
        return MemoryError(str(failure))
    return failure


def _is_long(payload: Payload, operations: Sequence[Operation]) -> bool:
    """Whether a task is expected to take so long that its progress is worth the calls from libvips to Python."""
    if isinstance(payload, Encoded):
        with memoryview(payload.data)[: VipsPlugin.probe_nbytes] as start:
            header = VipsPlugin().probe(start)
        nbytes = memoryview(payload.data).nbytes
    else:
        height, width, bands = (*payload.shape, 1, 1, 1)[:3]
        header, nbytes = Header(media_type="", width=width, height=height, bands=bands), memoryview(payload.data).nbytes
    estimate = VipsPlugin().estimate(header, operations, nbytes)
    return estimate is None or estimate.work_s > _SHORT_S


@contextmanager
def _concurrency(threads: int) -> Generator[None]:
    """Sets the number of libvips threads. Codecs run in one thread for any value, except AVIF's."""
    if threads == 1:
        yield
        return
    vips.concurrency_set(threads)
    try:
        yield
    finally:
        vips.concurrency_set(1)


def _run(payload: Payload, source: FormatName | None, pipeline: Pipeline, evaluation: Evaluation, task: Task) -> Payload:
    if isinstance(payload, Encoded):
        assert source is not None
        picture = load_encoded(payload, source, pipeline, evaluation)
    else:
        picture = load_raster(payload, evaluation)
    if pipeline.preview is not None and task.wants_preview:
        picture = _send_preview(payload, picture, source, pipeline, task)
    return _finish(picture, source, pipeline, task, emits=True)


def _send_preview(
    payload: Payload, picture: Picture, source: FormatName | None, pipeline: Pipeline, task: Task, index: int | None = None
) -> Picture:
    """Hands over the preview of a pipeline, and returns the picture for its steps. Without a preview the task goes on.

    Raises:
        pyvips.Error: the picture of the pipeline could not be decoded.
    """
    picture.evaluation.take_messages()
    loader = PreviewLoader(payload, picture, source, pipeline, Evaluation(task, reports_progress=False))
    if not loader.has_own_decode:
        picture = loader.picture = picture.with_random_access()
    try:
        with task.on_cancel(loader.evaluation.stop):
            made = _finish(loader.load(), None, loader.pipeline, task)
    except (pyvips.Error, TaskFailed, InvalidTask, MemoryError) as error:
        _clear_frames(error)
        task.checkpoint()
    else:
        task.preview(made, index)
    finally:
        loader.evaluation.release()
        vips.vips_lib.vips_error_clear()  # which may have lines about the preview
    return picture


def _finish(picture: Picture, source: FormatName | None, pipeline: Pipeline, task: Task, *, emits: bool = False) -> Payload:
    """Applies the steps of a pipeline to a picture, and saves it. `emits`: whether outputs before the last one are allowed."""
    for operation in pipeline.steps:
        task.checkpoint()
        picture = _apply(operation, picture)
    picture = picture.upright()
    output_step = pipeline.output_step
    if output_step is None:  # the plugin of a later stage gets samples, which are sRGB
        picture = picture if task.is_last_stage else picture.in_colour_space("srgb")
        output_step = default_encoder(source, picture.pages) if source and task.is_last_stage else Raw()
    if isinstance(output_step, Auto):
        output_step = output_step.resolve(has_alpha=picture.image.hasalpha(), pages=picture.pages)
    task.checkpoint()
    if isinstance(output_step, Answer):
        return save_answer(picture.in_colour_space("srgb"), output_step, task)
    check_output_side(picture.page_size, pipeline.decode.max_output_side)
    if isinstance(output_step, Tiles):
        return save_tiles(picture, output_step, task, pipeline.decode.max_output_bytes, emits=emits)
    if isinstance(output_step, Raw):
        return save_raster(picture, output_step, task, pipeline.decode.max_output_bytes)
    return save_encoded(picture, output_step, task, pipeline.decode.max_output_bytes)


def _apply(step: Operation, picture: Picture) -> Picture:
    if not isinstance(step, Step):
        raise InvalidTask(f"{describe(step)} is not an operation of offloop-vips")
    if not step.applies_orientation:
        picture = picture.upright()
    picture = apply_step(step, picture)
    check_pixels(Size(*picture.page_size), picture.pages, picture.max_pixels)
    return picture


def _clear_frames(error: BaseException | None) -> None:
    """Clears the frames of tracebacks, because local variables keep images and task memory alive."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
