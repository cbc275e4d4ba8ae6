"""The heavy half of the plugin: imported in a worker, where it carries pipelines out with libvips."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pyvips

from offloop.errors import InvalidTask
from offloop.operation import Operation, describe
from offloop.processor import Encoded, Payload, Task, WorkerContext

from ..evaluation import Evaluation
from ..geometry import Size
from ..headers.formats import FORMATS, FormatName
from ..operations import (
    AutoOrient,
    Blur,
    Grayscale,
    Raw,
    Resize,
    Rotate,
    Sharpen,
    Tint,
    auto_orient,
    blur,
    grayscale,
    resize,
    rotate,
    sharpen,
    tint,
)
from ..picture import Picture, check_pixels
from ..pipeline import Pipeline, default_encoder
from .libvips_errors import explain, is_corrupt, is_memory_limited
from .loading import is_readable_when_small, open_encoded, open_raster, recognise
from .saving import save_encoded, save_raster

__all__ = ["VipsProcessor"]

_STEPS: dict[type[Operation], Callable[[Picture, Any], Picture]] = {
    AutoOrient: auto_orient.apply,
    Blur: blur.apply,
    Grayscale: grayscale.apply,
    Resize: resize.apply,
    Rotate: rotate.apply,
    Sharpen: sharpen.apply,
    Tint: tint.apply,
}


vips = cast("Any", pyvips)  # it makes some of its names at run time, where a type checker cannot see them


class VipsProcessor:
    """Carries out image operations, one task at a time, with as many libvips threads as the task may have."""

    def open(self, worker: WorkerContext) -> None:  # noqa: ARG002 (the signature is the contract)
        """Set libvips up for untrusted sources and for tasks that have nothing in common."""
        vips.cache_set_max(0)  # it would keep results, and with them our memory, for a next task that never asks for them
        vips.concurrency_set(1)  # workers are the parallelism
        vips.block_untrusted_set(True)
        vips.operation_block_set("VipsForeignLoad", True)
        for form in FORMATS.values():
            vips.operation_block_set(form.loader_class, False)

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        """Carry out a pipeline; afterwards nothing here looks at the payload's memory or at the result's.

        Raises:
            TaskFailed: "corrupt_source", "unsupported_format", "too_many_pixels", "too_many_pages" or "processing_failed".
            InvalidTask: the operations cannot stand in this order, or not on this payload.
            TaskCancelled: the task was to stop, and did.
            MemoryError: memory could not be had. Where a library ends the process instead, this is never heard.
        """
        pipeline = Pipeline.of(operations, encoded=isinstance(payload, Encoded))
        source = recognise(payload, pipeline.decode) if isinstance(payload, Encoded) else None
        evaluation = Evaluation(task)
        try:
            with task.on_cancel(evaluation.stop), _threads(task.threads):
                return _carry_out(payload, source, pipeline, evaluation, task)
        except pyvips.Error as error:
            failure = explain(error, source)
        except BaseException as error:
            _forget_frames(error)
            raise
        finally:
            evaluation.release()
        task.checkpoint()  # a task that was stopped fails with whatever the step it was in made of that
        if (
            source == "webp"
            and is_corrupt(failure)
            and is_memory_limited()
            and is_readable_when_small(cast("Encoded", payload))
        ):
            raise MemoryError(str(failure))
        raise failure


@contextmanager
def _threads(number: int) -> Generator[None]:
    """Have libvips compute with so many threads. Encoders and decoders use one of their own all the same, except AVIF's."""
    if number == 1:
        yield
        return
    vips.concurrency_set(number)
    try:
        yield
    finally:
        vips.concurrency_set(1)


def _carry_out(payload: Payload, source: FormatName | None, pipeline: Pipeline, evaluation: Evaluation, task: Task) -> Payload:
    if isinstance(payload, Encoded):
        assert source is not None
        picture = open_encoded(payload, source, pipeline, evaluation)
    else:
        picture = open_raster(payload, evaluation)
    for operation in pipeline.steps:
        task.checkpoint()
        picture = _apply(operation, picture)
    picture = picture.upright()
    ending = pipeline.ending or (default_encoder(source, picture.pages) if source else Raw())
    task.checkpoint()
    return save_raster(picture, ending, task) if isinstance(ending, Raw) else save_encoded(picture, ending, task)


def _apply(operation: Operation, picture: Picture) -> Picture:
    apply = _STEPS.get(type(operation))
    if apply is None:
        raise InvalidTask(f"{describe(operation)} is no operation of offloop-vips")
    if not isinstance(operation, AutoOrient | Resize):  # these two see to it themselves
        picture = picture.upright()
    picture = apply(picture, operation)
    check_pixels(Size(*picture.page_size), picture.pages, picture.max_pixels)
    return picture


def _forget_frames(error: BaseException | None) -> None:
    """A traceback holds local variables: images, and through them memory that is only ours until `run` is left."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
