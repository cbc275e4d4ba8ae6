"""What does the sandbox cost: a worker's start, and a task?

Two pools of one worker, with `sandbox="auto"` and with "off", take turns in one run:

- the layers themselves: the CPU time that a fresh process takes to set all of them up, without imports;
- the start of a pool of one worker with offloop-vips, until it is ready;
- a task that does nothing, a task that echoes a mebibyte, and a thumbnail of a JPEG of 12 megapixels.

    python benchmarks/bench_sandbox.py

Expected: at most 2 ms a start, and under 1 % of a task's time.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from contextlib import AsyncExitStack
from functools import partial
from typing import get_args

import anyio
from measuring import Samples, arguments, percentile, take_turns

from offloop import Pool
from offloop.sandbox import SandboxMode
from offloop.testing.faults import Echo, FaultsPlugin, Noop

MIB = 1024 * 1024
MODES: tuple[SandboxMode, ...] = ("auto", "off")
LAYERS = """
import os, time
from offloop.sandbox import Needs
from offloop.worker.isolation.kernel import Kernel
from offloop.worker.isolation.sandbox import Sandbox
sandbox = Sandbox("auto", Needs(), Kernel())
began = time.process_time()
sandbox.before_loading(1 << 30)
sandbox.after_loading()
sandbox.filter_calls(900)
print(time.process_time() - began)
"""


def layers() -> float:
    """The CPU seconds that a fresh process takes to set up all layers."""
    return float(subprocess.run([sys.executable, "-c", LAYERS], capture_output=True, text=True, check=True).stdout)


async def start(mode: SandboxMode) -> None:
    async with Pool(1, plugins=["vips"], memory_limit="512MiB", sandbox=mode):
        pass


def report(title: str, samples: Samples) -> None:
    """Print the medians, and the median of the differences of the samples that were taken one after the other."""
    on, off = (samples[mode] for mode in MODES)
    difference = statistics.median(a - b for a, b in zip(on, off, strict=True))
    share = difference / statistics.median(off)
    print(f"{title:<22} " + "  ".join(f"{mode} {statistics.median(samples[mode]) * 1e3:9.3f} ms" for mode in MODES), end="")
    print(f"  p90 {percentile(on, 90) * 1e3:.3f}, {percentile(off, 90) * 1e3:.3f}; {difference * 1e3:+.3f} ms, {share:+.1%}")


async def measure(rounds: int, *, smoke: bool) -> None:
    setups = [layers() for _ in range(1 if smoke else rounds)]
    print(f"{'the layers alone':<22} {statistics.median(setups) * 1e3:.2f} ms (at most {max(setups) * 1e3:.2f} ms)")
    report("start of a worker", await take_turns({mode: partial(start, mode) for mode in MODES}, rounds, 1))
    import pyvips

    from offloop_vips import Resize, Webp

    picture: bytes = pyvips.Image.gaussnoise(4000, 3000).cast("uchar").bandjoin([128, 90]).jpegsave_buffer()
    source, repetitions = bytes(MIB), 2 if smoke else 200
    async with AsyncExitStack() as stack:
        pools = {
            mode: await stack.enter_async_context(Pool(1, plugins=[FaultsPlugin, "vips"], memory_limit="1GiB", sandbox=mode))
            for mode in get_args(SandboxMode)
            if mode in MODES
        }
        for title, data, pipeline, count in (
            ("nothing", b"", [Noop()], repetitions),
            ("echo of 1 MiB", source, [Echo()], repetitions // 2),
            ("thumbnail of 12 MP", picture, [Resize(400), Webp()], max(repetitions // 40, 1)),
        ):
            calls = {mode: partial(pools[mode].run, data, pipeline) for mode in MODES}
            report(title, await take_turns(calls, rounds, count))


if __name__ == "__main__":
    options = arguments(__doc__)
    anyio.run(partial(measure, 1 if options.smoke else options.rounds, smoke=options.smoke))
