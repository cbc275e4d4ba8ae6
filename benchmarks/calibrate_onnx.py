"""How precise are the estimates of offloop-onnx, and what do the models of a user need?

A portrait of 0.08 to 48 megapixels through each operation, with 1 to 4 bands of 8 bits, 16 bits and float32. Each cell runs in
a process of its own, after one task with a small picture, as in a worker that has run before. The output is the measured peak
of private memory with the ratio of the estimate to it, the RLIMIT_DATA that would have been needed, and the CPU time with the
ratio of the estimate to it. Expected: no peak exceeds its estimate, and no estimate over 50 MB is more than twice the peak.
Estimates of cut-outs include the search for a small person, which most pictures do not need.

    python benchmarks/calibrate_onnx.py [--smoke] [--only TEXT]

With `--model FILE --size HEIGHT WIDTH` it runs a model of yours instead, and prints the numbers for `OnnxModel(peak_bytes=...,
work_s=...)`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyvips
from calibrating import DataWatch, Shared, SharedTask, Taken

from offloop.operation import Estimate, Header, Operation, decoder_for
from offloop.processor import Raster
from offloop.runtime.workers.command_line import DEFAULT_ENVIRONMENT
from offloop.worker.idle_memory import trim_heaps
from offloop.worker.isolation.memory_limits import PrivateMemory
from offloop_onnx import OnnxModel, OnnxPlugin, RemoveBackground, Restore, RunModel, Upscale

PHOTOS = Path(__file__).parents[1] / "docs" / "photos"
SIZES = {"xs": (250, 330), "edge": (511, 511), "s": (1000, 1200), "m": (3000, 4000), "l": (6000, 8000), "wide": (400, 30_000),
         "strip": (120, 2000), "xm": (2000, 1500)}  # fmt: skip
UPSCALE_SIZES = {"xs": 4, "strip": 4, "s": 4, "xm": 1}  # number of pipelines; few, because a megapixel takes 6 seconds
DTYPES = ("|u1", "<u2", "<f4")

CUTS: list[list[Operation]] = [
    [RemoveBackground()],
    [RemoveBackground(refine="none", mask_only=True)],
    [RemoveBackground(background=(0, 0, 0, 0.5), feather=20)],
]
UPSCALES: list[list[Operation]] = [[Upscale()], [Upscale(tile=64)], [Upscale(tile=384)], [Upscale(tile=96, overlap=32)]]


class Cell(msgspec.Struct, frozen=True):
    """One source and one pipeline."""

    size: str
    bands: int
    dtype: str
    operations: list[Operation]
    person: float = 1.0  # height of the person, as a part of that of the picture
    photo: str = "astronaut.jpg"

    @property
    def name(self) -> str:
        small = "" if self.person == 1 else f"person of {self.person:.2f} "
        other = "" if self.photo == "astronaut.jpg" else f"{self.photo} "
        return f"{self.size} {self.bands} bands {self.dtype} {small}{other}{self.operations[0]}"

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*SIZES[self.size], self.bands)

    def estimate(self) -> Estimate | None:
        height, width, bands = self.shape
        header = Header(media_type="", width=width, height=height, bands=bands)
        return OnnxPlugin().estimate(header, self.operations, height * width * bands * np.dtype(self.dtype).itemsize)


def cells() -> Iterator[Cell]:
    for size in SIZES:
        for operations in CUTS:
            yield Cell(size, 3, "|u1", operations)
        for bands, dtype in ((1, "|u1"), (4, "|u1"), (3, "<u2"), (4, "<f4")):
            if size != "l":
                yield Cell(size, bands, dtype, CUTS[0])
        for operations in UPSCALES[: UPSCALE_SIZES.get(size, 0)]:
            yield Cell(size, 3, "|u1", operations)
    for size in ("s", "m"):
        yield Cell(size, 3, "|u1", CUTS[0], person=0.3)  # which is looked at twice
        yield Cell(size, 3, "|u1", CUTS[0], photo="coffee.webp")  # in which a person is searched for
    yield Cell("xs", 4, "<f4", UPSCALES[0])
    for size in ("xs", "s"):
        yield Cell(size, 3, "|u1", [Restore("strong")])


def portrait(shape: tuple[int, ...], person: float, photo: str = "astronaut.jpg") -> Any:
    """Returns a portrait of any shape, because the time of a cut-out depends on the length of its edges."""
    high, wide = (max(round(side * person), 1) for side in shape[:2])
    image: Any = pyvips.Image.thumbnail(str(PHOTOS / photo), wide, height=high, size="force")
    image = image.embed(0, shape[0] - high, shape[1], shape[0], extend="background", background=[150, 150, 150])
    bands = np.concatenate([image.numpy()[..., :3], np.full((*shape[:2], 1), 255, "u1")], axis=-1)
    return bands[..., {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[shape[2]]]


def carry_out(
    shape: tuple[int, ...], dtype: str, operations: list[Operation], directory: str | None, person: float, photo: str
) -> Taken:
    """Runs one task in this process and measures it."""
    from offloop_onnx.processor import OnnxProcessor

    class Context:
        slot = 0
        settings = OnnxPlugin(model_directories=[directory]).settings if directory else None

        def retire(self) -> None: ...

    samples = portrait(shape, person, photo).astype(dtype)
    source = Shared(samples.nbytes)
    source.memory[: samples.nbytes] = samples.tobytes()
    result_nbytes = 40 * samples.nbytes if isinstance(operations[0], Upscale) else 4 * samples.nbytes + 64_000_000
    del samples
    processor = OnnxProcessor()
    processor.open(Context())
    processor.run(Raster(bytes(64 * 64 * 3), (64, 64, 3), "|u1"), [RemoveBackground()], SharedTask(1, 1_000_000))
    task = SharedTask(1, result_nbytes)
    trim_heaps()  # as a worker does after a second without a task
    memory, watch = PrivateMemory(), DataWatch()
    memory.rebaseline()
    memory._is_peak_stale = True  # noqa: SLF001 (what came before is to be forgotten)
    memory.begin(time.monotonic_ns())
    cpu, wall, error = time.process_time(), time.monotonic(), ""
    try:
        result = processor.run(Raster(source.memory.toreadonly(), shape, dtype), operations, task)
        nbytes = memoryview(result.data).nbytes
    except BaseException as caught:
        error, nbytes = f"{type(caught).__name__}: {caught}", 0
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    return Taken(memory.peak(time.monotonic_ns()), watch.stop(), cpu, wall, nbytes, error)


def measure(
    shape: tuple[int, ...],
    dtype: str,
    operations: list[Operation],
    directory: str = "",
    person: float = 1,
    photo: str = "astronaut.jpg",
) -> Taken:
    """Measures one task in a process of its own."""
    encoded = msgspec.msgpack.encode(operations).hex()
    command = [sys.executable, __file__, "--cell", json.dumps(shape), dtype, encoded, directory, str(person), photo]
    environment = {**DEFAULT_ENVIRONMENT, **os.environ}  # as in a worker
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return Taken(0, 0, 0, 0, 0, f"ended with {done.returncode}: {done.stderr[-300:]}")
    return msgspec.convert(json.loads(done.stdout.splitlines()[-1]), Taken)


def main(chosen: list[Cell]) -> None:
    memory: dict[str, float] = {}
    times: dict[str, float] = {}
    print(f"{'MB true':>8}{'MB est.':>9}{'est./true':>10}{'limit MB':>9}{'CPU s':>8}{'est./true':>10}  cell")
    for cell in chosen:
        taken = measure(cell.shape, cell.dtype, cell.operations, person=cell.person, photo=cell.photo)
        estimate = cell.estimate()
        if taken.error or estimate is None:
            print(f"{'-':>54}  {cell.name}: {taken.error or 'no estimate'}", flush=True)
            continue
        ratio = memory[cell.name] = estimate.peak_bytes / max(taken.peak_bytes, 1)
        time_ratio = times[cell.name] = estimate.work_s / taken.cpu_s
        print(f"{taken.peak_bytes / 1e6:8.1f}{estimate.peak_bytes / 1e6:9.1f}{ratio:10.2f}{taken.data_bytes / 1e6:9.1f}"
              f"{taken.cpu_s:8.3f}{time_ratio:10.2f}  {cell.name}", flush=True)  # fmt: skip
    for name, ratios in (("memory", memory), ("time", times)):
        if not ratios:
            continue
        low, high = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
        outside = sum(not 0.5 <= ratio <= 2 for ratio in ratios.values())
        middle = statistics.median(ratios.values())
        print(f"{name}: {len(ratios)} cells, estimate/true {middle:.2f} in the middle, {outside} outside of 0.5 to 2")
        print(f"  lowest {ratios[low]:.2f}: {low}\n  highest {ratios[high]:.2f}: {high}")


def measure_model(path: Path, size: tuple[int, int], layout: str) -> None:
    """Prints what a model of the user needs for one run."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    model = OnnxModel.u2net(
        str(path.resolve()), digest, name=path.stem, licence="?", source="?", size=size, input=layout, output="tensor"
    )
    taken = measure((*size, 3), "|u1", [RunModel(model)], str(path.resolve().parent))
    print(taken.error or f"sha256={digest!r}, peak_bytes={taken.peak_bytes:_}, work_s={taken.cpu_s:.3g}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="two small cells, for CI: the numbers mean nothing")
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("--model", type=Path, help="an ONNX file that takes one picture")
    parser.add_argument("--size", nargs=2, type=int, default=(320, 320), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--layout", default="NCHW", choices=["NCHW", "NHWC"])
    parser.add_argument("--cell", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        shape, dtype, encoded, directory, person, photo = options.cell
        decoded = decoder_for(OnnxPlugin.operations).decode(bytes.fromhex(encoded))
        taken = carry_out(tuple(json.loads(shape)), dtype, decoded, directory or None, float(person), photo)
        print(json.dumps(msgspec.to_builtins(taken)))
    elif options.model:
        measure_model(options.model, tuple(options.size), options.layout)
    else:
        found = [cell for cell in cells() if options.only in cell.name]
        main(found[:1] if options.smoke else found)
