"""Pulls the sources of a batch from an iterable or an async iterable, one at a time."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator, Sized
from typing import Any, TypeAlias, TypeVar, cast

import msgspec

from ...errors import InvalidTask
from ...operation import Operation

__all__ = ["Item", "SourcePuller", "Sources"]

SourceT = TypeVar("SourceT")

Sources: TypeAlias = Iterable[SourceT] | AsyncIterable[SourceT]

_PAIR_LENGTH = 2
_END: Any = object()


class Item(msgspec.Struct, frozen=True):
    """One source of a batch, with what is done to it."""

    index: int  # number of the source, from 0
    source: Any
    pipeline: Iterable[Operation]
    to: str | os.PathLike[str] | None  # path of the result's file; None: the result stays in memory


class SourcePuller:
    """An iterator over the sources. An iterator that was made for it, or is a generator, is closed at the end."""

    def __init__(
        self,
        sources: Sources[Any],
        pipeline: Iterable[Operation] | None,
        to: Callable[[Any], str | os.PathLike[str]] | None,
    ) -> None:
        """Begin to iterate.

        Args:
            sources: the sources; pairs of a source and a pipeline, if `pipeline` is None.
            pipeline: the pipeline of all sources.
            to: returns the path of a source's result; None: the results stay in memory.

        Raises:
            TypeError: `sources` is not iterable, or is bytes, text or a mapping.
        """
        self.total = len(sources) if isinstance(sources, Sized) else None
        """Number of sources; None: unknown."""
        self.pulled = 0
        """Number of sources that were pulled."""
        if isinstance(sources, str | bytes | bytearray | memoryview):
            raise TypeError(f"the sources are one {type(sources).__name__}; give an iterable of sources: [source]")
        self._pipeline = pipeline
        self._to = to
        self._iterator: Iterator[Any] | AsyncIterator[Any]
        if isinstance(sources, AsyncIterable):
            self._iterator = aiter(cast("AsyncIterable[Any]", sources))
        else:
            self._iterator = iter(sources)

    async def pull(self) -> Item | None:
        """The next source; None if there is none.

        Raises:
            TypeError: an item is not a pair of a source and a pipeline.
            Exception: the iterator raised it.
        """
        iterator = self._iterator
        given = await anext(iterator, _END) if isinstance(iterator, AsyncIterator) else next(iterator, _END)
        if given is _END:
            return None
        index = self.pulled
        self.pulled += 1
        source, pipeline = (given, self._pipeline) if self._pipeline is not None else _pair(given)
        return Item(index, source, pipeline, None if self._to is None else self._to(source))

    async def aclose(self) -> None:
        """Close the iterator, if it is a generator."""
        iterator: Any = self._iterator
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()
        elif isinstance(iterator, Generator):
            iterator.close()


def _pair(given: Any) -> tuple[Any, Iterable[Operation]]:
    if not isinstance(given, tuple) or len(cast("tuple[Any, ...]", given)) != _PAIR_LENGTH:
        raise InvalidTask("without a pipeline, every item must be a pair: (source, pipeline)")
    return cast("tuple[Any, Iterable[Operation]]", given)
