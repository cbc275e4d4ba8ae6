"""The saboteur, which kills and stops workers from outside, and the resources that are counted before and after."""

from __future__ import annotations

import gc
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

__all__ = ["Census", "Saboteur", "resident_bytes"]

LETHAL = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT)
YOUNG_S = 0.5  # age in seconds below which a worker may not be ready


def children() -> dict[int, str]:
    """The living or unreaped children of this process with their commands, but for the resource tracker, which the standard
    library keeps."""
    found: dict[int, str] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and _parent(entry) == os.getpid():
            with suppress(OSError):  # the process has ended meanwhile
                command = _command(int(entry))
                if "resource_tracker" not in command:
                    found[int(entry)] = command
    return found


def _parent(pid: str) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except OSError:
        return None


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def resident_bytes() -> int:
    """Returns the private memory of this process (RssAnon) in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@dataclass(frozen=True)
class Census:
    """Resources of the process that a pool must not change."""

    descriptors: int
    threads: int
    children: frozenset[str]
    shared_memory: frozenset[str]

    @classmethod
    def take(cls) -> Census:
        gc.collect()
        return cls(
            descriptors=len(os.listdir("/proc/self/fd")),
            threads=len(os.listdir("/proc/self/task")),
            children=frozenset(f"{pid} {command}" for pid, command in children().items()),
            shared_memory=frozenset(os.listdir("/dev/shm")),
        )

    def differences(self, limit_s: float) -> list[str]:
        """Returns the resources that have grown. Waits a while, because threads and other processes' names need time to
        disappear."""
        deadline = time.monotonic() + limit_s
        while (found := self._found()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def _found(self) -> list[str]:
        now = self.take()
        found = [
            f"{name}: {before} before, {after} after"
            for name, before, after in (
                ("descriptors", self.descriptors, now.descriptors),
                ("threads", self.threads, now.threads),
            )
            if after > before
        ]
        if more := now.children - self.children:
            found.append(f"children left: {sorted(more)}")
        if more := now.shared_memory - self.shared_memory:
            found.append(f"left in /dev/shm: {sorted(more)}")
        return found


class Saboteur:
    """Kills and stops workers from outside, and resizes the pool if possible, in an order that depends on its seed."""

    def __init__(self, seed: int, pause_s: float, resize: Callable[[int], Awaitable[object]] | None) -> None:
        self._choice = random.Random(f"saboteur {seed}")
        self._pause_s = pause_s
        self._resize = resize
        self._seen: dict[int, float] = {}  # pid -> time of the first sight
        self._killed_young = False
        self.deeds: Counter[str] = Counter()
        self.kills = 0  # lethal signals that reached a living worker: each may cost one task

    async def work(self) -> None:
        """Run until cancelled."""
        async with anyio.create_task_group() as task_group:
            while True:
                await anyio.sleep(self._choice.uniform(0, 2 * self._pause_s))
                action = self._choice.random()
                if action < 0.55:
                    # in a thread, because reading /proc must not count as lag of the loop
                    await anyio.to_thread.run_sync(self._kill)
                elif action < 0.9 or self._resize is None:
                    task_group.start_soon(self._stop_a_while, self._choice.uniform(0.01, 0.5))
                else:
                    await self._resize(self._choice.randint(1, 4))
                    self.deeds["resize"] += 1

    def _workers(self) -> dict[int, float]:
        """Returns pids and the seconds since their first sight."""
        now = time.monotonic()
        pids = [pid for pid, command in children().items() if "offloop.worker" in command]
        self._seen = {pid: self._seen.get(pid, now) for pid in pids}
        return {pid: now - since for pid, since in self._seen.items()}

    def _kill(self) -> None:
        """Choose a worker. Starting workers are not chosen twice in a row, because a pool may give up after three failed
        starts."""
        workers = self._workers()
        if self._killed_young:
            workers = {pid: age for pid, age in workers.items() if age > YOUNG_S}
        if workers:
            pid = self._choice.choice(sorted(workers))
            number = self._choice.choice(LETHAL)
            if self._signal(pid, number):
                self.kills += 1
                self.deeds[number.name] += 1
                self._killed_young = workers[pid] <= YOUNG_S

    async def _stop_a_while(self, seconds: float) -> None:
        workers = await anyio.to_thread.run_sync(self._workers)
        if workers:
            pid = self._choice.choice(sorted(workers))
            if self._signal(pid, signal.SIGSTOP):
                self.deeds["SIGSTOP"] += 1
                try:
                    await anyio.sleep(seconds)
                finally:
                    self._signal(pid, signal.SIGCONT)

    def _signal(self, pid: int, number: signal.Signals) -> bool:
        """Send a signal to one of our workers, but not to another process that has got its pid."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            if _parent(str(pid)) != os.getpid() or "offloop.worker" not in _command(pid):
                return False
            signal.pidfd_send_signal(pidfd, number)
        except (ProcessLookupError, FileNotFoundError):
            return False
        finally:
            os.close(pidfd)
        return True
