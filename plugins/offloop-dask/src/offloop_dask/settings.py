"""Settings of a cluster's pools: what each node's pool is made of, and the limits of the client."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec

from offloop import Plugin, WorkerGroup
from offloop.functions.declaration import declared_functions
from offloop.functions.plugin import FunctionsPlugin
from offloop.settings import PoolSettings, check_range, check_seconds
from offloop.sizes import named_size

__all__ = ["ClusterSettings", "NodeSettings"]

_NOT_SENT = ("inline", "executable", "spawn_prefix", "plugins", "functions")  # of `Pool`, beside those of their own
_MIN_BYTES = 1024 * 1024


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a node's plugin is made of. Travels as msgspec data, so that nothing of it is pickled."""

    pool: dict[str, Any]  # keywords of `Pool`
    plugins: tuple[str, ...] | None  # names or "module:attribute" references; None: those that the node has
    functions: tuple[str, ...]  # modules whose functions need no decorator
    modules: tuple[str, ...]  # modules of functions that the client has declared; a node imports them before it opens its pool
    storage_options: dict[str, str]  # of obstore
    linger_s: float  # seconds for which the pool stays open without a client
    peer_timeout_s: float  # seconds of silence after which a client counts as gone

    @classmethod
    def checked(
        cls,
        node: Mapping[str, Any],
        *,
        plugins: Sequence[str | type[Plugin]] | None,
        functions: Sequence[str],
        storage_options: Mapping[str, str],
        linger: float,
        node_timeout: float,
    ) -> Self:
        """Check all settings.

        Raises:
            ValueError, TypeError: naming the setting, the value and the range.
        """
        unknown = sorted(set(node) & set(_NOT_SENT))
        if unknown:
            raise TypeError(f"node={{{unknown[0]!r}: ...}}: the nodes' pools cannot have it; see ClusterPool")
        PoolSettings(**node)
        if isinstance(functions, str):
            raise TypeError(f"functions={functions!r}: give a list of names of modules")
        check_seconds("linger", linger)
        return cls(
            pool=dict(node),
            plugins=None if plugins is None else tuple(map(_reference_of, plugins)),
            functions=tuple(functions),
            modules=_declared_modules() if plugins is None or FunctionsPlugin.name in plugins else (),
            storage_options=dict(storage_options),
            linger_s=float(linger),
            peer_timeout_s=float(node_timeout),
        )

    def encoded(self) -> bytes:
        """The settings as bytes, equal for equal settings.

        Raises:
            TypeError: a setting of the nodes' pools is no plain value.
        """
        return msgspec.msgpack.encode(self, order="deterministic")

    @classmethod
    def decode(cls, encoded: bytes) -> Self:
        """The settings of their encoding."""
        return msgspec.msgpack.decode(encoded, type=cls)

    @staticmethod
    def name_of(encoded: bytes) -> str:
        """Name of the dask plugin with these encoded settings."""
        return f"offloop-{hashlib.sha256(encoded).hexdigest()[:12]}"

    @property
    def plugin_names(self) -> tuple[str, ...] | None:
        """Names of the installed plugins that both ends must have in the same version; None: all."""
        return None if self.plugins is None else tuple(name for name in self.plugins if ":" not in name)

    def plugins_with_functions(self) -> tuple[str, ...] | None:
        """The plugins, with that of functions if modules are named."""
        name = FunctionsPlugin.name
        if self.plugins is None or not self.functions or name in self.plugins:
            return self.plugins
        return (*self.plugins, name)

    def pool_options(self) -> dict[str, Any]:
        """Keywords of `Pool` on the node."""
        options = dict(self.pool)
        if "groups" in options:
            options["groups"] = msgspec.convert(options["groups"], list[WorkerGroup])
        return {**options, "plugins": self.plugins, "functions": self.functions}


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a `ClusterPool` itself. See there."""

    max_source_bytes: int
    max_transfer_bytes: int
    node_timeout_s: float
    reconnect_timeout_s: float

    @classmethod
    def checked(
        cls,
        *,
        max_source_bytes: int | str,
        max_transfer_bytes: int | str,
        node_timeout: float,
        reconnect_timeout: float,
    ) -> Self:
        """Check all limits.

        Raises:
            ValueError, TypeError: naming the setting, the value and the range.
        """
        check_range("node_timeout", node_timeout, 2, 3600, whole=False)
        check_seconds("reconnect_timeout", reconnect_timeout)
        return cls(
            max_source_bytes=_checked_bytes("max_source_bytes", max_source_bytes),
            max_transfer_bytes=_checked_bytes("max_transfer_bytes", max_transfer_bytes),
            node_timeout_s=float(node_timeout),
            reconnect_timeout_s=float(reconnect_timeout),
        )


def _checked_bytes(name: str, value: int | str) -> int:
    nbytes = named_size(name, value)
    check_range(name, nbytes, _MIN_BYTES, 1 << 40, whole=True)
    return nbytes


def _declared_modules() -> tuple[str, ...]:
    return tuple(sorted({function.__module__ for function in declared_functions()} - {"__main__"}))


def _reference_of(plugin: Any) -> str:
    if isinstance(plugin, str):
        return plugin
    if isinstance(plugin, type) and issubclass(plugin, Plugin) and "<locals>" not in plugin.__qualname__:
        return f"{plugin.__module__}:{plugin.__qualname__}"
    raise TypeError(f"plugins: {plugin!r} cannot be sent to nodes; put it into a module, and give 'module:attribute'")
