"""Bytes there and back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from suite.contenders import IN_SERVER, Contender, Opened
from suite.peers import Peers
from suite.questions.base import Figure, Question, pools
from suite.work import same_bytes, same_bytes_of_pool

__all__ = ["Payload"]

KIB, MIB = 1024, 1024 * 1024
SIZES = {"4 KiB": 4 * KIB, "64 KiB": 64 * KIB, "1 MiB": MIB, "4 MiB": 4 * MIB, "36 MiB": 36 * MIB}
_MEMCPY = "two copies in one process"


class Payload(Question):
    name = "payload"
    title = "Bytes there and back, from 4 KiB to 36 MiB"
    what = (
        "A function gets bytes and returns them, one call at a time. Copying a buffer can cost as much as the work: "
        "the floor is the same bytes copied twice within one process, without any round trip."
    )
    expected = "36 MiB at most 1.1 times the copies; 4 KiB to 4 MiB at most 1.5 times the copies and a round trip"
    figures = (
        *(Figure(f"us_{size}", f"{label}, us", 0, is_plotted=label in ("64 KiB", "36 MiB")) for label, size in SIZES.items()),
        Figure("piped_mib", "through pipes for 36 MiB, MiB", 1),
        Figure("peak_mib", "peak memory, MiB", 0),
        Figure("lag_p99_ms", "lag of the loop, p99, ms", 1),
    )

    has_compiled = True

    def contenders(self, peers: Peers, *, is_quick: bool) -> list[str]:
        node = ("piscina",) if peers.node_packages is not None else ()
        return pools(peers, _MEMCPY, *node, is_quick=is_quick, without=[IN_SERVER, "threads"])

    def parameters(self, folder: Path, *, is_quick: bool) -> dict[str, Any]:
        sizes = list(SIZES.values())
        return {"sizes": sizes, "repetitions": 2 if is_quick else 15}

    def opened(
        self, name: str, contenders: Mapping[str, Contender], job: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[Opened]:
        return _copying() if name == _MEMCPY else super().opened(name, contenders, job)

    async def warm_up(self, opened: Opened, job: Mapping[str, Any]) -> None:
        for _ in range(4):
            await _there_and_back(opened, bytes(MIB))

    async def turn(self, opened: Opened, job: Mapping[str, Any]) -> dict[str, float]:
        figures: dict[str, float] = {}
        for size in job["sizes"]:
            data = bytes(range(256)) * (size // 256)
            await _there_and_back(opened, data)  # brings the pages in
            before = _piped_bytes()
            figures[f"us_{size}"] = 1e6 * median([await _there_and_back(opened, data) for _ in range(job["repetitions"])])
            figures["piped_mib"] = (_piped_bytes() - before) / job["repetitions"] / MIB
        return figures


def _piped_bytes() -> int:
    """Returns what this process has read and written so far, by system calls that copy: pipes, sockets and files."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"]) + int(fields["wchar"])


async def _there_and_back(opened: Opened, data: bytes) -> float:
    """Returns seconds."""
    started = perf_counter()
    back = await opened.call(same_bytes if opened.pool is None else same_bytes_of_pool, data)
    taken = perf_counter() - started
    assert len(back) == len(data)
    assert back[:256] == data[:256]
    assert back[-256:] == data[-256:]
    return taken


@asynccontextmanager
async def _copying() -> AsyncGenerator[Opened]:
    memory: dict[int, tuple[memoryview, memoryview]] = {}

    async def call(_function: Any, data: bytes) -> memoryview:
        # a copy from one memoryview to another is a memcpy; that of a bytearray would copy twice
        there, back = memory.setdefault(len(data), (memoryview(bytearray(len(data))), memoryview(bytearray(len(data)))))
        there[:] = data
        back[:] = there
        return back

    yield Opened(call)
