"""What does each step of a cut-out cost, and how much of it is the network?

A JPEG of 1000 x 1000 pixels is decoded, cut out, put before white and encoded: with the processors of offloop-vips and
offloop-onnx, without a pool, and with code as in rembg. Both run step by step, in turns, in one process with the
environment of a worker. The output is the median CPU time of each step. Both make files of the same size.

    python benchmarks/bench_cut_out.py [--smoke] [--rounds 20]

Expected: of what offloop-onnx adds to decode and encode, more than half is the network.
"""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from time import process_time
from typing import Any, cast

import numpy as np
from bench_models import make_source, session
from measuring import arguments
from msgspec.structs import replace
from PIL import Image

from offloop.processor import Encoded
from offloop.runtime.workers.command_line import DEFAULT_ENVIRONMENT
from offloop.testing import InlineTask
from offloop_onnx import RemoveBackground
from offloop_onnx.pictures.picture import Picture
from offloop_onnx.pictures.regions import Region, find_region
from offloop_onnx.pictures.resampling import reduce_picture, resize
from offloop_onnx.processor import background_removal, masks, model_io
from offloop_onnx.processor.heap import heap_reused
from offloop_onnx.processor.sessions import Session, Sessions
from offloop_onnx.processor.views import View
from offloop_onnx.settings import OnnxSettings
from offloop_onnx.shipped_models import PEOPLE
from offloop_vips import Decode, Jpeg, Raw
from offloop_vips.processor import VipsProcessor

Step = tuple[str, float]  # name, and CPU time in seconds
CUT_OUT = RemoveBackground(background=(255, 255, 255))
ONE_RUN = replace(PEOPLE, mirrored=False)


class Clock:
    """Names the CPU time since the last step."""

    def __init__(self) -> None:
        self._at = process_time()

    def step(self, name: str) -> Step:
        before, self._at = self._at, process_time()
        return name, self._at - before


def of_offloop(source: bytes, images: VipsProcessor, model: Session) -> Iterator[Step]:
    """Runs a cut-out with the parts of offloop-onnx."""
    task, clock = InlineTask(), Clock()
    raster = images.run(Encoded(source), [Decode(), Raw()], task)
    yield clock.step("decode")
    picture = Picture.of(raster)
    with heap_reused():
        colours = reduce_picture(picture, max(max(picture.height, picture.width) // 256, 1), task)
        small = resize(colours, 256, 256)
        yield clock.step("reduce to the model's size")
        values = model_io.input_of(PEOPLE, small)
        mirrored = model_io.input_of(PEOPLE, small[..., ::-1])
        yield clock.step("input of the model")
        first = model.run(values, task)
        yield clock.step("network")
        second = model.run(mirrored, task)
        yield clock.step("network, mirrored")
        alpha = (model_io.alpha_of(PEOPLE, first, 256, 256) + model_io.alpha_of(PEOPLE, second, 256, 256)[:, ::-1]) / 2
        find_region(alpha, picture.height, picture.width)
        yield clock.step("mean of both, and is a second pass needed?")
        whole = Region(0, 0, picture.height, picture.width)
        view = View(whole, None, small, alpha, 0.0)
        mask = masks._refined(view, 1, CUT_OUT, task)  # noqa: SLF001 (a step of `find_mask`)
        yield clock.step("guided filter and colours of the edges")
        cut = background_removal._MaskWriter(picture, CUT_OUT, mask).write(task)  # noqa: SLF001
        yield clock.step("apply at full size")
    images.run(cut, [Jpeg(optimise_coding=False)], task)
    yield clock.step("encode")


def of_rembg(source: bytes) -> Iterator[Step]:
    """Runs a cut-out with code as in rembg."""
    clock = Clock()
    picture = Image.open(io.BytesIO(source)).convert("RGB")
    yield clock.step("decode")
    small = np.asarray(picture.resize((256, 256), Image.Resampling.LANCZOS), np.float32) / 255
    yield clock.step("reduce to the model's size")
    values: Any = session().run(None, {"image": small[None]})[0]
    yield clock.step("network")
    mask = Image.fromarray((values[0, ..., 0].clip(0, 1) * 255).astype("u1")).resize(picture.size, Image.Resampling.LANCZOS)
    result = Image.new("RGB", picture.size, "white")
    result.paste(picture, mask=mask)
    yield clock.step("apply at full size")
    result.save(io.BytesIO(), "JPEG", quality=80)
    yield clock.step("encode")


def main() -> None:
    given = arguments(__doc__)
    rounds, side = (2, 300) if given.smoke else (given.rounds, 1000)
    source, images = make_source(side), VipsProcessor()
    images.open(cast("Any", None))
    model = Sessions(OnnxSettings()).get(PEOPLE, 1)
    taken: dict[str, dict[str, list[float]]] = {"offloop-onnx": {}, "as in rembg": {}}
    for turn in range(rounds + 1):
        for name, steps in (("offloop-onnx", of_offloop(source, images, model)), ("as in rembg", of_rembg(source))):
            for step, seconds in steps:
                taken[name].setdefault(step, [])
                if turn:  # the first turn opens and allocates what stays
                    taken[name][step].append(1000 * seconds)
    print(f"pictures of {side} x {side} pixels, {rounds} turns, CPU time in ms (median, least)")
    for name, steps_of in taken.items():
        medians = {step: statistics.median(values) for step, values in steps_of.items()}
        for step, values in steps_of.items():
            print(f"{name:<14}{step:<46}{medians[step]:8.2f}{min(values):8.2f}")
        print(f"{name:<14}{'all steps':<46}{sum(medians.values()):8.2f}")
    cut = [step for step in taken["offloop-onnx"] if step not in ("decode", "encode")]
    parts = {step: statistics.median(taken["offloop-onnx"][step]) for step in cut}
    share = (parts["network"] + parts["network, mirrored"]) / sum(parts.values())
    print(f"part of the network in what is between decode and encode: {share:.0%}")


if __name__ == "__main__":
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:  # which the C library reads when a process starts
        sys.exit(subprocess.call([sys.executable, *sys.argv], env={**DEFAULT_ENVIRONMENT, **os.environ}))
    main()
