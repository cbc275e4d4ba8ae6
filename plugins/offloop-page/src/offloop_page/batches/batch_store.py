"""All batches of the server: their limits and their expiry."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

from ..settings import PageSettings
from .batch import Batch
from .conversion import Conversion

__all__ = ["BatchStore", "LimitReached"]

_ID_BYTES = 16  # of randomness, so that an id cannot be guessed

Limit = Literal["batches", "batches_of_client", "uploads_of_client", "files", "batch_bytes", "results"]


class LimitReached(Exception):
    """A limit of the server was reached. Nothing was changed."""

    def __init__(self, limit: Limit, maximum: int) -> None:
        self.limit = limit  # what is limited
        self.maximum = maximum  # the limit
        super().__init__(f"{limit}: the limit is {maximum:,}")


class BatchStore:
    """The batches by id. A batch is dropped when nothing has changed for `batch_age_s`, or earlier if there is no room."""

    def __init__(self, settings: PageSettings) -> None:
        self.settings = settings
        self.batches: dict[str, Batch] = {}
        self._uploads: Counter[str] = Counter()  # uploads that run, by address of the client

    def create(self, client: str, conversion: Conversion) -> Batch:
        """Create a batch.

        Raises:
            LimitReached: the client has too many, or there are too many that are in use.
        """
        of_client = [batch for batch in self.batches.values() if batch.client == client]
        if len(of_client) >= self.settings.max_batches_per_client and not self._drop_idle(of_client):
            raise LimitReached("batches_of_client", self.settings.max_batches_per_client)
        if len(self.batches) >= self.settings.max_batches and not self._drop_idle(list(self.batches.values())):
            raise LimitReached("batches", self.settings.max_batches)
        loop = asyncio.get_running_loop()
        batch = Batch(secrets.token_urlsafe(_ID_BYTES), client, conversion, loop.time())
        self.batches[batch.batch_id] = batch
        self._schedule(batch)
        return batch

    def find(self, batch_id: str) -> Batch | None:
        """Returns the batch; None if there is none, or it was dropped."""
        return self.batches.get(batch_id)

    def drop(self, batch: Batch) -> None:
        """Stop a batch's files, and return the memory of its results."""
        if batch.is_dropped:
            return
        batch.is_dropped = True
        batch.cancel_all()
        for entry in batch.files.values():
            batch.set_results(entry, ())
            entry.preview = None
        self.batches.pop(batch.batch_id, None)
        batch.wake()

    def drop_all(self) -> None:
        """Drop every batch, because the server stops."""
        for batch in list(self.batches.values()):
            self.drop(batch)

    def check_room(self, batch: Batch, files: int, nbytes: int) -> None:
        """Check that a batch may have that many files and bytes more.

        Raises:
            LimitReached: it may not.
        """
        if len(batch.files) + files > self.settings.max_files:
            raise LimitReached("files", self.settings.max_files)
        if batch.nbytes + nbytes > self.settings.max_batch_bytes:
            raise LimitReached("batch_bytes", self.settings.max_batch_bytes)

    @contextmanager
    def upload_of(self, client: str) -> Generator[None]:
        """Count an upload of a client while it runs.

        Raises:
            LimitReached: the client sends too many.
        """
        if self._uploads[client] >= self.settings.max_uploads_per_client:
            raise LimitReached("uploads_of_client", self.settings.max_uploads_per_client)
        self._uploads[client] += 1
        try:
            yield
        finally:
            self._uploads[client] -= 1
            if not self._uploads[client]:
                del self._uploads[client]

    def make_room_for_results(self, batch: Batch) -> None:
        """Drop the oldest batches that no page shows, until there is room for results.

        Raises:
            LimitReached: the results of batches in use have reached the limit.
        """
        limit = self.settings.max_result_bytes
        while sum(other.result_bytes for other in self.batches.values()) >= limit:
            if not self._drop_idle([other for other in self.batches.values() if other is not batch]):
                raise LimitReached("results", limit)

    def _drop_idle(self, batches: list[Batch]) -> bool:
        """Drop the batch that was idle for longest. False: all are in use."""
        idle = [batch for batch in batches if not batch.listeners and not batch.is_active]
        if not idle:
            return False
        self.drop(min(idle, key=lambda batch: batch.changed_at))
        return True

    def _schedule(self, batch: Batch) -> None:
        loop = asyncio.get_running_loop()
        loop.call_at(batch.changed_at + self.settings.batch_age_s, self._expire, batch)

    def _expire(self, batch: Batch) -> None:
        now = asyncio.get_running_loop().time()
        if batch.is_dropped:
            return
        if not batch.is_active and now - batch.changed_at >= self.settings.batch_age_s:
            self.drop(batch)
        else:
            batch.changed_at = now if batch.is_active else batch.changed_at
            self._schedule(batch)
