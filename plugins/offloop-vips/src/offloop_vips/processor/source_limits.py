"""What a source declares, checked in the worker before a decoder is called.

A decoder takes memory and time for what a header declares before it says anything of it: a canvas of 16,383 x 16,383 pixels
for a WebP of 46 KB, seconds for the list of 50,000 frames of which one is wanted. So our own reader reads the header first, and
pages are counted, as far as the limit.
"""

from __future__ import annotations

from offloop.errors import TaskFailed

from ..geometry import Size
from ..headers.formats import FormatName
from ..headers.page_count import count_pages
from ..headers.parser import Unclear, read_coding
from ..operations import Decode
from ..picture import check_pixels

__all__ = ["admit", "check_pages"]

_HEAD_NBYTES = 256 * 1024  # of a source: as much as the server looks at


def admit(data: memoryview, source: FormatName, decode: Decode) -> None:
    """Refuse a source that declares more than is allowed. A header that cannot be read is left to the decoder.

    Raises:
        TaskFailed: "too_many_pixels" or "too_many_pages".
    """
    try:
        coding = read_coding(source, bytes(data[:_HEAD_NBYTES]), whole=data.nbytes <= _HEAD_NBYTES)
    except Unclear:
        pass
    else:
        check_pixels(Size(*coding.size), 1, decode.max_pixels)
    check_pages(count_pages(source, data, decode.max_pages), source, decode)


def check_pages(pages: int, source: FormatName, decode: Decode) -> None:
    """Refuse a source of more pages or frames than allowed, whichever of them are wanted.

    Raises:
        TaskFailed: with the code "too_many_pages".
    """
    if pages > decode.max_pages:
        limit = f"{decode.max_pages:,}"
        raise TaskFailed("too_many_pages", f"the {source} source has more than {limit} pages, the limit (Decode.max_pages)")
