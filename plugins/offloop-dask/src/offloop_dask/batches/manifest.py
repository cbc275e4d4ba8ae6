"""Manifest of a batch: every source with its destination and its state, in a SQLite file.

A result is recorded after its object was written, so a batch that was interrupted makes at most the results again that were
under way. They replace equal objects, because the destination follows from the source: each result is there exactly once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec

from offloop import InvalidTask

__all__ = ["Counts", "Failure", "Item", "ItemState", "Manifest"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS items (
    number INTEGER PRIMARY KEY,
    source TEXT NOT NULL UNIQUE,
    destination TEXT NOT NULL,
    state INTEGER NOT NULL,
    nbytes INTEGER NOT NULL DEFAULT 0,
    code TEXT,
    error TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS destinations ON items (destination) WHERE state != 3;
CREATE INDEX IF NOT EXISTS unfinished ON items (number) WHERE state = 0;
"""


class ItemState(IntEnum):
    """State of one source."""

    WAITING = 0
    DONE = 1
    FAILED = 2
    REFUSED = 3  # another source has the same destination


class Item(msgspec.Struct, frozen=True):
    """One source that is to be done."""

    number: int
    source: str
    destination: str


class Failure(msgspec.Struct, frozen=True):
    """One source without a result."""

    source: str
    destination: str
    code: str  # code of the `TaskFailed`, or the type of another error
    error: str


class Counts(msgspec.Struct, frozen=True):
    """Numbers of sources by state."""

    waiting: int = 0
    done: int = 0
    failed: int = 0  # with those of which another one has the destination
    nbytes: int = 0  # length of all results in bytes

    @property
    def total(self) -> int:
        """Number of all sources."""
        return self.waiting + self.done + self.failed


class Manifest:
    """The file of one batch. One process may have it open. The methods block: call them in one thread."""

    def __init__(self, path: Path, about: dict[str, str], *, resume: bool) -> None:
        """Open or create the file.

        Args:
            path: path of the file.
            about: what the batch is: its sources, pipeline and destination. A batch is continued only if all are equal.
            resume: whether a batch of an existing file is continued.

        Raises:
            InvalidTask: the file has a batch and `resume` is false, or has another batch, or another process has it open, or it
                is no manifest.
        """
        self._path = path
        try:
            self._database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise InvalidTask(f"the manifest {path} cannot be opened: {error}") from None
        try:
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.executescript(_SCHEMA)
            self._begin(about, resume=resume)
        except BaseException as error:
            self._database.close()
            if isinstance(error, sqlite3.OperationalError):
                raise InvalidTask(f"the manifest {path} cannot be opened: {error}") from None
            if isinstance(error, sqlite3.DatabaseError):
                raise InvalidTask(f"{path} is no manifest: {error}") from None
            raise

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @property
    def is_listed(self) -> bool:
        """Whether all sources are in it."""
        return self._about("listed") == "yes"

    def finish_listing(self) -> None:
        """All sources are in it."""
        self._set("listed", "yes")

    def add(self, sources: Iterable[tuple[str, str]]) -> int:
        """Add sources with their destinations. Known ones stay as they are. Returns the number of new ones."""
        added = 0
        with self._transaction():
            for source, destination in sources:
                known = self._database.execute("SELECT 1 FROM items WHERE source = ?", (source,)).fetchone()
                if known is not None:
                    continue
                added += 1
                other = self._database.execute(
                    "SELECT source FROM items WHERE destination = ? AND state != 3", (destination,)
                ).fetchone()
                if other is None:
                    values: tuple[Any, ...] = (source, destination, ItemState.WAITING, None, None)
                else:
                    text = f"its result would replace that of {other[0]}"
                    values = (source, destination, ItemState.REFUSED, "same_destination", text)
                self._database.execute(
                    "INSERT INTO items (source, destination, state, code, error) VALUES (?, ?, ?, ?, ?)", values
                )
        return added

    def waiting_after(self, number: int, count: int) -> list[Item]:
        """The next sources that are to be done, at most `count` of them, with a higher number than `number`."""
        rows = self._database.execute(
            "SELECT number, source, destination FROM items WHERE state = 0 AND number > ? ORDER BY number LIMIT ?",
            (number, count),
        )
        return [Item(*row) for row in rows]

    def record(self, done: Sequence[tuple[str, int]], failed: Sequence[tuple[str, str, str]]) -> None:
        """Record outcomes.

        Args:
            done: sources, and the lengths of their results in bytes.
            failed: sources, codes and texts of their errors.
        """
        with self._transaction():
            self._database.executemany(
                "UPDATE items SET state = 1, nbytes = ?, code = NULL, error = NULL WHERE source = ?",
                [(nbytes, source) for source, nbytes in done],
            )
            self._database.executemany(
                "UPDATE items SET state = 2, code = ?, error = ? WHERE source = ?",
                [(code, error, source) for source, code, error in failed],
            )

    def retry_failed(self) -> int:
        """Have the failed sources done again. Returns their number."""
        return self._database.execute("UPDATE items SET state = 0, code = NULL, error = NULL WHERE state = 2").rowcount

    def counts(self) -> Counts:
        """Numbers of sources by state."""
        rows = self._database.execute("SELECT state, count(*), sum(nbytes) FROM items GROUP BY state").fetchall()
        numbers = {state: number for state, number, _ in rows}
        failed = numbers.get(ItemState.FAILED, 0) + numbers.get(ItemState.REFUSED, 0)
        nbytes = sum(nbytes for _, _, nbytes in rows)
        return Counts(numbers.get(ItemState.WAITING, 0), numbers.get(ItemState.DONE, 0), failed, nbytes)

    def failures(self) -> Iterator[Failure]:
        """The sources without a result, in the order of the listing."""
        rows = self._database.execute("SELECT source, destination, code, error FROM items WHERE state >= 2 ORDER BY number")
        for row in rows:
            yield Failure(*row)

    def _begin(self, about: dict[str, str], *, resume: bool) -> None:
        with self._transaction():
            found = dict(self._database.execute("SELECT name, value FROM about").fetchall())
            if not found:
                self._database.executemany("INSERT INTO about VALUES (?, ?)", about.items())
                return
        if not resume:
            raise InvalidTask(f"{self._path} has a batch already: continue it with --resume, or take another file")
        for name, value in about.items():
            if found.get(name) != value:
                raise InvalidTask(f"{self._path} is of another batch: its {name} is {found.get(name)}, not {value}")

    def _about(self, name: str) -> str | None:
        row = self._database.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _set(self, name: str, value: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))

    def _transaction(self) -> _Transaction:
        return _Transaction(self._database)


class _Transaction:
    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._database.execute("COMMIT" if kind is None else "ROLLBACK")
