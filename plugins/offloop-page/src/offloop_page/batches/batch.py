"""The files of one batch, the revisions of their changes, and the listeners that are told of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from .conversion import Conversion
from .failures import Failure
from .file_entry import FileEntry, KeptResult
from .file_state import FileEvent, FileState
from .names import clean_name, result_name, unique_name

__all__ = ["Attempt", "Batch"]


class Batch:
    """The files of one batch. Every change of a file has a revision, so that a listener can continue after the last it saw."""

    def __init__(self, batch_id: str, client: str, conversion: Conversion, now: float) -> None:
        self.batch_id = batch_id
        self.client = client  # address of the client that made it
        self.conversion = conversion
        self.revision = 0
        self.changed_at = now  # time of the last change, on the clock of the loop
        self.files: dict[str, FileEntry] = {}  # in the order of their creation
        self.listeners: set[asyncio.Event] = set()
        self.is_dropped = False
        self._clock = asyncio.get_running_loop().time
        self._by_change: dict[str, FileEntry] = {}  # the last change is the last entry
        self.nbytes = 0  # length of all files in bytes, as far as it is known
        self.result_bytes = 0  # length of all results in bytes
        self._file_names: set[str] = set()  # case-folded
        self._result_names: set[str] = set()  # case-folded
        self._progress: tuple[int, dict[str, Any]] = (-1, {})  # sums over all files, with their revision
        self._least_fraction = 0.0  # progress that was told since the last new or repeated file

    def add(self, key: str, name: str, nbytes: int) -> FileEntry:
        """Add a file with a client's name for it. An existing key gives the existing file."""
        entry = self.files.get(key)
        if entry is None:
            safe = unique_name(clean_name(name), self._file_names)
            self._file_names.add(safe.casefold())
            entry = self.files[key] = FileEntry(key, safe, nbytes)
            self.nbytes += nbytes
            self._least_fraction = 0.0
            self.changed(entry)
        return entry

    def name_of_result(self, entry: FileEntry, suffix: str, width: int | None) -> str:
        """Returns a name for a result that no other result has, and reserves it."""
        unique = unique_name(result_name(entry.name, suffix, width), self._result_names)
        self._result_names.add(unique.casefold())
        return unique

    def set_results(self, entry: FileEntry, results: tuple[KeptResult, ...]) -> None:
        """Keep results of a file instead of those that it had."""
        self._result_names -= {kept.file_name.casefold() for kept in entry.results} - {
            kept.file_name.casefold() for kept in results
        }
        self.result_bytes -= entry.result_bytes
        entry.results = results
        self.result_bytes += entry.result_bytes

    def begin(self, entry: FileEntry, nbytes: int) -> Attempt | None:
        """Begin the upload of a file. None: it is being sent or converted already."""
        if not entry.apply(FileEvent.UPLOAD_BEGUN):
            return None
        if entry.attempt > 1:
            self._least_fraction = 0.0
        self.set_results(entry, ())
        self.nbytes += (nbytes or entry.nbytes) - entry.nbytes
        entry.nbytes = nbytes or entry.nbytes
        self.changed(entry)
        return Attempt(self, entry)

    def cancel(self, entry: FileEntry) -> bool:
        """Stop a file's upload or conversion. Returns False if it has ended already."""
        stop = entry.stop
        if not entry.apply(FileEvent.CANCELLED):
            return False
        if stop is not None:
            stop()
        self.changed(entry)
        return True

    def cancel_all(self) -> int:
        """Stop all files that have not ended. Returns their number."""
        return sum(self.cancel(entry) for entry in list(self.files.values()))

    def refuse(self, entry: FileEntry, failure: Failure) -> None:
        """A file has failed."""
        entry.failure = failure
        if entry.apply(FileEvent.FAILED):
            self.changed(entry)

    def changed(self, entry: FileEntry) -> None:
        """Number a change of a file, and tell the listeners."""
        self.revision += 1
        self.changed_at = self._clock()
        entry.revision = self.revision
        self._by_change.pop(entry.key, None)
        self._by_change[entry.key] = entry
        self.wake()

    def wake(self) -> None:
        """Tell the listeners that something has changed."""
        for event in self.listeners:
            event.set()

    def changed_since(self, revision: int) -> list[FileEntry]:
        """Returns the files that changed after a revision, the oldest change first."""
        newest: list[FileEntry] = []
        for entry in reversed(self._by_change.values()):
            if entry.revision <= revision:
                break
            newest.append(entry)
        return newest[::-1]

    @contextmanager
    def listener(self) -> Generator[asyncio.Event]:
        """An event that is set at each change."""
        event = asyncio.Event()
        self.listeners.add(event)
        try:
            yield event
        finally:
            self.listeners.discard(event)

    @property
    def is_active(self) -> bool:
        """Whether the server works for a file of the batch."""
        return any(entry.state.is_active for entry in self.files.values())

    def results(self) -> Iterator[tuple[FileEntry, KeptResult]]:
        """The results of all files, in the order of the files."""
        for entry in self.files.values():
            for kept in entry.results:
                yield entry, kept

    def progress(self) -> dict[str, Any]:
        """Returns the sums over all files.

        The fraction is weighted by the expected time of each file; without one, by its length in relation to the files that
        have one. It decreases only after a new or a repeated file.
        """
        if self._progress[0] != self.revision:
            self._progress = (self.revision, self._sum())
        return self._progress[1]

    def _sum(self) -> dict[str, Any]:
        states = Counter(entry.state for entry in self.files.values())
        weights = self._weights()
        total = sum(weight for weight, _ in weights)
        fraction = round(sum(weight * share for weight, share in weights) / total, 4) if total else 0.0
        self._least_fraction = max(self._least_fraction, fraction)
        done = [entry for entry in self.files.values() if entry.state is FileState.DONE]
        return {
            "total": len(self.files),
            "done": states[FileState.DONE],
            "failed": states[FileState.FAILED],
            "cancelled": states[FileState.CANCELLED],
            "fraction": self._least_fraction,
            "source_bytes": sum(entry.nbytes for entry in done),
            "result_bytes": sum(entry.result_bytes for entry in done),
        }

    def _weights(self) -> list[tuple[float, float]]:
        """Returns the weight of each file and its share that is done."""
        known = [(entry.cost_s, entry.nbytes) for entry in self.files.values() if entry.cost_s is not None]
        seconds, nbytes = sum(cost_s for cost_s, _ in known), sum(nbytes for _, nbytes in known)
        s_per_byte = seconds / nbytes if seconds and nbytes else 1.0
        entries = self.files.values()
        return [(max(entry.nbytes, 1) * s_per_byte if entry.cost_s is None else entry.cost_s, entry.share) for entry in entries]

    def to_dict(self, since: int = -1) -> dict[str, Any]:
        """Returns the batch for clients, with the files that changed after a revision; all if it is negative."""
        files = list(self.files.values()) if since < 0 else self.changed_since(since)
        return {
            "id": self.batch_id,
            "revision": self.revision,
            "is_snapshot": since < 0,
            "conversion": msgspec.to_builtins(self.conversion),
            "progress": self.progress(),
            "files": [entry.to_dict() for entry in files],
        }


class Attempt:
    """One upload and conversion of a file. After a newer attempt, or a cancellation, it changes nothing any more."""

    def __init__(self, batch: Batch, entry: FileEntry) -> None:
        self.batch = batch
        self.entry = entry
        self._number = entry.attempt

    @property
    def is_current(self) -> bool:
        """Whether the file waits for this attempt."""
        return self.entry.attempt == self._number and self.entry.state.is_active

    def tell(self, event: FileEvent) -> bool:
        """Apply an event to the file. Returns whether it was legal."""
        if not self.is_current or not self.entry.apply(event):
            return False
        self.batch.changed(self.entry)
        return True

    def fail(self, failure: Failure) -> None:
        """The file has failed."""
        if self.is_current:
            self.batch.refuse(self.entry, failure)
