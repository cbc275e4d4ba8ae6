"""Bytes there and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from offloop.runtime.memory.segments import Mapping as SharedMapping
from suite.contenders import IN_SERVER, OFFLOOP, Contender, Opened
from suite.peers import Peers
from suite.questions.base import Figure, Goal, Question, pools
from suite.work import same_bytes, same_bytes_of_pool, same_view_of_pool

__all__ = ["Payload"]

KIB, MIB = 1024, 1024 * 1024
SIZES = {"no bytes": 0, "4 KiB": 4 * KIB, "64 KiB": 64 * KIB, "1 MiB": MIB, "4 MiB": 4 * MIB, "36 MiB": 36 * MIB}
_MEMCPY = "two copies in one process"
_VIEWS = "offloop, memoryview"
_REASONS = {
    OFFLOOP: "`bytes` own their memory, so the worker and the server make one more copy each, onto new pages.",
    _VIEWS: "More than 4 KiB go through shared memory, and a result of more than 256 KiB is asked for: one more round trip.",
}


class Payload(Question):
    name = "payload"
    title = "Bytes there and back, from 4 KiB to 36 MiB"
    what = (
        "A function gets bytes and returns them, one call at a time; with offloop also as a `memoryview` of shared memory. "
        "Copying a buffer can cost as much as the work: the floor is the same bytes copied twice within one process, without "
        "any round trip."
    )
    expected = "36 MiB at most 1.1 times the copies; 4 KiB to 4 MiB at most 1.5 times the copies and a round trip"
    figures = (
        *(Figure(f"us_{size}", f"{label}, us", 0, is_plotted=label in ("64 KiB", "36 MiB")) for label, size in SIZES.items()),
        Figure("piped_mib", "through pipes for 36 MiB, MiB", 1),
        Figure("copied_mib", "copied by the server for 36 MiB, MiB", 1),
        Figure("peak_mib", "peak memory, MiB", 0),
        Figure("lag_p99_ms", "lag of the loop, p99, ms", 1),
    )

    floors = (_MEMCPY,)
    goals = (
        *(
            Goal(
                f"{label} there and back, {as_what}, times two copies and a round trip",
                1.5,
                lambda found, key=f"us_{size}", name=name: found[name][key] / (found[_MEMCPY][key] + found[OFFLOOP]["us_0"]),
                _REASONS[name],
            )
            for label, size in SIZES.items()
            for name, as_what in ((OFFLOOP, "`bytes`"), (_VIEWS, "`memoryview`"))
            if 0 < size <= 4 * MIB
        ),
        *(
            Goal(
                f"36 MiB there and back, {as_what}, times two copies",
                1.1,
                lambda found, name=name: found[name][f"us_{36 * MIB}"] / found[_MEMCPY][f"us_{36 * MIB}"],
                _REASONS[name],
            )
            for name, as_what in ((OFFLOOP, "`bytes`"), (_VIEWS, "`memoryview`"))
        ),
    )
    has_compiled = True

    def contenders(self, peers: Peers, *, is_quick: bool) -> list[str]:
        node = ("piscina",) if peers.node_packages is not None else ()
        return [_VIEWS, *pools(peers, _MEMCPY, *node, is_quick=is_quick, without=[IN_SERVER, "threads"])]

    def parameters(self, folder: Path, *, is_quick: bool) -> dict[str, Any]:
        sizes = list(SIZES.values())
        return {"sizes": sizes, "repetitions": 2 if is_quick else 15}

    def opened(
        self, name: str, contenders: Mapping[str, Contender], job: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[Opened]:
        if name == _MEMCPY:
            return _copying()
        return contenders[OFFLOOP if name == _VIEWS else name](job["workers"])

    def __init__(self) -> None:
        self._data: dict[int, bytes] = {}  # by size; made before the lag is measured, because that takes the loop's time

    async def warm_up(self, opened: Opened, job: Mapping[str, Any]) -> None:
        self._data = {size: bytes(range(256)) * (size // 256) for size in job["sizes"]}
        for _ in range(4):
            await _there_and_back(opened, bytes(MIB), _function(opened, job))

    async def turn(self, opened: Opened, job: Mapping[str, Any]) -> dict[str, float]:
        figures, function = dict[str, float](), _function(opened, job)
        for size in job["sizes"]:
            data = self._data[size]
            with _counted_copies() as copied:
                before = _piped_bytes()
                await _there_and_back(opened, data, function)  # brings the pages in
                figures["copied_mib"] = (_piped_bytes() - before + copied.total()) / MIB
            before = _piped_bytes()
            taken = [await _there_and_back(opened, data, function) for _ in range(job["repetitions"])]
            figures[f"us_{size}"] = 1e6 * median(taken)
            figures["piped_mib"] = (_piped_bytes() - before) / job["repetitions"] / MIB
        return figures


@contextmanager
def _counted_copies() -> Generator[Counter[str]]:
    """Count the bytes that offloop copies into shared memory without a system call, in this process."""
    copied = Counter[str]()
    copy_in = SharedMapping.copy_in

    def counted(self: SharedMapping, offset: int, source: bytes | int, nbytes: int) -> None:
        copied["mapping"] += nbytes
        copy_in(self, offset, source, nbytes)

    SharedMapping.copy_in = counted
    try:
        yield copied
    finally:
        SharedMapping.copy_in = copy_in


def _piped_bytes() -> int:
    """Returns what this process has read and written so far, by system calls that copy: pipes, sockets and files."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"]) + int(fields["wchar"])


def _function(opened: Opened, job: Mapping[str, Any]) -> Callable[[Any], Any]:
    if opened.pool is None:
        return same_bytes
    return same_view_of_pool if job["contender"] == _VIEWS else same_bytes_of_pool


async def _there_and_back(opened: Opened, data: bytes, function: Callable[[Any], Any]) -> float:
    """Returns seconds."""
    started = perf_counter()
    back = await opened.call(function, data)
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
