"""Fixtures of the plugin's tests: the processor without a pool, and pictures whose foreground is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import pytest

from offloop.operation import Operation
from offloop.processor import Raster
from offloop.testing import InlineTask, run_inline
from offloop_onnx import OnnxModel, OnnxPlugin
from offloop_onnx.processor import OnnxProcessor

from .tiny_networks import network, save

Array: TypeAlias = Any  # a numpy array; assertions check shape and dtype


class Bench:
    """Runs operations on arrays, with models from one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.info: Any = {}  # of the last result

    def model(self, data: bytes, **fields: Any) -> OnnxModel:
        return save(self.directory, data, **fields)

    def run(self, source: Array, *operations: Operation) -> Array:
        array: Any = np.ascontiguousarray(source)
        payload = Raster(memoryview(array).cast("B"), array.shape, array.dtype.str)
        settings = OnnxPlugin(model_directories=[self.directory]).settings
        result = cast("Any", run_inline(OnnxProcessor(), payload, operations, settings=settings))
        self.info = result.info
        return np.frombuffer(result.data, result.dtype).reshape(result.shape)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def red_finder(bench: Bench) -> OnnxModel:
    """A model whose mask is the red band of the picture, at 32 x 32 pixels."""
    data = network(
        [("Slice", ["image", "first", "second", "band"], "result", {})],
        shape=[1, 32, 32, 3],
        constants=[_index("first", 0), _index("second", 1), _index("band", 3)],
    )
    return bench.model(data, input="NHWC", size=(32, 32))


def _index(name: str, value: int) -> Any:
    from .tiny_networks import constant

    return constant(name, [value], "i8")


@pytest.fixture
def disc() -> Array:
    """A picture of 160 x 120 pixels: a red disc with a soft edge on blue."""
    rows, columns = np.mgrid[0:120, 0:160]
    alpha = np.clip(40.5 - np.hypot(rows - 59.5, columns - 79.5), 0, 1)[..., None]
    return np.rint(alpha * (255, 0, 0) + (1 - alpha) * (0, 0, 255)).astype("u1")


class CountingTask(InlineTask):
    """A task that is cancelled at its n-th checkpoint, and remembers its progress."""

    def __init__(self, cancel_at: int) -> None:
        super().__init__()
        self.left = cancel_at
        self.fractions: list[float] = []

    def checkpoint(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.cancel()
        super().checkpoint()

    def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)
