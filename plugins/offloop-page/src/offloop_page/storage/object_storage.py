"""Sends the results of a batch to an object store, and tells each file's state."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ..batches.batch import Batch
from ..batches.file_entry import FileEntry, Upload
from ..settings import PageSettings

__all__ = ["Storage", "open_storage"]

_log = logging.getLogger("offloop.page")

_AT_ONCE = 4  # files that are sent at a time
_ATTEMPTS = 3
# options of the HTTP client, which obstore keeps apart from those of the storage
_CLIENT_OPTIONS = {"allow_http", "allow_invalid_certificates", "connect_timeout", "proxy_url", "timeout", "user_agent"}
_FIRST_PAUSE_S = 0.5  # before the second attempt; it doubles


def open_storage(settings: PageSettings) -> Storage:
    """Returns the storage that the settings name. Nothing is sent before the first upload.

    Raises:
        ValueError: obstore is not installed, or does not know the address, or an option of it.
    """
    try:
        from obstore.exceptions import BaseError  # noqa: PLC0415 (because the extra is optional)
        from obstore.store import from_url  # noqa: PLC0415
    except ImportError:
        raise ValueError('storage: obstore is not installed: pip install "offloop-page[storage]"') from None
    client: Any = {key: value for key, value in settings.storage_options.items() if key in _CLIENT_OPTIONS}
    options: Any = {key: value for key, value in settings.storage_options.items() if key not in _CLIENT_OPTIONS}
    try:
        return Storage(from_url(settings.storage, config=options, client_options=client), settings.storage)
    except (BaseError, ValueError) as error:
        reason = str(error).partition("\n")[0]  # the rest is obstore's debug output
        raise ValueError(f"storage={settings.storage!r}: {reason}") from None


class Storage:
    """An object store. Each batch has a folder of its own in it, so that no object of another batch is replaced."""

    def __init__(self, store: Any, address: str) -> None:
        self._store = store
        self.address = address  # for users; it has no credentials
        self._tasks: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(_AT_ONCE)

    def start(self, batch: Batch) -> int:
        """Begin to send the results of all files that are not stored. Returns the number of these files."""
        waiting = [entry for entry in batch.files.values() if entry.results and not _is_under_way(entry)]
        for entry in waiting:
            _tell(batch, entry, Upload("waiting"))
            task = asyncio.create_task(self._send_file(batch, entry))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(waiting)

    async def close(self) -> None:
        """Cancel all uploads. The store has each object completely or not at all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send_file(self, batch: Batch, entry: FileEntry) -> None:
        attempt, results = entry.attempt, entry.results
        async with self._places:
            if batch.is_dropped or entry.attempt != attempt:
                return
            _tell(batch, entry, Upload("sending"))
            folder = f"{batch.batch_id[:8]}"
            try:
                for kept in results:
                    await self._put(f"{folder}/{kept.file_name}", kept.result.data, kept.result.info.media_type)
            except Exception as error:
                _log.warning("the upload of a result failed: %s", error)
                upload = Upload("failed", "The storage refused the file. Retry; if it fails again, tell the operator.")
            else:
                upload = Upload("stored", f"{self.address.rstrip('/')}/{folder}/")
            if entry.attempt == attempt and not batch.is_dropped:
                _tell(batch, entry, upload)

    async def _put(self, path: str, data: memoryview, media_type: str) -> None:
        """Send one object from shared memory, and try again after errors."""
        import obstore  # noqa: PLC0415 (because the extra is optional)

        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await obstore.put_async(self._store, path, data, attributes={"Content-Type": media_type})
            except Exception:
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1))
            else:
                return


def _is_under_way(entry: FileEntry) -> bool:
    return entry.upload is not None and entry.upload.state != "failed"


def _tell(batch: Batch, entry: FileEntry, upload: Upload) -> None:
    entry.upload = upload
    batch.changed(entry)
