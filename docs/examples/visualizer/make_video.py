"""Make a video of a WAV file: python make_video.py song.wav video.mp4 [--width 1280 --height 720 --fps 60 --seconds 20]

A worker draws the frames. This process encodes each with PyAV, in a thread, from the memory that the worker has written.
"""

import argparse
from pathlib import Path

import anyio
from anyio import to_thread
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from offloop import Pool
from offloop_visualizer import Visualize
from offloop_visualizer.video_file import open_video


async def make_video(source: Path, destination: Path, operation: Visualize) -> int:
    """Draw and encode. Returns the number of frames."""
    count = 0
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} frames")
    async with Pool(1, plugins=["visualizer"]) as pool:
        with Progress(*columns, TextColumn("{task.fields[beat]} beats"), TimeRemainingColumn()) as progress:
            shown = progress.add_task(destination.name, total=None, beat=0)
            async with pool.stream(source, [operation]) as frames:
                with open_video(str(destination), str(source), operation) as video:
                    async for frame in frames:
                        await to_thread.run_sync(video.add, frame)
                        count = frame.index + 1
                        progress.update(shown, completed=count, total=frame.info.ticks, beat=frame.info.beat)
                    await to_thread.run_sync(video.finish)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    for name, type_ in {"width": int, "height": int, "fps": float, "start_s": float, "seconds": float, "palette": str}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, type=type_, default=argparse.SUPPRESS)
    options = vars(parser.parse_args())
    source, destination = options.pop("source"), options.pop("destination")
    count = anyio.run(make_video, source, destination, Visualize(**options))
    print(f"{destination}: {count} frames, {destination.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
