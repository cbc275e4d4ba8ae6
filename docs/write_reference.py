"""Writes the pages of the reference from the code: every public name with its stability."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple


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

OVERVIEW = "README.md"
FIRST_VERSION = "0.1.0"
ADDED_LATER: dict[str, str] = {}
"""Version in which a name was added, below `offloop`, if it was not the first one."""

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
        lines += [f"[The overview]({OVERVIEW}) says since which version each exists."]
        for name in group.names:
            lines += ["", f"::: offloop.{name}"]
        (folder / f"{group.page}.md").write_text("\n".join(lines) + "\n")
    (folder / OVERVIEW).write_text(_overview((*groups, testing)))


def _overview(groups: tuple[Group, ...]) -> str:
    levels = "\n".join(f"- **{level}**: {text}." for level, text in STABILITY.items())
    return f"""# Reference

Every public name, with its types, defaults, ranges and errors. [The settings of a pool](../settings.md) are in one table.

{levels}
- Names that begin with an underscore, and modules that no page names, are not public.
- "Since" is the version in which a name was added.

{chr(10).join(_table(group) for group in groups)}"""


def _table(group: Group) -> str:
    lines = [f"## {group.title}", "", group.text, "", "| name | what it is | stability | since |", "| --- | --- | --- | --- |"]
    for name in group.names:
        link = f"[`{name}`][offloop.{name}]"
        lines.append(f"| {link} | {_first_sentence(name)} | {group.stability} | {ADDED_LATER.get(name, FIRST_VERSION)} |")
    return "\n".join([*lines, ""])


def _first_sentence(name: str) -> str:
    """What the docstring of a public name says first."""
    value: Any = importlib.import_module("offloop")
    for part in name.split("."):
        value = getattr(value, part) if hasattr(value, part) else importlib.import_module(f"{value.__name__}.{part}")
    text = inspect.getdoc(value) or ""
    if text == inspect.getdoc(type(value)):
        return "alias of a type"
    return re.split(r"(?<=[.:])\s", " ".join(text.partition("\n\n")[0].split()), maxsplit=1)[0].replace("|", "\\|")
