"""The results of a run as JSON lines: first the run itself with machine, versions and commit, then one line for each turn."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from suite.peers import PYTHON_PEERS, ROOT, Peers

__all__ = ["RunHeader", "Turn", "header", "read", "write"]

_PACKAGES = ("offloop", "offloop-vips", "anyio", "msgspec", "pyvips", "pyvips-binary", "uvloop", *PYTHON_PEERS)


class RunHeader(msgspec.Struct, frozen=True):
    """What was measured, where and when."""

    question: str
    at: str
    is_quick: bool
    commit: str
    cpu: str
    cpus: int
    kernel: str
    python: str
    versions: dict[str, str]
    load_before: float  # load average of the minute before the run: more than 0.5 spoils the times


class Turn(msgspec.Struct, frozen=True):
    """The figures of one turn of one contender. Times are in the unit that the figure's name ends with."""

    contender: str
    turn: int
    figures: dict[str, float]


def header(question: str, peers: Peers, *, is_quick: bool) -> RunHeader:
    return RunHeader(
        question=question,
        at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        is_quick=is_quick,
        commit=_commit(),
        cpu=_cpu(),
        cpus=len(os.sched_getaffinity(0)),
        kernel=platform.release().split("-")[0],
        python=platform.python_version(),
        versions=_versions(peers),
        load_before=round(os.getloadavg()[0], 2),
    )


def write(path: Path, run: RunHeader, turns: list[Turn]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(msgspec.json.encode(line) for line in [run, *turns]) + b"\n")


def read(path: Path) -> tuple[RunHeader, list[Turn]]:
    first, *others = path.read_bytes().splitlines()
    return msgspec.json.decode(first, type=RunHeader), [msgspec.json.decode(line, type=Turn) for line in others]


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _cpu() -> str:
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


def _versions(peers: Peers) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if peers.node_packages is not None:
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
        found["node"] = node.stdout.strip().removeprefix("v")
        for name in ("sharp", "piscina"):
            package = Path(peers.node_packages, "node_modules", name, "package.json")
            found[name] = msgspec.json.decode(package.read_bytes())["version"]
    return found
