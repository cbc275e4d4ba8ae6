"""Measures one turn of one contender in `bench_mixed.py`: starts its server, watches it until its tasks are done,
summarizes."""

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
    """Measurements of one turn."""

    tasks: list[Outcome]
    floor: list[Outcome]  # outcomes of the small tasks alone, before the others
    cpu_s: float  # CPU time of the tasks in seconds, without the floor
    others: float  # number of CPUs that the rest of the machine used meanwhile
    peak_bytes: int  # peak of the memory of all processes, above that of the server before it entered its pool

    def seconds(self, kind: Kind) -> list[float]:
        """Seconds from arrival to result, of the tasks that have one."""
        return [task["seconds"] for task in self.tasks if task["kind"] == kind and task["error"] is None]

    @property
    def first_small_s(self) -> float:
        return min(self.seconds("small"))

    @property
    def floor_p95_s(self) -> float:
        return percentile([task["seconds"] for task in self.floor], 95)

    @property
    def total_s(self) -> float:
        """Seconds until the last task was done."""
        return max(task["at_s"] + task["seconds"] for task in self.tasks)

    @property
    def failures(self) -> list[Outcome]:
        return [task for task in self.tasks if task["error"] is not None]


class Turns(list[Turn]):
    """All turns of one contender in one scenario. Numbers are medians of the turns, but the peak is the maximum."""

    def percentile(self, kind: Kind, percent: int) -> float:
        """Returns seconds; NaN if no task of the kind was done."""
        values = [percentile(turn.seconds(kind), percent) for turn in self if turn.seconds(kind)]
        return median(values) if values else float("nan")

    def median(self, name: str) -> float:
        """Returns the median of a number of `Turn`."""
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
        floor: whether the small tasks run alone before.
        options: options of the contender.

    Raises:
        RuntimeError: the server failed; its output is on stderr.
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
