"""How precise are the estimates of offloop-vips?

Pictures like photographs, from thumbnails to panoramas of 120 megapixels, in every format and coding, through all kinds of
pipelines and each operation. Each cell runs in a process of its own. The output is the measured peak of private memory with
the ratio of the estimate to it, the RLIMIT_DATA that would have been needed, and the CPU time with the ratio of the estimate
to it; below, the median, minimum and maximum ratios. Expected: no peak exceeds its estimate, and no estimate above 50 MB is
more than twice the peak.

    python benchmarks/calibrate_vips.py [--smoke] [--sizes xs s m l xl] [--only TEXT] [--encode-avif]

Sources are made once and kept in the directory of --sources. A full run takes an hour, most of it for AVIF of large pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import msgspec
from calibrating import Taken, encode_pipeline
from calibration_sources import SIZES, make_source
from calibration_steps import STEPS, needs_mask, unmeasured

from offloop.operation import Estimate, Operation, SourceHeader
from offloop.runtime.workers.command_line import DEFAULT_ENVIRONMENT
from offloop_vips import Avif, Decode, Gif, Jpeg, Png, Raw, Resize, Rotate, Tiff, Tiles, VipsPlugin, Webp

SPARE_NBYTES = 16_000_000  # result memory above twice the expected result
WORTH_A_RATIO = 50_000_000  # smallest peak in bytes with a ratio; below it, the cost of a process's first task dominates
LET_IN = Decode(max_pixels=10**9)

READ: list[list[Operation]] = [[Raw()], [Resize(400), Raw()], [Resize(1600), Webp()], [Rotate(90), Raw()]]
CODINGS = (
    *(
        "base.jpg",
        "base444.jpg",
        "prog.jpg",
        "prog444.jpg",
        "cmyk.jpg",
        "8.png",
        "inter.png",
        "16.png",
        "rgba.png",
        "lossy.webp",
    ),
    *("grey.jpg", "greyprog.jpg", "alpha.webp", "lossless.webp", "one.gif", "frames.gif", "frames.webp"),
    *("420.avif", "444.avif", "10.avif"),
)
LARGE_CODINGS = CODINGS[:10]  # because the other codings take minutes, or cannot be that large

ENCODERS: list[list[Operation]] = [
    [Jpeg()],
    [Jpeg(optimise_coding=False)],
    [Jpeg(progressive=True)],
    [Jpeg(chroma_subsampling="4:4:4")],
    [Jpeg(mozjpeg=True)],
    [Png()],
    [Png(compression_level=9, adaptive_filtering=True)],
    [Png(progressive=True)],
    [Webp()],
    [Webp(effort=0)],
    [Webp(smart_subsample=True)],
    [Tiff()],
    [Tiff(compression="deflate")],
    [Tiles()],
]
SLOW: list[list[Operation]] = [
    [Png(palette=True)],
    [Gif()],
    [Webp(lossless=True)],
    [Webp(near_lossless=True)],
    [Webp(effort=6)],
]
AVIF: list[list[Operation]] = [
    [Avif(effort=0)],
    [Avif()],
    [Avif(chroma_subsampling="4:2:0")],
    [Avif(bitdepth=10)],
    [Avif(effort=2, bitdepth=12)],
    [Avif(lossless=True)],
]
SMALL = 15_000_000  # maximum pixels for a slow encoder
ALL = [*READ, *STEPS, *ENCODERS, *SLOW, *AVIF]


class Cell(msgspec.Struct, frozen=True):
    """One source and one pipeline."""

    size: str
    coding: str
    operations: list[Operation]

    @property
    def name(self) -> str:
        steps = " ".join(f"{type(step).__name__}({', '.join(given(step))})" for step in self.operations if step != LET_IN)
        return f"{self.size}.{self.coding} {steps}"


def given(step: Operation) -> Iterator[str]:
    """The fields that differ from their defaults."""
    for info in msgspec.structs.fields(step):
        if getattr(step, info.name) != info.default:
            yield f"{info.name}={getattr(step, info.name)}"


def cells(sizes: list[str], *, avif: bool) -> Iterator[Cell]:
    for size in sizes:
        pixels = SIZES[size][0] * SIZES[size][1]
        for coding in CODINGS:
            if pixels > SMALL and coding not in LARGE_CODINGS:
                continue
            decode = Decode(max_pixels=10**9, pages=-1) if coding.startswith("frames") else LET_IN
            for operations in READ[:2] if decode is not LET_IN else READ:
                yield Cell(size, coding, [decode, *operations])
        for operations in STEPS:
            yield Cell(size, "8.png", [LET_IN, *operations])
            if pixels < SMALL:
                yield Cell(size, "rgba.png", [LET_IN, *operations])
        for operations in [*ENCODERS, *(SLOW if pixels < SMALL else []), *(AVIF if avif and pixels < SMALL else [])]:
            yield Cell(size, "8.png", [LET_IN, *operations])
        for operations in ENCODERS[5:9] if pixels < SMALL else []:
            yield Cell(size, "rgba.png", [LET_IN, *operations])


def measure(source: Path, attached: Path, operations: list[Operation], room_nbytes: int) -> Taken:
    """Measure one cell. `attached` is the second picture, if a step has one."""
    command = [sys.executable, str(Path(__file__).with_name("calibrating.py")), str(source), str(attached)]
    environment = {**DEFAULT_ENVIRONMENT, **os.environ}  # as in a worker
    arguments = [*command, encode_pipeline(operations), "1", str(room_nbytes), "0"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return Taken(0, 0, 0, 0, 0, f"ended with {done.returncode}: {done.stderr[-200:]}")
    return msgspec.convert(json.loads(done.stdout.splitlines()[-1]), Taken)


def estimated(source: Path, attached: Path, operations: list[Operation]) -> Estimate | None:
    has_second = any(getattr(step, "attached", ()) for step in operations)
    headers = [header_of(path) for path in ((source, attached) if has_second else (source,))]
    return VipsPlugin().estimate_sources(headers, operations)


def header_of(path: Path) -> SourceHeader:
    plugin = VipsPlugin()
    with path.open("rb") as file:
        header = plugin.probe(memoryview(file.read(plugin.probe_nbytes)))
    return SourceHeader(header, path.stat().st_size)


def main(sizes: list[str], sources: Path, only: str, *, avif: bool) -> None:
    assert not unmeasured(ALL), f"no cell measures {', '.join(sorted(unmeasured(ALL)))}"
    memory: dict[str, float] = {}
    work: dict[str, float] = {}
    print(f"{'MB true':>8}{'MB est.':>9}{'est./true':>10}{'limit MB':>9}{'CPU s':>8}{'est./true':>10}  cell")
    for cell in cells(sizes, avif=avif):
        if only not in cell.name:
            continue
        source = make_source(sources, cell.size, cell.coding)
        attached = make_source(sources, cell.size, "mask.png") if needs_mask(cell.operations) else source
        estimate = estimated(source, attached, cell.operations)
        taken = measure(source, attached, cell.operations, 2 * (estimate.output_bytes if estimate else 0) + SPARE_NBYTES)
        if taken.error or estimate is None:
            print(
                f"{'-':>8}{'-':>9}{'-':>10}{'-':>9}{'-':>8}{'-':>10}  {cell.name}: {taken.error or 'no estimate'}", flush=True
            )
            continue
        of_peak, of_work = estimate.peak_bytes / max(taken.peak_bytes, 1), estimate.work_s / taken.cpu_s
        memory[cell.name + ("" if taken.peak_bytes > WORTH_A_RATIO else " ")] = of_peak
        work[cell.name] = of_work
        print(f"{taken.peak_bytes / 1e6:8.1f}{estimate.peak_bytes / 1e6:9.1f}{of_peak:10.2f}{taken.data_bytes / 1e6:9.1f}"
              f"{taken.cpu_s:8.3f}{of_work:10.2f}  {cell.name}", flush=True)  # fmt: skip
    for what, ratios in (
        (f"memory, peaks over {WORTH_A_RATIO // 10**6} MB", {cell: ratio for cell, ratio in memory.items() if cell[-1] != " "}),
        ("memory, smaller peaks", {cell: ratio for cell, ratio in memory.items() if cell[-1] == " "}),
        ("work", work),
    ):
        summarise(what, ratios)


def summarise(what: str, ratios: dict[str, float]) -> None:
    if not ratios:
        return
    low, high = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
    within = sum(0.5 <= ratio <= 2 for ratio in ratios.values())
    print(
        f"{what}: {len(ratios)} cells, estimate/true {statistics.median(ratios.values()):.2f} in the middle,"
        f" {within} from 0.5 to 2"
    )
    print(f"  lowest {ratios[low]:.2f}: {low}\n  highest {ratios[high]:.2f}: {high}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a few small cells, for CI: the numbers mean nothing")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--sources", type=Path, default=Path(gettempdir()) / "offloop-calibration")
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("--encode-avif", action="store_true", help="takes most of the time")
    options = parser.parse_args()
    if options.smoke:
        main(["xs"], options.sources, "base.jpg", avif=False)
    else:
        main(options.sizes, options.sources, options.only, avif=options.encode_avif)
