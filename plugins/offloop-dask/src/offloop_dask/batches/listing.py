"""Sources of a batch: the objects below a prefix, or the lines of a file; and the names of their results."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import PurePosixPath

from offloop import InvalidTask

from ..storage import Stores, Url, is_url

__all__ = ["list_sources", "name_of_result"]

_PAGE = 1000  # sources that are listed at a time


async def list_sources(sources: str, stores: Stores) -> AsyncIterator[list[str]]:
    """URLs of the sources, in pages.

    Args:
        sources: URL of a prefix, whose objects are listed; or the path of a file with a URL in each line, "-" for stdin.
        stores: where prefixes are listed.

    Raises:
        InvalidTask: a line is no URL, or the file cannot be read.
        TaskFailed: with the code "source_unavailable": the prefix cannot be listed.
    """
    if is_url(sources):
        async for page in stores.list(sources):
            yield [url for url, _ in page]
        return
    try:
        with sys.stdin if sources == "-" else open(sources, encoding="utf-8") as file:  # noqa: ASYNC230 (read in a thread)
            while lines := await asyncio.to_thread(lambda: list(islice(file, _PAGE))):
                yield [Url(line.strip()).url for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidTask(f"the list {sources} cannot be read: {error}") from None


def name_of_result(source: str, sources: str, to: str, suffix: str | None) -> str:
    """URL of a source's result: below `to`, with the part of the source's key that follows the prefix of the listing.

    Args:
        source: URL of the source.
        sources: the prefix of the listing, or the path of a list, of which the whole key counts.
        to: URL of the prefix of all results.
        suffix: suffix of the result, as ".webp", in place of the source's; None: the source's.
    """
    base = sources.rstrip("/") + "/" if is_url(sources) else ""
    relative = source.removeprefix(base) if base and source.startswith(base) else source.partition("://")[2].partition("/")[2]
    relative = relative or PurePosixPath(source).name
    if suffix is not None:
        path = PurePosixPath(relative)
        relative = str(path.with_suffix(suffix)) if path.suffix else relative + suffix
    return f"{to.rstrip('/')}/{relative.lstrip('/')}"
