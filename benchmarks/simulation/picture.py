"""The figure: slowdown of small and large tasks at each load, time of thumbnails behind panoramas, and memory."""

# pyright: basic
# because the types of matplotlib are incomplete

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from .figures import figures_of, memory_over_time, percentile
from .models import first_come_first_served, processor_sharing, shortest_first
from .schedule import Schedule
from .the_core import Replay
from .traces import MIB, TRACES, Trace, size_of, steady_mix

__all__ = ["draw"]

_LOADS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_POLICIES: dict[str, tuple[Callable[[Trace], Schedule], str, str]] = {
    "first come": (first_come_first_served, "tab:red", "--"),
    "processor sharing": (processor_sharing, "tab:gray", ":"),
    "shortest first": (shortest_first, "tab:green", "--"),
    "offloop": (lambda trace: Replay(trace).run(), "tab:blue", "-"),
}


def draw(path: Path, tasks: int, seed: int) -> None:
    """Run the schedules, and write the figure to this file. The suffix of the file is the format."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    panels: Any = figure.subplots(2, 2)
    _draw_mix(panels[0], tasks, seed)
    _draw_burst(panels[1], TRACES["burst"](6600, seed))
    panels[0][0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "offloop"}):  # with this and without a date, the same seed gives the same file
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_mix(panels: Any, tasks: int, seed: int) -> None:
    traces = [steady_mix(tasks, seed, load=load) for load in _LOADS]
    for name, (policy, colour, style) in _POLICIES.items():
        figures = [figures_of(trace, policy(trace)) for trace in traces]
        for panel, size in zip(panels, ("small", "large"), strict=True):
            means = [each.groups[size].mean_slowdown for each in figures]
            panel.plot(_LOADS, means, color=colour, linestyle=style, marker=".", label=name)
    for panel, size in zip(panels, ("small", "large"), strict=True):
        panel.set(title=f"steady mix: {size} tasks", xlabel="load", ylabel="mean slowdown", yscale="log")
        panel.grid(visible=True, which="both", alpha=0.3)
        _plain_numbers(panel.yaxis)


def _plain_numbers(axis: Any) -> None:
    """Have the axis show 1.5 instead of 1.5 x 10^0."""
    for set_formatter in (axis.set_major_formatter, axis.set_minor_formatter):
        set_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "1235" else ""))


def _draw_burst(panels: Any, trace: Trace) -> None:
    small = [number for number, arrival in enumerate(trace.arrivals) if size_of(arrival.cost_s) == "small"]
    percents = [0.1, *range(1, 100), 99.9]
    for policy, colour, style in _POLICIES.values():
        schedule = policy(trace)
        times = sorted(schedule.ended[number] - trace.arrivals[number].at for number in small)
        panels[0].plot([percentile(times, each) for each in percents], percents, color=colour, linestyle=style)
        steps = [(at, nbytes) for at, nbytes in memory_over_time(trace, schedule) if at < 15.0]
        panels[1].step(
            [at for at, _ in steps], [nbytes / MIB for _, nbytes in steps], where="post", color=colour, linestyle=style
        )
    panels[0].set(
        title="six panoramas, then sixty thumbnails",
        xlabel="seconds until a thumbnail is back",
        ylabel="% of them",
        xscale="log",
    )
    panels[1].set(title="the same: memory of running tasks", xlabel="seconds", ylabel="MiB", xlim=(0, 10), ylim=(0, None))
    _plain_numbers(panels[0].xaxis)
    for panel in panels:
        panel.grid(visible=True, which="both", alpha=0.3)
