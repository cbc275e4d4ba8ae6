"""A plugin whose processor uses parts of numpy, Pillow and Python that are imported late."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from offloop import Encoded, Operation, Payload, Plugin, Task, WorkerContext

__all__ = ["LazyPlugin", "Use"]


class Use(Operation, frozen=True):
    """Use one of the parts. Returns its result as text."""

    part: str


class LazyPlugin(Plugin):
    name = "lazy"
    operations = (Use,)
    processor = "lazy_plugin:LazyProcessor"


def _late_module() -> object:
    import this

    return this


PARTS: dict[str, Callable[[], object]] = {
    "fft": lambda: [float(each) for each in np.fft.fft([1.0, 2.0]).real],
    "median": lambda: float(np.median([1.0, 2.0, 9.0])),
    "masked": lambda: int(np.ma.array([1, 2, 3], mask=[False, False, True]).sum()),
    "random": lambda: np.random.default_rng(1).integers(1, 2),
    "polynomial": lambda: float(np.polynomial.Polynomial([1, 1])(2)),
    "color": lambda: Image.new("RGB", (1, 1), "red").getpixel((0, 0)),
    "encoding": lambda: b"\x80".decode("cp1252"),
    "module": _late_module,
}


class LazyProcessor:
    def open(self, worker: WorkerContext) -> None:
        pass

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        (operation,) = operations
        assert isinstance(operation, Use)
        return Encoded(str(PARTS[operation.part]()).encode())
