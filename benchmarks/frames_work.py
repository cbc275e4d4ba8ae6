"""Frames for bench_frames: two renderers, and a plugin that hands their frames over. All contenders draw with this code."""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, ClassVar, Literal, Protocol, get_args

from offloop import Encoded, Needs, Operation, Payload, Plugin, Raster, Task, WorkerContext

__all__ = ["NBYTES", "Draw", "DrawPlugin", "DrawProcessor", "RendererName", "draw_frame", "own_frames", "put_frames"]

SHAPE = (720, 1280, 4)
NBYTES = math.prod(SHAPE)

RendererName = Literal["fill", "music"]


class Renderer(Protocol):
    def draw(self, memory: memoryview, tick: int) -> None: ...


class Fill:
    """Writes each byte of a frame, and does nothing else: the fastest renderer there can be."""

    def draw(self, memory: memoryview, tick: int) -> None:
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(memory)), tick % 256, NBYTES)


class Music:
    """Draws the frames of docs/examples/visualizer for a synthesized click track."""

    def __init__(self) -> None:
        import numpy as np

        from offloop_visualizer import Visualize
        from offloop_visualizer.beats import find_beats
        from offloop_visualizer.scene import Scene
        from offloop_visualizer.wav import Wav

        rate = 22_050
        time_s = np.arange(20 * rate) / rate
        sound: Any = 0.4 * np.sin(2 * np.pi * 220 * time_s) + 0.4 * np.sin(9000 * time_s) * np.exp(-(time_s % 0.5) / 0.01)
        wav = Wav(memoryview((sound * 32_000).astype("<i2").tobytes()), rate, 1, 2, is_float=False, is_truncated=False)
        self._scene = Scene(wav, find_beats(wav, 0, wav.count, lambda: None), Visualize(SHAPE[1], SHAPE[0]))

    def draw(self, memory: memoryview, tick: int) -> None:
        self._scene.draw(memory, 1 + tick / 60, tick % 600 / 600)


@cache
def renderer(name: RendererName) -> Renderer:
    return Fill() if name == "fill" else Music()


def ticks(count: int, fps: float) -> Iterator[int]:
    """Yields `count` ticks, each at its time; `fps` 0: at once."""
    begun = time.monotonic()
    for tick in range(count):
        if fps:
            time.sleep(max(begun + tick / fps - time.monotonic(), 0))
        yield tick


class Draw(Operation, frozen=True):
    name: RendererName
    count: int
    fps: float = 0


class DrawPlugin(Plugin):
    name: ClassVar[str] = "draw"
    operations: ClassVar[tuple[type[Operation], ...]] = (Draw,)
    processor: ClassVar[str] = "frames_work:DrawProcessor"
    needs = Needs(modules=True)  # because a task imports what its renderer needs


class DrawProcessor:
    def open(self, worker: WorkerContext) -> None:
        for name in get_args(RendererName):  # because the sandbox of a worker refuses later imports
            renderer(name)

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload | None:
        (operation,) = operations
        assert isinstance(operation, Draw)
        draw = renderer(operation.name).draw
        for tick in ticks(operation.count, operation.fps):
            memory = task.allocate(NBYTES)
            draw(memory, tick)
            if not task.emit(Raster(memory, SHAPE, "|u1", {"tick": tick})):
                return Encoded(b"")
        return None


def put_frames(queue: Any, name: RendererName, count: int, fps: float) -> None:
    """Draw frames in a process of its own, and put each into a `multiprocessing.Queue`."""
    memory, draw = memoryview(bytearray(NBYTES)), renderer(name).draw
    for tick in ticks(count, fps):
        draw(memory, tick)
        queue.put(bytes(memory))


_memory = memoryview(bytearray(NBYTES))


def draw_frame(name: RendererName, tick: int) -> bytes:
    """Draw a frame in a worker of a `ProcessPoolExecutor`."""
    renderer(name).draw(_memory, tick)
    return bytes(_memory)


def own_frames(name: RendererName, count: int) -> float:
    """Draw frames and hand none over. Returns the seconds."""
    draw = renderer(name).draw
    draw(_memory, 0)
    started = time.perf_counter()
    for tick in range(count):
        draw(_memory, tick)
    return time.perf_counter() - started
