"""Show a WAV file in a terminal with 24-bit colours, as it would sound: python show_live.py song.wav [--seconds 10]

The worker draws each frame at its time. A terminal that is too slow misses frames, and the picture is never late.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import anyio

from offloop import Pool
from offloop_visualizer import Visualize

HIDE_CURSOR, SHOW_CURSOR, HOME = "\x1b[?25l\x1b[2J", "\x1b[?25h\x1b[0m\n", "\x1b[H"


def as_text(pixels: Any) -> str:
    """Returns a picture as half blocks: two pixels for each character, one above the other."""
    upper, lower = pixels[0::2].tolist(), pixels[1::2].tolist()
    lines = (
        "".join(
            f"\x1b[38;2;{top[0]};{top[1]};{top[2]}m\x1b[48;2;{below[0]};{below[1]};{below[2]}m\u2580"
            for top, below in zip(above, beneath, strict=True)
        )
        for above, beneath in zip(upper, lower, strict=True)
    )
    return HOME + "\x1b[0m\n".join(lines)


async def show(source: Path, operation: Visualize) -> None:
    shown, tempo_bpm = 0, 0.0
    async with Pool(1, plugins=["visualizer"]) as pool, pool.stream(source, [operation], buffer=1, overrun="latest") as frames:
        async for frame in frames:
            sys.stdout.write(as_text(frame.array()[::4, ::4, :3]))
            sys.stdout.flush()
            shown, tempo_bpm = shown + 1, frame.info.tempo_bpm
    print(f"{SHOW_CURSOR}{shown} frames shown, {frames.dropped} dropped, at {tempo_bpm:.1f} beats per minute")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args()
    columns, rows = shutil.get_terminal_size((100, 28))
    width, height = max(columns * 4, 64), max((rows - 1) * 8, 64)  # every fourth pixel is shown
    print(HIDE_CURSOR, end="")
    anyio.run(show, options.source, Visualize(width, height, fps=30, seconds=options.seconds, pace="live"))


if __name__ == "__main__":
    main()
