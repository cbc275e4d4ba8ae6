"""One turn of one contender in `bench_mixed.py`: its server is started, watched until it has done its tasks, and summed up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import IO, Any, NamedTuple

from measuring import percentile
from mixed_driver import Arrival, Outcome
from mixed_work import Kind
from tree_memory import TreeMemory, machine_cpu_s

__all__ = ["Turn", "Turns", "measure"]


class Turn(NamedTuple):
    """What happened, and what it took."""

    tasks: list[Outcome]
    floor: list[Outcome]  # the small ones alone, before
    cpu_s: float  # of the tasks, without those of the floor
    others: float  # CPUs that the rest of the machine took meanwhile
    peak_bytes: int  # of all processes, beyond what the server had before it entered its pool

    def seconds(self, kind: Kind) -> list[float]:
        """From arrival to result, of those that have one."""
        return [task["seconds"] for task in self.tasks if task["kind"] == kind and task["error"] is None]

    @property
    def first_small_s(self) -> float:
        return min(self.seconds("small"))

    @property
    def floor_p95_s(self) -> float:
        return percentile([task["seconds"] for task in self.floor], 95)

    @property
    def total_s(self) -> float:
        """Until the last one was done."""
        return max(task["at_s"] + task["seconds"] for task in self.tasks)

    @property
    def failures(self) -> list[Outcome]:
        return [task for task in self.tasks if task["error"] is not None]


class Turns(list[Turn]):
    """All turns of one contender in one scenario; numbers are medians of them, but the peak is the highest."""

    def percentile(self, kind: Kind, percent: int) -> float:
        """Seconds; not a number where none of the kind was done."""
        values = [percentile(turn.seconds(kind), percent) for turn in self if turn.seconds(kind)]
        return median(values) if values else float("nan")

    def median(self, name: str) -> float:
        """Of a number of `Turn`."""
        return median(getattr(turn, name) for turn in self)

    @property
    def peak_bytes(self) -> int:
        return max(turn.peak_bytes for turn in self)

    @property
    def failures(self) -> list[Outcome]:
        return [failure for turn in self for failure in turn.failures]


def measure(contender: str, arrivals: Sequence[Arrival], small: str, *, floor: bool = False, **options: Any) -> Turn:
    """Run a contender's server through the arrivals.

    Args:
        small: a picture to warm up with.
        floor: have the small ones done alone before.
        options: of the contender.

    Raises:
        RuntimeError: the server failed; what it had to say is on stderr.
    """
    told = {"contender": contender, "arrivals": arrivals, "small": small, "floor": floor, **options}
    script = str(Path(__file__).with_name("mixed_driver.py"))
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        _hear(server.stdout)
        with TreeMemory(server.pid) as watched:
            baseline = watched.now_bytes()
            server.stdin.write(json.dumps(told) + "\n")
            server.stdin.flush()
            _hear(server.stdout)
            began_at, cpu_before, all_before = perf_counter(), watched.cpu_s(), machine_cpu_s()
            answer = _hear(server.stdout)
            cpu_s, all_s = watched.cpu_s() - cpu_before, machine_cpu_s() - all_before
            others = max(all_s - cpu_s, 0.0) / (perf_counter() - began_at)
        return Turn(answer["tasks"], answer["floor"], cpu_s, others, watched.peak_bytes - baseline)


def _hear(lines: IO[str]) -> Any:
    line = lines.readline()
    if not line:
        raise RuntimeError("the server ended before it was done")
    return json.loads(line)
