"""Versions of what both ends of a channel must have alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version

import msgspec

from offloop.plugins import installed_plugins

from . import messages

__all__ = ["differences", "own_versions"]

_MESSAGES = "messages"


def own_versions(plugins: Iterable[str] | None = None) -> dict[str, str]:
    """Versions by distribution, and a digest of the messages.

    Args:
        plugins: names of the plugins whose distributions count; None: all installed ones.
    """
    found = {"offloop": version("offloop"), "offloop-dask": version("offloop-dask"), _MESSAGES: _digest()}
    chosen = None if plugins is None else set(plugins)
    for candidate in installed_plugins():
        if candidate.distribution and (chosen is None or candidate.name in chosen):
            name, _, number = candidate.distribution.partition(" ")
            found[name] = number or version(name)
    return found


def differences(client: Mapping[str, str], node: Mapping[str, str]) -> dict[str, tuple[str, str | None]]:
    """What the client has and the node has not, or in another version: both versions by name."""
    return {name: (number, node.get(name)) for name, number in client.items() if node.get(name) != number}


@cache
def _digest() -> str:
    schema, components = msgspec.json.schema_components([messages.FromClient, messages.FromNode])
    return hashlib.sha256(msgspec.json.encode((schema, components), order="sorted")).hexdigest()[:12]
