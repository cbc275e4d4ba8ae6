"""Writes the pages of the reference from the code: every public name with its stability."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Group(NamedTuple):
    """One page of the reference."""

    page: str
    title: str
    text: str
    stability: str  # "stable" or "provisional"
    names: tuple[str, ...]  # below `offloop`


STABILITY = {
    "stable": "it changes only with a new major version, after a release that warns",
    "provisional": "it may change with a minor version; the changelog says how",
}

GROUPS = (
    Group(
        "pool",
        "The pool",
        "What a server holds, and what its calls return.",
        "stable",
        ("AsyncPool", "Pool", "EventSubscription"),
    ),
    Group(
        "results",
        "Sources and results",
        "What goes into a task and comes out of it.",
        "stable",
        (
            *("Attachment", "Batch", "BatchProgress", "Buffer", "Frame", "FrameStream", "Info", "NamedOutcomes", "Outcome"),
            *("Progress", "Result", "StreamKeywords", "TaskKeywords", "Timings"),
        ),
    ),
    Group(
        "errors",
        "Errors",
        "Every error has a type that says who has to act. The root of all is `OffloopError`.",
        "stable",
        (
            *("OffloopError", "InvalidTask", "QueueFull", "QueueTimeout", "TaskTimeout", "StreamAbandoned", "TaskFailed"),
            *("WorkerDied", "CrashReport", "TaskQuarantined", "MemoryLimitExceeded", "SourceTooLarge", "PluginError"),
            *("PoolClosed", "PoolMisused", "InternalError", "TaskCancelled"),
        ),
    ),
    Group(
        "events",
        "Events and statistics",
        "What a pool says about itself.",
        "provisional",
        (
            *("Statistics", "GroupStatistics", "Histogram", "PoolEvent", "PoolObserver", "TaskEnded", "TaskRetried"),
            *("WorkerMoved", "WorkerCrashed", "BreakerMoved", "WorkerMemoryTooSmall", "PluginUnavailable", "SandboxReported"),
            *("Health", "Posture"),
        ),
    ),
    Group(
        "functions",
        "Functions",
        "Any importable function in a worker.",
        "provisional",
        ("function", "resource", "Context", "freeze_support"),
    ),
    Group(
        "plugins",
        "Plugins",
        "What the author of a plugin imports.",
        "stable",
        (
            *("Operation", "Plugin", "Needs", "Estimate", "Header", "SourceHeader", "Processor", "SharingProcessor", "Task"),
            *("WorkerContext", "Payload", "Encoded", "Raster", "Output", "WorkerGroup"),
        ),
    ),
    Group(
        "exporters",
        "Exporters",
        "Metrics and traces. Each needs its extra.",
        "provisional",
        ("prometheus.PoolCollector", "otel.instrument", "otel.Instrumentation"),
    ),
    Group(
        "web",
        "Web services",
        "The glue between a web framework and a pool. [FastAPI and Starlette](../web.md) shows how to use it.",
        "provisional",
        ("asgi",),
    ),
)


def write_reference(folder: Path, groups: tuple[Group, ...]) -> None:
    """Write the pages of the reference."""
    import offloop.testing  # noqa: PLC0415 (its names are the last page)

    folder.mkdir(parents=True, exist_ok=True)
    testing = Group(
        "testing",
        "Testing",
        "Fakes, faults and fixtures. [Test with offloop](../testing.md) shows how to use them.",
        "provisional",
        tuple(f"testing.{name}" for name in offloop.testing.__all__),
    )
    for group in (*groups, testing):
        lines = [f"# {group.title}", "", group.text, "", f"These names are {group.stability}: {STABILITY[group.stability]}."]
        for name in group.names:
            lines += ["", f"::: offloop.{name}"]
        (folder / f"{group.page}.md").write_text("\n".join(lines) + "\n")
    (folder / "README.md").write_text(_overview((*groups, testing)))


def _overview(groups: tuple[Group, ...]) -> str:
    rows: list[str] = []
    for group in groups:
        names = ", ".join([f"`{name.rpartition('.')[2]}`" for name in group.names])
        rows.append(f"| [{group.title}]({group.page}.md) | {names} | {group.stability} |")
    levels = "\n".join(f"- **{level}**: {text}." for level, text in STABILITY.items())
    return f"""# Reference

Every public name, with types, defaults and errors. All names were added in 0.1.0.

| page | names | stability |
| --- | --- | --- |
{chr(10).join(rows)}

{levels}
- Names that begin with an underscore, and modules that no page names, are not public.
"""
