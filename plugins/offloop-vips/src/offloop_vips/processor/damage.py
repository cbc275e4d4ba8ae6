"""Damage checks after a pipeline: messages of the decoder, rows that no step needed, and failures without a message.

A decoder that repairs damage only adds a line to the error buffer of libvips. libvips itself looks at these lines before each
strip of rows, and so never after the last one. A crop of the top leaves the other rows unread.
"""

from __future__ import annotations

from typing import Any

import pyvips

from offloop.errors import TaskFailed
from offloop.processor import Encoded

from ..evaluation import Evaluation
from ..headers.formats import FORMATS, FormatName
from ..operations import Decode
from .libvips_errors import is_from_decoder, is_out_of_memory
from .loading import open_source
from .scan_reader import reads_last_blocks

__all__ = ["check_rest", "confirmed_left_over_nbytes", "is_readable"]

_SHRINK_FACTORS = (8, 4, 2, 1)  # of a JPEG decoder
_READ_BY_ROWS = ("jpeg", "png", "tiff")  # the other decoders read whole frames before they give the first row


def check_rest(encoded: Encoded, source: FormatName, decode: Decode, evaluation: Evaluation) -> None:
    """Reads the source to its end, and checks what its decoder reported, as far as `Decode.fail_on` asks for it.

    Raises:
        TaskFailed: "corrupt_source".
        pyvips.Error: the rest could not be read.
    """
    if decode.fail_on == "none":
        return
    evaluation.take_messages()
    if source in _READ_BY_ROWS and (not evaluation.reads_all_rows or _left_over_nbytes(evaluation)):
        _read(encoded, source, decode, evaluation)
    evaluation.take_messages()
    damage = [line for line in evaluation.messages if is_from_decoder(line, source)]
    if damage and decode.fail_on == "warning":
        raise TaskFailed("corrupt_source", f"the {source} source is damaged: {damage[0]}")
    if left_over := _left_over_nbytes(evaluation):
        raise TaskFailed("corrupt_source", f"the {source} source is damaged: {left_over} bytes of its scan are left over")


def confirmed_left_over_nbytes(encoded: Encoded, source: FormatName, decode: Decode, evaluation: Evaluation) -> int:
    """Returns the bytes of a JPEG's scan that its decoder leaves over, from a second decode if the first one left any.

    A resize may not need the last row, and the first decode may have been given a wrong end of the scan.
    """
    if _left_over_nbytes(evaluation):
        _read(encoded, source, decode, evaluation)
    return _left_over_nbytes(evaluation)


def _left_over_nbytes(evaluation: Evaluation) -> int:
    return evaluation.scan_reader.left_over_nbytes() if evaluation.scan_reader is not None else 0


def _read(encoded: Encoded, source: FormatName, decode: Decode, evaluation: Evaluation) -> None:
    """Decodes the first page of the source from the beginning, because libvips cannot go on after a pipeline."""
    loader, checks_scan = getattr(pyvips.Image, FORMATS[source].loader), evaluation.scan_reader is not None

    def load(**options: int) -> Any:
        opened = open_source(encoded, evaluation, checks_scan=checks_scan)
        return loader(opened, access="sequential", fail_on=decode.fail_on, **options)

    image = load()
    if source == "jpeg" and min(image.width, image.height) >= _SHRINK_FACTORS[0]:
        # the same bytes, in half the time
        image = load(shrink=next(factor for factor in _SHRINK_FACTORS if reads_last_blocks(image.height, factor)))
    evaluation.watch(image).avg()


def is_readable(encoded: Encoded, source: FormatName, decode: Decode, evaluation: Evaluation) -> bool:
    """Whether the source alone can be read. It tells the reason of a failure.

    For a truncated TIFF or interlaced PNG libvips gives no error of the decoder, but one of the encoder, or none.
    """
    try:
        _read(encoded, source, decode, evaluation)
    except pyvips.Error as error:
        return is_out_of_memory(error)
    finally:
        evaluation.release()
    return True
