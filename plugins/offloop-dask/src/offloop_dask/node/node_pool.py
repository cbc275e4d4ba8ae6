"""The pool of a node, and what its tasks need beside it. Opened for the first client, closed after the last."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from importlib import import_module

from offloop import OffloopError, Pool, PoolClosed
from offloop.functions.plugin import FunctionsPlugin
from offloop.plugins import Registry

from ..settings import NodeSettings
from ..storage import Stores
from .operations import OperationDecoder

__all__ = ["NodePool"]

_log = logging.getLogger("offloop.node")


class NodePool:
    """The pool of one dask worker."""

    def __init__(self, name: str, settings: NodeSettings) -> None:
        """Store the settings; nothing is opened.

        Args:
            name: name of the dask worker.
            settings: of the node.
        """
        self.name = name
        self.stores = Stores(settings.storage_options)
        self._settings = settings
        self._operations: OperationDecoder | None = None  # kept when the pool is closed
        self._changing = asyncio.Lock()  # held while the pool is opened or closed
        self._pool: Pool | None = None
        self._owner: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()
        self._is_leaving = False

    @property
    def is_leaving(self) -> bool:
        """Whether the node is leaving the cluster."""
        return self._is_leaving

    @property
    def is_open(self) -> bool:
        """Whether there is an open pool."""
        return self._pool is not None

    @property
    def pool(self) -> Pool:
        """The open pool.

        Raises:
            PoolClosed: the node is leaving the cluster.
        """
        if self._pool is None:
            raise PoolClosed(f"the pool of the node {self.name} is closed")
        return self._pool

    @property
    def operations(self) -> OperationDecoder:
        """Decodes the operations of requests; there from the first opening on."""
        assert self._operations is not None, "the pool was opened"
        return self._operations

    async def open(self) -> None:
        """Open the pool, if it is not open.

        Raises:
            PoolClosed: the node is leaving the cluster.
            OffloopError, OSError, ImportError: as `Pool` raises them.
        """
        async with self._changing:
            if self._is_leaving:
                raise PoolClosed(f"the node {self.name} is leaving the cluster")
            if self._pool is not None:
                return
            self._leave.clear()
            opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            # in a task of its own, because the cancel scopes of a pool end in the task that entered them
            self._owner = asyncio.create_task(self._own(opened))
            await asyncio.shield(opened)

    def leave(self) -> None:
        """Refuse to open the pool from now on."""
        self._is_leaving = True

    async def close(self) -> None:
        """Close the pool, if it is open."""
        async with self._changing:
            await self._close()

    async def close_unless(self, is_used: Callable[[], bool]) -> None:
        """Close the pool, unless it is used. `is_used` is asked when no opening is under way."""
        async with self._changing:
            if not is_used():
                await self._close()

    async def _close(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            self._leave.set()
            await asyncio.wait({owner})

    async def _own(self, opened: asyncio.Future[None]) -> None:
        try:
            if self._operations is None:
                self._operations = OperationDecoder(await asyncio.to_thread(self._load_plugins), self.name)
            async with Pool(**self._settings.pool_options()) as pool:
                self._pool = pool
                opened.set_result(None)
                await self._leave.wait()
        except BaseException as error:
            if not opened.done():
                opened.set_exception(error if isinstance(error, Exception) else PoolClosed())
            elif isinstance(error, OffloopError):
                _log.warning("the pool of this node has failed", exc_info=True)
            else:
                raise
        finally:
            self._pool = None

    def _load_plugins(self) -> Registry:
        settings = self._settings
        for module in settings.modules:
            try:
                import_module(module)  # so that its functions are declared here, because the sandbox allows no later imports
            except Exception:  # raised by the module's own code
                _log.warning("the module %r of a client's functions cannot be imported", module, exc_info=True)
        return Registry(settings.plugins_with_functions(), {FunctionsPlugin.name: FunctionsPlugin(settings.functions)})
