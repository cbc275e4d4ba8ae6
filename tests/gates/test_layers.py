"""Arrows between layers point one way, and this says which."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

SOURCE = Path(__file__).parents[2] / "src" / "offloop"

CONTRACTS = {"errors", "operation", "processor", "sandbox"}
POOL = {"pool", "pool_events", "settings", "sizes", "startup", "statistics", "system", "task_options"}

BELOW_CORE = {"wire", "errors", "histogram", "pool_events", "operation", "sandbox"}
BELOW_RUNTIME = {
    "buffer_protocol",
    "core",
    "wire",
    "system.cgroups",
    "system.memory_barrier",
    "errors",
    "pool_events",
    "sandbox",
}

ALLOWED: dict[str, set[str]] = {
    "system.cgroups": set(),
    "system.memory_barrier": set(),
    "errors": set(),
    "program": {"errors", "wire.start", "worker.main"},
    "histogram": set(),
    "pool_events": {"errors", "sandbox"},
    "sandbox": set(),
    "operation": {"errors", "sandbox"},
    "processor": {"operation"},
    "wire": {"sandbox"},
    "core": {"core", *BELOW_CORE},
    "core.model": {"core.model", *BELOW_CORE},
    "core.telemetry": {"core.telemetry", "core.model", *BELOW_CORE},
    "core.memory": {"core.memory", "core.telemetry", "core.model", *BELOW_CORE},
    "core.workers": {"core.workers", "core.memory", "core.telemetry", "core.model", *BELOW_CORE},
    "core.scheduling": {"core.scheduling", "core.workers", "core.memory", "core.telemetry", "core.model", *BELOW_CORE},
    "core.tasks": {"core.tasks", "core.scheduling", "core.workers", "core.memory", "core.telemetry", "core.model", *BELOW_CORE},
    "runtime": {"runtime", *BELOW_RUNTIME},
    "runtime.loop": {"runtime.loop", *BELOW_RUNTIME},
    "runtime.telemetry": {"runtime.telemetry", "runtime.loop", *BELOW_RUNTIME},
    "runtime.memory": {"runtime.memory", "runtime.telemetry", "runtime.loop", *BELOW_RUNTIME},
    "runtime.files": {
        "runtime.files",
        "runtime.workers",
        "runtime.memory",
        "runtime.telemetry",
        "runtime.loop",
        *BELOW_RUNTIME,
    },
    "runtime.workers": {"runtime.workers", "runtime.memory", "runtime.telemetry", "runtime.loop", *BELOW_RUNTIME},
    "client": {"client", "runtime", "core", "wire", "plugins", "settings", "task_options", *CONTRACTS},
    "client.async_pool": {"client", "statistics", "task_options", *CONTRACTS},
    "worker": {"wire", *CONTRACTS},
    "plugins": {"errors", "operation", "sandbox", "wire.messages"},
    "functions": {"buffer_protocol", "wire.handles", "wire.start", "sizes", *CONTRACTS},  # also in a worker
    "functions.callee": {"functions", "client", "plugins", "runtime.loop.background", *CONTRACTS},
    "functions.call_batch": {"functions", "client", "runtime.loop.background", *CONTRACTS},
    "functions.value_stream": {"functions", "client", "runtime.loop.background", *CONTRACTS},
    "functions.executor": {"runtime.loop.affinity", "runtime.loop.background", *CONTRACTS},
    "functions.calls": {"functions", "client", "runtime.supervisor", "settings", "task_options", *CONTRACTS},
    **{
        name: {"functions", "inline", "client", "runtime", "core", "wire", "plugins", "program", "histogram", *CONTRACTS, *POOL}
        for name in POOL
    },
    "buffer_protocol": set(),
    "sizes": set(),
    "inline": {"runtime.workers.launcher", "wire", "worker", *CONTRACTS},
    "system": set(),
    "task_options": {"runtime.files", "core.model", "settings", "errors"},
    "asgi": {"client.buffers", "client.results", "pool", *CONTRACTS},
    "metrics": {
        "core.pool_state",
        "core.telemetry.histogram_recorder",
        "core.workers.group_slots",
        "core.workers.restart_policy",
        "core.model.worker_state",
        "histogram",
        "pool_events",
        "statistics",
    },
    "prometheus": {"metrics", "errors", "histogram", "pool", "statistics"},
    "otel": {"metrics", "errors", "histogram", "pool", "pool_events", "statistics"},
    "testing": CONTRACTS,
    "testing.conformance": {"pool", "testing.conformance", "testing.inline", "worker.isolation.memory_limits", *CONTRACTS},
    "testing.inline": {"worker.cancellation", "worker.result_checks", "worker.task", *CONTRACTS},
    "testing.leftovers": {"pool", "statistics"},
    "testing.pools": {"runtime.workers.launcher", "pool", "testing.scripted", "testing.steps"},
    "testing.pytest_plugin": {"", "pool", "testing.leftovers"},
    "testing.fault_worker": {"wire", "worker", "testing.orders", *CONTRACTS},  # runs in a worker
    "testing.scripted": {"inline.thread_worker", "runtime.workers.launcher", "wire", "worker", "testing.steps", *CONTRACTS},
    "testing.starts": {
        "runtime.workers.command_line",
        "runtime.workers.launcher",
        "runtime.workers.process",
        "testing.orders",
    },
    "testing.steps": {"wire"},
    "testing.transport": {"runtime.workers.launcher", "runtime.workers.process"},
    "cli": {"", "client", "pool", "plugins", *CONTRACTS, *POOL},
    "": CONTRACTS
    | POOL
    | {
        "client",
        "functions",
        "program",
        "histogram",
        "pool_events",
        "runtime.telemetry.event_stream",
        "runtime.telemetry.progress_monitor",
    },  # the package itself: names, loaded lazily
}
"""Module or package -> what it may import of ours, beside itself. The longest name that fits counts."""

PURE = {"os", "socket", "asyncio", "anyio", "trio", "time", "threading", "logging", "random", "select", "subprocess", "uvloop"}
FOREIGN: dict[str, set[str]] = {
    "core": PURE | {"mmap", "ctypes"},
    "core.workers.jitter": (PURE | {"mmap", "ctypes"}) - {"random"},  # jitter, from a seed that it is given
    "wire": PURE | {"mmap", "ctypes"},
    "worker": {"asyncio", "anyio", "trio", "sniffio", "uvloop"},
    "functions": {"asyncio", "anyio", "trio", "sniffio", "uvloop"},
    "functions.callee": set(),
    "functions.call_batch": set(),
    "functions.value_stream": set(),
    "functions.executor": set(),
    "functions.calls": set(),
    "errors": PURE,
    "histogram": PURE,
    "pool_events": PURE,
    "operation": PURE,
    "processor": PURE,
    "sandbox": PURE,
}
"""Module or package -> what it must not import of others'."""


class Arrow(msgspec.Struct, frozen=True):
    """One import."""

    source: str  # the importing module, below offloop: "core.memory.arena"
    target: str  # the imported one: "wire.handles" of ours, or a top-level name of others'
    ours: bool
    line: int
    for_types_only: bool  # under `if TYPE_CHECKING:`


def fits(module: str, name: str) -> bool:
    """Whether a module is that one, or lies in that package."""
    return module == name or module.startswith(f"{name}.") or (name == "" and module == "")


def modules() -> dict[str, Path]:
    """Every module of ours by its name below `offloop`."""
    found: dict[str, Path] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def arrows(source: str, text: str, known: set[str], *, package: bool = False) -> Iterator[Arrow]:
    """Every import in a module, wherever it stands."""
    tree = ast.parse(text)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        for branch in node.body
        for inner in ast.walk(branch)
    }
    here = source if package else source.rpartition(".")[0]
    for node in ast.walk(tree):
        for target in targets(node, here, known):
            ours = target == "offloop" or target.startswith("offloop.")
            name = target.removeprefix("offloop").removeprefix(".") if ours else target.partition(".")[0]
            yield Arrow(source, name, ours, getattr(node, "lineno", 0), id(node) in for_types)


def targets(node: ast.AST, here: str, known: set[str]) -> Iterator[str]:
    """What an import statement names; a name that is itself a module of ours counts as that module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            up = here.split(".")[: len(here.split(".")) - node.level + 1] if here else []
            base = ".".join(["offloop", *[part for part in up if part], *([base] if base else [])])
        for alias in node.names:
            inner = f"{base}.{alias.name}".removeprefix("offloop.")
            yield f"offloop.{inner}" if base.startswith("offloop") and inner in known else base
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"import_module", "importlib.import_module", "__import__"}:
        argument = node.args[0] if node.args else None
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value


def rule_for(module: str, table: dict[str, set[str]]) -> str | None:
    """The longest name in the table that fits the module."""
    names = [name for name in table if fits(module, name)]
    return max(names, key=len) if names else None


def objections(arrow: Arrow) -> Iterator[str]:
    """Why an arrow must not be there."""
    where = f"offloop.{arrow.source}:{arrow.line}"
    if not arrow.ours:
        forbidden = rule_for(arrow.source, FOREIGN)
        if forbidden is not None and arrow.target in FOREIGN[forbidden]:
            yield f"{where} imports {arrow.target}"
        return
    home = rule_for(arrow.source, ALLOWED)
    if home is None:
        yield f"{where} belongs to no layer: add it to the table"
        return
    inside = home != "" and fits(arrow.target, home.partition(".")[0]) and "." not in home
    if not inside and not any(fits(arrow.target, name) for name in ALLOWED[home]):
        yield f"{where} imports offloop.{arrow.target}"


def all_arrows() -> list[Arrow]:
    known = set(modules())
    return [
        arrow
        for name, path in modules().items()
        for arrow in arrows(name, path.read_text(), known, package=path.name == "__init__.py")
    ]


def test_every_module_belongs_to_a_layer() -> None:
    assert [name for name in modules() if rule_for(name, ALLOWED) is None] == []


def test_no_arrow_at_run_time_points_the_wrong_way() -> None:
    assert [text for arrow in all_arrows() if not arrow.for_types_only for text in objections(arrow)] == []


def test_no_arrow_for_types_points_the_wrong_way_either() -> None:
    assert [text for arrow in all_arrows() if arrow.for_types_only for text in objections(arrow)] == []


def test_the_walk_sees_the_imports_that_are_there() -> None:
    seen = {(arrow.source, arrow.target) for arrow in all_arrows()}
    assert ("core.memory.arena", "core.memory.allocator") in seen
    assert ("core.worker_events", "wire.messages") in seen
    assert ("worker.main", "wire.messages") in seen
    assert ("runtime.supervisor", "anyio") in seen
    assert ("", "pool") in {(arrow.source, arrow.target) for arrow in all_arrows() if arrow.for_types_only}


WRONG = [
    ("core.memory.arena", "import os", "offloop.core.memory.arena:1 imports os"),
    (
        "core.memory.arena",
        "from ...runtime import supervisor",
        "offloop.core.memory.arena:1 imports offloop.runtime.supervisor",
    ),
    (
        "core.memory.arena",
        "from ...runtime.supervisor import Supervisor",
        "offloop.core.memory.arena:1 imports offloop.runtime.supervisor",
    ),
    ("core.memory.arena", "from ... import pool", "offloop.core.memory.arena:1 imports offloop.pool"),
    ("core.memory.arena", "import offloop.pool", "offloop.core.memory.arena:1 imports offloop.pool"),
    ("core.memory.arena", "def f():\n    import time", "offloop.core.memory.arena:2 imports time"),
    (
        "core.memory.arena",
        "try:\n    from threading import Lock\nfinally:\n    pass",
        "offloop.core.memory.arena:2 imports threading",
    ),
    (
        "core.memory.arena",
        "if TYPE_CHECKING:\n    from ...pool import Pool",
        "offloop.core.memory.arena:2 imports offloop.pool",
    ),
    ("wire.handles", "from ..errors import OffloopError", "offloop.wire.handles:1 imports offloop.errors"),
    ("wire.handles", "import asyncio.events", "offloop.wire.handles:1 imports asyncio"),
    ("worker.main", "import anyio", "offloop.worker.main:1 imports anyio"),
    ("worker.main", "from ..core.memory.arena import Arena", "offloop.worker.main:1 imports offloop.core.memory.arena"),
    ("worker.main", "importlib.import_module('offloop.pool')", "offloop.worker.main:1 imports offloop.pool"),
    ("runtime.workers.process", "from ...pool import Pool", "offloop.runtime.workers.process:1 imports offloop.pool"),
    ("runtime.workers.process", "from ...plugins import Registry", "offloop.runtime.workers.process:1 imports offloop.plugins"),
    ("errors", "from .operation import Operation", "offloop.errors:1 imports offloop.operation"),
    ("operation", "from .wire.messages import Stage", "offloop.operation:1 imports offloop.wire.messages"),
    ("plugins.registry", "from ..wire.handles import Handle", "offloop.plugins.registry:1 imports offloop.wire.handles"),
    ("system", "from .settings import parse_size", "offloop.system:1 imports offloop.settings"),
    ("testing.faults", "from ..pool import Pool", "offloop.testing.faults:1 imports offloop.pool"),
    ("testing.fault_worker", "from ..pool import Pool", "offloop.testing.fault_worker:1 imports offloop.pool"),
    ("testing.scripted", "from ..pool import Pool", "offloop.testing.scripted:1 imports offloop.pool"),
    ("cli.app", "from ..core.memory.arena import Arena", "offloop.cli.app:1 imports offloop.core.memory.arena"),
    ("cli.app", "from ..runtime.supervisor import Supervisor", "offloop.cli.app:1 imports offloop.runtime.supervisor"),
    ("novelty", "from .errors import OffloopError", "offloop.novelty:1 belongs to no layer: add it to the table"),
]


@pytest.mark.parametrize(("module", "text", "objection"), WRONG)
def test_a_wrong_arrow_is_found(module: str, text: str, objection: str) -> None:
    found = [objection for arrow in arrows(module, text, set(modules())) for objection in objections(arrow)]
    assert found == [objection]


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("core.memory.arena", "from .allocator import pages\nfrom ...wire.handles import Handle\nimport msgspec, math"),
        ("worker.main", "import os, time\nfrom ..processor import Task"),
        ("pool", "from .runtime.supervisor import Supervisor\nimport anyio"),
        ("plugins.registry", "from ..wire.messages import Stage\nfrom .discovery import Candidate"),
    ],
)
def test_a_right_arrow_is_not_objected_to(module: str, text: str) -> None:
    assert [text for arrow in arrows(module, text, set(modules())) for text in objections(arrow)] == []
