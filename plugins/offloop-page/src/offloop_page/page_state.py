"""What all requests of one application share."""

from __future__ import annotations

import asyncio

from offloop import Pool

from .batches.batch_store import BatchStore
from .batches.converter import Converter
from .live.routes import Live
from .settings import PageSettings
from .storage import Storage, open_storage

__all__ = ["PageState"]


class PageState:
    """The pool, the batches and the storage of one application."""

    def __init__(self, pool: Pool, settings: PageSettings) -> None:
        self.pool = pool
        self.settings = settings
        self.store = BatchStore(settings)
        self.converter = Converter(pool)
        self.storage: Storage | None = open_storage(settings) if settings.storage else None
        self.live = Live(settings.max_tracks, settings.batch_age_s)
        self.closing = asyncio.Event()  # set when the server stops

    async def close(self) -> None:
        """End all event streams, conversions and uploads, and return the memory of all results."""
        self.closing.set()
        self.store.drop_all()
        await self.converter.close()
        await self.live.close()
        if self.storage is not None:
            await self.storage.close()
