"""What does it cost to bring bytes to a worker, by size?

A worker is given 4 KiB to 128 MiB and does nothing with them. In turns, in the same run:

- `bytes`: copied once, into the inbox of the task's worker;
- `Buffer`: the caller filled shared memory before, and moves it. It is copied once, into the inbox of the task's worker. The
  time is that of the move and the round trip, after a no-op that brings the CPU's caches back to the same state for each size;
- shared `bytes`, shared `Buffer`: with `private_sources=False`, which copies bytes into an inbox that all workers map, and a
  moved `Buffer` not at all;
- no-op: the round trip of a task without a source;
- memcpy: the same bytes copied once within this process, into memory that has its pages. The physical floor of a copy;
- `receive`: the bytes come from a socket, in pieces of 256 KiB, into a `Buffer`; bytearray: the same stream into a `bytearray`;
- `ProcessPoolExecutor`: the same bytes pickled through a pipe.

    python benchmarks/bench_payload.py

Expected: bytes at most 1.5 times a memcpy and the no-op up to 4 MiB, and 1.1 times from 32 MiB on; a moved Buffer of 128 MiB at
most 1.5 times that of 4 KiB; `receive` at most 1.1 times the stream into a bytearray.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import socket
import statistics
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter

import anyio
from measuring import arguments

from offloop import Pool
from offloop.testing.faults import FaultsPlugin, Noop

KIB, MIB = 1024, 1024 * 1024
SIZES = [4 * KIB, 64 * KIB, MIB, 4 * MIB, 32 * MIB, 128 * MIB]
_PIECE_NBYTES = 256 * KIB
_NAMES = ("bytes", "Buffer", "shared bytes", "shared Buffer", "no-op", "memcpy", "receive", "bytearray", "pickle")


async def from_bytes(pool: Pool, data: bytes) -> float:
    started = perf_counter()
    await pool.run(data, [Noop()])
    return perf_counter() - started


async def from_buffer(pool: Pool, data: bytes) -> float:
    buffer = await pool.buffer(len(data)).ready()
    buffer.view[:] = data
    await pool.run(b"", [Noop()])  # filling it emptied the CPU's caches, which is not what is asked here
    started = perf_counter()
    await pool.run(buffer, [Noop()])
    return perf_counter() - started


def by_memcpy(target: ctypes.Array[ctypes.c_char], data: bytes) -> float:
    started = perf_counter()
    ctypes.memmove(target, data, len(data))
    return perf_counter() - started


async def by_pickle(executor: ProcessPoolExecutor, data: bytes) -> float:
    started = perf_counter()
    await asyncio.get_running_loop().run_in_executor(executor, len, data)
    return perf_counter() - started


async def by_receive(pool: Pool, data: bytes) -> float:
    started = perf_counter()
    buffer = await pool.receive(from_socket(data), max_bytes=len(data), expected_bytes=len(data))
    taken = perf_counter() - started
    assert buffer.nbytes == len(data)
    return taken


async def into_bytearray(target: bytearray, data: bytes) -> float:
    started, at = perf_counter(), 0
    async for piece in from_socket(data):
        target[at : at + len(piece)] = piece
        at += len(piece)
    return perf_counter() - started


async def from_socket(data: bytes) -> AsyncIterator[bytes]:
    """Send the data through a socket from a thread, and receive it in the loop."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    sender = threading.Thread(target=_send, args=(theirs, data))
    sender.start()
    with ours:
        while piece := await asyncio.get_running_loop().sock_recv(ours, _PIECE_NBYTES):
            yield piece
    sender.join()


def _send(end: socket.socket, data: bytes) -> None:
    with end:
        end.sendall(data)


async def main() -> None:
    options = arguments(__doc__)
    rounds = 2 if options.smoke else options.rounds
    sizes = SIZES[:3] if options.smoke else SIZES
    print(f"nothing is done with the bytes; medians of {rounds} turns; microseconds (spread: interquartile range)")
    print(f"{'size':>10}" + "".join(f"{name:>14}" for name in _NAMES) + "   bytes/floor Buffer/4 KiB receive/bytearray   bytes")
    smallest: float | None = None
    with ProcessPoolExecutor(1) as executor:
        async with (
            Pool(1, plugins=[FaultsPlugin], memory_limit="1GiB") as pool,
            Pool(1, plugins=[FaultsPlugin], memory_limit="1GiB", private_sources=False) as shared_pool,
        ):
            for size in sizes:
                data = bytes(range(256)) * (size // 256)
                target, received = ctypes.create_string_buffer(size), bytearray(size)
                samples: dict[str, list[float]] = {name: [] for name in _NAMES}
                for turn in range(rounds + 2):  # two turns to bring the pages in
                    gc.collect()
                    row = {
                        "no-op": await from_bytes(pool, b""),  # first, because the machine is still busy with the turn before
                        "bytes": await from_bytes(pool, data),
                        "Buffer": await from_buffer(pool, data),
                        "shared bytes": await from_bytes(shared_pool, data),
                        "shared Buffer": await from_buffer(shared_pool, data),
                        "memcpy": by_memcpy(target, data),
                        "receive": await by_receive(pool, data),
                        "bytearray": await into_bytearray(received, data),
                        "pickle": await by_pickle(executor, data),
                    }
                    if turn >= 2:
                        for name, seconds in row.items():
                            samples[name].append(seconds)
                median = {name: statistics.median(values) for name, values in samples.items()}
                smallest = smallest or median["Buffer"]
                low, _, high = statistics.quantiles(samples["bytes"], n=4) if rounds > 1 else (0.0, 0.0, 0.0)
                cells = "".join(f"{median[name] * 1e6:14.0f}" for name in _NAMES)
                floor = median["memcpy"] + median["no-op"]
                ratios = (
                    f"{median['bytes'] / floor:14.2f}{median['Buffer'] / smallest:13.2f}"
                    f"{median['receive'] / median['bytearray']:18.2f}"
                )
                print(f"{size // KIB:>6} KiB{cells}{ratios}   {low * 1e6:.0f}..{high * 1e6:.0f}", flush=True)


if __name__ == "__main__":
    anyio.run(main, backend_options={"use_uvloop": True})
