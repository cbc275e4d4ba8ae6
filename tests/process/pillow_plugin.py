"""A picture plugin of few operations over Pillow, for PNG files: the second plugin that passes the conformance kit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from struct import unpack_from
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from offloop.errors import InvalidTask, TaskFailed
from offloop.operation import Estimate, Header, Operation, Plugin
from offloop.processor import Encoded, Payload, Raster, Task, WorkerContext

Side = Annotated[int, Meta(ge=1)]


class PillowLimit(Operation, frozen=True):
    max_pixels: int


class PillowResize(Operation, frozen=True):
    width: Side
    height: Side


class PillowTurn(Operation, frozen=True):
    pass


class PillowPng(Operation, frozen=True):
    pass


class PillowRaw(Operation, frozen=True):
    pass


class PillowPlugin(Plugin):
    name = "pillow"
    operations = (PillowLimit, PillowResize, PillowTurn, PillowPng, PillowRaw)
    processor = "pillow_plugin:PillowProcessor"
    quick: ClassVar[bool] = True

    def check(self, operations: Sequence[Operation]) -> None:
        if any(isinstance(operation, PillowLimit) for operation in operations[1:]):
            raise InvalidTask("PillowLimit can only be the first step")

    def probe(self, data: memoryview) -> Header | None:
        if data.nbytes < 26 or bytes(data[:8]) != b"\x89PNG\r\n\x1a\n":
            return None
        width, height = unpack_from(">II", data, 16)
        return Header(media_type="image/png", width=width, height=height)

    def refuse(self, header: Header, operations: Sequence[Operation], nbytes: int) -> None:
        if operations and isinstance(operations[0], PillowLimit):
            _check(header.width, header.height, operations[0].max_pixels)

    def estimate(self, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Estimate | None:
        if header is None:
            return None
        pixels = header.width * header.height
        made = max([pixels, *(step.width * step.height for step in operations if isinstance(step, PillowResize))])
        copies = 4 * (pixels + made) * 2  # four bytes for each pixel of a picture, and a copy
        return Estimate(peak_bytes=copies + 8_000_000, work_s=50e-9 * (pixels + made), output_bytes=3 * made)


class PillowProcessor:
    def open(self, worker: WorkerContext) -> None:
        from PIL import Image  # only a worker has Pillow

        Image.init()
        self._images: Any = Image

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        image, steps = self._load(payload, operations), list(operations)
        for number, step in enumerate(steps):
            task.checkpoint()
            task.progress(number / len(steps))
            if isinstance(step, PillowResize):
                image = image.resize((step.width, step.height))
            elif isinstance(step, PillowTurn):
                image = image.transpose(self._images.Transpose.ROTATE_270)
        return self._saved(image, steps[-1], task)

    def _load(self, payload: Payload, operations: Sequence[Operation]) -> Any:
        if isinstance(payload, Raster):
            height, width, _ = payload.shape
            return self._images.frombytes("RGB", (width, height), bytes(payload.data))
        try:
            image = self._images.open(io.BytesIO(payload.data), formats=["PNG"])
            if operations and isinstance(operations[0], PillowLimit):
                _check(image.width, image.height, operations[0].max_pixels)
            return image.convert("RGB")
        except (OSError, SyntaxError, ValueError, self._images.DecompressionBombError) as error:
            raise TaskFailed("corrupt_source", str(error)) from None

    def _saved(self, image: Any, step: Operation, task: Task) -> Payload:
        info = {"media_type": "image/png", "width": image.width, "height": image.height}
        if not isinstance(step, PillowRaw):
            file = io.BytesIO()
            image.save(file, "PNG")
            output = task.output(file.tell())
            output.write(file.getbuffer())
            return Encoded(output.view, info)
        block = task.allocate(3 * image.width * image.height)
        block[:] = image.tobytes()
        return Raster(block, (image.height, image.width, 3), "|u1", info)


def _check(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TaskFailed("too_many_pixels", f"{width} x {height} pixels, the limit is {max_pixels}")
