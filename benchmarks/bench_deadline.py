"""Does every kind of task end when its time-out has passed?

Tasks: every operation and encoder of offloop-vips on a large picture of noise, and every kind of stuck task (asleep, looping in
Python, in C with the GIL, stopped). The time-out is well before the end of the task. The output is the time from the time-out
to the caller's `TaskTimeout`, and whether the worker stopped or was killed after the grace of 250 ms. A task that ends before
its time-out is marked. Expected: at most time-out + grace + 100 ms.

    python benchmarks/bench_deadline.py [--smoke] [--rounds 5]
"""

from __future__ import annotations

import random
import time

import anyio
import numpy as np
from measuring import arguments

from offloop import Buffer, Operation, Pool, TaskTimeout
from offloop.testing.faults import FaultsPlugin, Hang, Kill
from offloop_vips import (
    AutoOrient,
    Avif,
    Blur,
    Grayscale,
    Jpeg,
    Png,
    Raw,
    Resize,
    Rotate,
    Sharpen,
    Tint,
    Webp,
)

TIMEOUT_S, GRACE_S, PROMISE_S = 0.15, 0.25, 0.1
ENCODING = "Avif, encoding"
ENCODING_TIMEOUT_S = 2.0  # time-out of encodings; libaom has read all pixels by then, and cannot be stopped
SIGSTOP = 19

STUCK: dict[str, list[Operation]] = {
    "asleep in Python": [Hang("sleep")],
    "spinning in Python": [Hang("spin")],
    "in C, with the GIL": [Hang("hold_gil")],
    "stopped by a signal": [Kill(SIGSTOP)],
}

WORK: dict[str, list[Operation]] = {
    "Resize, down": [Resize(6000, 4000), Webp()],
    "Resize, up": [Resize(8600), Webp()],
    "Resize, attention": [Resize(4000, 4000, position="attention"), Png()],
    "Blur": [Blur(40), Png()],
    "Grayscale": [Grayscale(), Png()],
    "Sharpen": [Sharpen(3), Png()],
    "Rotate 90": [Rotate(90), Png()],
    "Rotate 33": [Rotate(33), Png()],
    "Tint": [Tint("tomato"), Png()],
    "AutoOrient": [AutoOrient(), Png()],
    "Jpeg": [Jpeg(quality=100)],
    "Png": [Png(compression_level=9)],
    "Webp": [Webp(quality=100)],
    "Avif": [Avif(quality=90)],
    ENCODING: [Resize(3000), Avif(quality=90, effort=9)],
    "Raw": [Raw()],
}


async def measure(pool: Pool, source: object, pipeline: list[Operation], timeout: float) -> tuple[str, float | None]:
    """Returns how the task ended, and the seconds since the time-out; None: it ended before the time-out."""
    before = time.monotonic()
    try:
        await pool.run(source, pipeline, timeout=timeout)  # pyright: ignore[reportArgumentType]
    except TaskTimeout as error:
        return ("obeyed" if error.obeyed else "was killed"), time.monotonic() - before - timeout
    return "was done", None


async def main(width: int, rounds: int) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (width * 2 // 3, width, 3), np.uint8)
    order = [*STUCK, *WORK] * rounds
    random.Random(1).shuffle(order)
    seen: dict[str, list[tuple[str, float | None]]] = {}
    settings = {"grace": GRACE_S, "spares": 1, "quarantine_after": None, "restart_intensity": 1000}
    async with Pool(1, plugins=["vips", FaultsPlugin], **settings) as pool:
        picture = await pool.run(noise, [Png(compression_level=1)], timeout=None)
        encoded = bytes(picture)
        for name in order:
            source: bytes | Buffer = b"" if name in STUCK else pool.buffer(len(encoded))
            if isinstance(source, Buffer):  # because the measured time must not include the copy
                await source.ready()
                source.view[:] = encoded
            timeout = ENCODING_TIMEOUT_S if name == ENCODING else TIMEOUT_S
            seen.setdefault(name, []).append(await measure(pool, source, STUCK.get(name) or WORK[name], timeout))
    print(
        f"{width} x {width * 2 // 3} noise, time-out {TIMEOUT_S * 1000:.0f} ms, grace {GRACE_S * 1000:.0f} ms, {rounds} rounds"
    )
    print(f"{'':24}{'ms after the time-out, worst':>30}  how it ended")
    for name in [*STUCK, *WORK]:
        late = [over for _, over in seen[name] if over is not None]
        worst = f"{max(late) * 1000:.0f}" if late else "-"
        print(f"{name:24}{worst:>30}  {', '.join(sorted({how for how, _ in seen[name]}))}")
    worst_of_all = max(over for ends in seen.values() for _, over in ends if over is not None)
    print(f"worst of all: {worst_of_all * 1000:.0f} ms; promised: at most {(GRACE_S + PROMISE_S) * 1000:.0f}")


if __name__ == "__main__":
    given = arguments(__doc__)
    anyio.run(
        main,
        1500 if given.smoke else 8400,
        1 if given.smoke else given.rounds,
        backend="asyncio",
        backend_options={"use_uvloop": True},
    )
