"""Encodes the settings of a plugin instance for workers, and finds state of an instance that would not reach a worker."""

from __future__ import annotations

from typing import Any

import msgspec

from ..wire.messages import PluginSource

__all__ = ["find_state_objection", "source_of"]


def find_state_objection(plugin: object) -> str | None:
    """Returns an error text if an instance has state other than `settings`, because no worker would get it; else None."""
    state = set(getattr(plugin, "__dict__", {}))
    state |= {slot for kind in type(plugin).__mro__ for slot in getattr(kind, "__slots__", ()) if hasattr(plugin, slot)}
    state -= {"settings", "load_timeout", "__dict__", "__weakref__"}
    if not state:
        return None
    names = ", ".join(sorted(state))
    return f"its instance has state that would not reach a worker: {names}; put it into a frozen msgspec struct, `settings`"


def source_of(reference: str, settings: object) -> PluginSource:
    """Returns the source from which a worker loads a plugin with these settings.

    Raises:
        ValueError: the settings are not a frozen msgspec struct, or cannot be sent; the text contains the reason.
    """
    if settings is None:
        return PluginSource(reference)
    kind: Any = type(settings)
    if not isinstance(settings, msgspec.Struct) or not kind.__struct_config__.frozen:
        raise ValueError(f"its settings must be a frozen msgspec struct, not {settings!r}")
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        raise ValueError(f"{kind.__qualname__} is defined in {kind.__module__}, where no worker can import it")
    try:
        encoded = msgspec.msgpack.encode(settings)
        msgspec.msgpack.decode(encoded, type=kind)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"its settings cannot be sent to a worker: {error}") from None
    return PluginSource(reference, f"{kind.__module__}:{kind.__qualname__}", encoded)
