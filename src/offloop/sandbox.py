"""Contracts of the sandbox: what a plugin needs in it, and what a worker's sandbox consists of."""

from __future__ import annotations

import sys
from typing import Any, Literal, TypeAlias, get_args

import msgspec

__all__ = ["LAYERS", "Isolation", "Layer", "Needs", "Posture", "SandboxMode", "loaded_code"]

SandboxMode: TypeAlias = Literal["auto", "strict", "off"]
"""Setting of a pool or a worker group. "auto": all layers that the kernel has. "strict": a worker needs all. "off": none."""

Isolation: TypeAlias = Literal["pool", "tenant", "task"]
"""Tasks that may run in one worker, one after the other: all of the pool's; those of one tenant; or a single one."""

Layer: TypeAlias = Literal["limits", "privileges", "landlock", "seccomp"]

LAYERS: tuple[Layer, ...] = get_args(Layer)
"""The layers that "strict" requires. The environment is reduced at the start of a worker, so that it cannot be missing."""


class Needs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a plugin's processor needs after it is loaded. The sandbox of its workers allows nothing else.

    While a worker loads plugins, it may also read Python, the module search path and the system's libraries. A worker that
    loads several plugins allows what any of them needs.
    """

    read: tuple[str, ...] = ()  # absolute paths of files and of directories with all that is in them, which are read
    write: tuple[str, ...] = ()  # the same, which are read and written; files may be made and removed in the directories
    modules: bool = False  # whether modules are imported after loading: Python, installed and loaded packages stay readable
    network: bool = False  # whether connections to other hosts are made; a worker never listens
    threads: bool = True  # whether threads are started after loading

    def union(self, other: Needs) -> Needs:
        """The needs of two plugins in one worker."""
        return Needs(
            read=tuple(dict.fromkeys(self.read + other.read)),
            write=tuple(dict.fromkeys(self.write + other.write)),
            modules=self.modules or other.modules,
            network=self.network or other.network,
            threads=self.threads or other.threads,
        )


def loaded_code() -> tuple[str, ...]:
    """The directories of the packages, and the files of the other modules, that this process has loaded from files."""
    paths: dict[str, None] = {}
    for name, module in list(sys.modules.items()):
        attributes: dict[str, Any] = getattr(module, "__dict__", {})
        if "." not in name:
            places = attributes.get("__path__") or [attributes.get("__file__")]
            paths.update((place, None) for place in places if isinstance(place, str) and place.startswith("/"))
    return tuple(paths)


class Posture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sandbox of a group's workers, as the last worker that became ready has reported it."""

    mode: SandboxMode  # the setting
    missing: dict[Layer, str] = {}  # reasons by name of the layers that the workers do not have; empty with "off"
    landlock_abi: int = 0  # version of the kernel's Landlock; 0: it has none, or none was asked for
    landlock_scope: tuple[str, ...] = ()  # what Landlock restricts: "files", "truncation", "tcp", "signals", ...
    landlock_stages: int = 0  # 2: narrowed after the plugins were loaded; 0: not used
    filtered_calls: int = 0  # number of system calls that the seccomp filter allows, some with conditions; 0: no filter
    limits: dict[str, int] = {}  # hard limits by name that were lowered: {"core": 0, "nofile": 1024}
    environment: Literal["allow-list", "inherited"] = "inherited"  # the server's variables that a worker gets
    needs: Needs = Needs()  # what the plugins of the group need, which is allowed

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that are in force."""
        return () if self.mode == "off" else tuple(layer for layer in LAYERS if layer not in self.missing)

    @property
    def is_complete(self) -> bool:
        """Whether all layers are in force."""
        return len(self.layers) == len(LAYERS)

    def __str__(self) -> str:
        """The posture in one line."""
        if self.mode == "off":
            return "off"
        parts = [layer for layer in self.layers if layer != "landlock"]
        if "landlock" in self.layers:
            parts.append(f"landlock ABI {self.landlock_abi} ({', '.join(self.landlock_scope)})")
        if self.environment == "allow-list":
            parts.append("environment by allow-list")
        lacking = "".join(f"; without {layer}: {reason}" for layer, reason in self.missing.items())
        return f"{self.mode}: {', '.join(parts) or 'no layer'}{lacking}"
