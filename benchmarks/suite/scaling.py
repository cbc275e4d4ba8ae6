"""How many cores one supervisor can feed, from the CPU time that it needs for a task."""

from __future__ import annotations

from collections.abc import Mapping

from suite.before_and_after import Summaries
from suite.contenders import COMPILED, OFFLOOP

__all__ = ["scaling"]

_PICTURES = 24
_TASKS_MS = (1, 10, 100)
_COSTS = (  # text; question, contender and figure; tasks that the figure is for; microseconds of its unit
    ("a call of a function", "calls", OFFLOOP, "server_us", 1, 1.0),
    ("a call of a function, compiled", "calls", COMPILED, "server_us", 1, 1.0),
    ("a picture from file to file", "article", OFFLOOP, "server_cpu_s", _PICTURES, 1e6),
)
_BEFORE = [
    "# How many cores one supervisor feeds",
    "",
    "Computed from the CPU time that was measured; nothing here was run on more than the cores of that machine.",
    "",
    "A supervisor is one thread of one process, so its CPU time for a task bounds the rate of tasks: with `c` microseconds a",
    "task it gives at most `1,000,000 / c` tasks a second, and feeds `t / c` workers with tasks of `t` microseconds. Beyond",
    "that workers wait for it. The time is measured in the server's process while it has nothing else to do; a service that",
    "shares the loop has less. Large copies and reads of files are made in threads, without the GIL, and count here too.",
    "",
]
_AFTER = [
    "",
    "What limits it, in the order in which it is met: the CPU time above; memory, because each worker takes about 32 MiB and",
    "its task's peak; and the bandwidth of memory, because a source and a result are copied once each.",
    "",
    "A second supervisor on the same host, in a process of its own (`uvicorn --workers 2`), shares nothing with the first, so",
    "it doubles these numbers, as long as each gets a core of its own and the memory limit is divided between them. What it",
    "costs: tasks are no longer ordered, and memory is no longer budgeted, across both. So a second one is worth it where the",
    "table says fewer cores than the host has.",
    "",
]


def scaling(found: Summaries, measured_at: str) -> str:
    """Returns the text of a page. `measured_at`: the runs whose results it combines."""
    costs = {
        what: found[question][contender][figure].median / tasks * scale
        for what, question, contender, figure, tasks, scale in _COSTS
        if figure in found.get(question, {}).get(contender, {})
    }
    fed = " | ".join(f"cores fed, {ms} ms tasks" for ms in _TASKS_MS)
    lines = [
        *_BEFORE,
        f"| | CPU of the server, us | tasks a second, at most | {fed} |",
        "| --- | ---: | ---: |" + " ---: |" * len(_TASKS_MS),
    ]
    for what, cost in costs.items():
        cells = " | ".join(f"{ms * 1000 / cost:,.0f}" for ms in _TASKS_MS)
        lines.append(f"| {what} | {cost:,.0f} | {1e6 / cost:,.0f} | {cells} |")
    lines += ["", *_in_words(costs)]
    return "\n".join([*lines, *_AFTER, measured_at, ""])


def _in_words(costs: Mapping[str, float]) -> list[str]:
    return [
        f"So for {what}, one supervisor keeps a host of {ms * 1000 / cost:,.0f} cores busy if tasks take {ms} ms."
        for what, cost in costs.items()
        for ms in _TASKS_MS[1:2]
    ]
