"""How many cores one supervisor can feed, from the CPU time that it needs for a task."""

from __future__ import annotations

from suite.before_and_after import Summaries
from suite.contenders import OFFLOOP

__all__ = ["scaling"]

_PICTURES = 24
_TASKS_MS = (1, 10, 100)
_BEFORE = [
    "# How many cores one supervisor feeds",
    "",
    "A supervisor is one thread of one process, so its CPU time for a task bounds the rate of tasks: with `c` microseconds a",
    "task it gives at most `1,000,000 / c` tasks a second, and feeds `t / c` workers with tasks of `t` microseconds. Beyond",
    "that workers wait for it. The time is measured in the server's process while it has nothing else to do; a service that",
    "shares the loop has less. Large copies and reads of files are made in threads, without the GIL, and count here too.",
    "",
]
_AFTER = [
    "",
    "A second supervisor on the same host, in a process of its own (`uvicorn --workers 2`), shares nothing with the first, so",
    "it doubles these numbers, as long as each gets a core of its own and the memory limit is divided between them. What it",
    "costs: tasks are no longer ordered, and memory is no longer budgeted, across both.",
    "",
]


def scaling(found: Summaries) -> str:
    """Returns the text of a page."""
    costs: dict[str, float] = {}
    if OFFLOOP in found.get("calls", {}):
        costs["a call of a function"] = found["calls"][OFFLOOP]["server_us"].median
    if OFFLOOP in found.get("article", {}):
        costs["a picture from file to file"] = found["article"][OFFLOOP]["server_cpu_s"].median / _PICTURES * 1e6
    fed = " | ".join(f"cores fed, {ms} ms tasks" for ms in _TASKS_MS)
    lines = [
        *_BEFORE,
        f"| | CPU of the server, us | tasks a second, at most | {fed} |",
        "| --- | ---: | ---: |" + " ---: |" * len(_TASKS_MS),
    ]
    for what, cost in costs.items():
        cells = " | ".join(f"{ms * 1000 / cost:,.0f}" for ms in _TASKS_MS)
        lines.append(f"| {what} | {cost:,.0f} | {1e6 / cost:,.0f} | {cells} |")
    return "\n".join([*lines, *_AFTER])
