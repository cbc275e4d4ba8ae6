"""Which plugins are installed, by metadata alone: nothing of theirs is imported to find out."""

from __future__ import annotations

from importlib.metadata import entry_points

import msgspec

__all__ = ["GROUP", "Candidate", "installed_plugins"]

GROUP = "offloop.processors"


class Candidate(msgspec.Struct, frozen=True):
    """A plugin as its distribution announces it."""

    name: str
    reference: str  # "module:attribute" of the light half
    distribution: str | None  # name and version


def installed_plugins() -> list[Candidate]:
    """Every entry point of the group, in the order of their names."""
    found = [
        Candidate(point.name, point.value, f"{point.dist.name} {point.dist.version}" if point.dist else None)
        for point in entry_points(group=GROUP)
    ]
    return sorted(set(found), key=lambda candidate: (candidate.name, candidate.reference))
