"""Finds installed plugins by the metadata of distributions, without importing a plugin."""

from __future__ import annotations

from importlib.metadata import entry_points

import msgspec

__all__ = ["BUILT_IN", "GROUP", "Candidate", "installed_plugins"]

GROUP = "offloop.processors"


class Candidate(msgspec.Struct, frozen=True):
    """A plugin that is not yet imported and checked."""

    name: str  # name of the entry point, or of a requested plugin
    reference: str  # "module:attribute" of the plugin
    distribution: str | None  # name and version of its distribution; None: unknown


BUILT_IN = Candidate("functions", "offloop.functions.plugin:FunctionsPlugin", "offloop")
"""The plugin that belongs to offloop itself."""


def installed_plugins() -> list[Candidate]:
    """Returns the entry points of the group and the built-in plugin, sorted by name."""
    found = {
        Candidate(point.name, point.value, f"{point.dist.name} {point.dist.version}" if point.dist else None)
        for point in entry_points(group=GROUP)
    }
    return sorted({BUILT_IN, *found}, key=lambda candidate: (candidate.name, candidate.reference))
