"""Damage checks after a pipeline: messages of the decoder, rows that no step needed, and failures without a message.

A decoder that repairs damage only adds a line to the error buffer of libvips. libvips itself looks at these lines before each
strip of rows, and so never after the last one. A crop of the top leaves the other rows unread.
"""

from __future__ import annotations

import pyvips

from offloop.errors import TaskFailed
from offloop.processor import Encoded

from ..evaluation import Evaluation
from ..headers.formats import FORMATS, FormatName
from ..operations import Decode
from .libvips_errors import is_from_decoder, is_out_of_memory

__all__ = ["check_rest", "is_readable"]

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
    if source in _READ_BY_ROWS and not evaluation.reads_all_rows:
        _read(encoded, source, decode, evaluation)
    evaluation.take_messages()
    damage = [line for line in evaluation.messages if is_from_decoder(line, source)]
    if damage and decode.fail_on == "warning":
        raise TaskFailed("corrupt_source", f"the {source} source is damaged: {damage[0]}")


def _read(encoded: Encoded, source: FormatName, decode: Decode, evaluation: Evaluation) -> None:
    """Decodes the first page of the source from the beginning, because libvips cannot go on after a pipeline."""
    # a slice of its own prevents the unmapping of the shared segment while libvips points into it
    data = evaluation.keep_alive(memoryview(encoded.data)[:])
    loader = getattr(pyvips.Image, FORMATS[source].loader)
    options = {"shrink": 8} if source == "jpeg" else {}  # the same bytes, in half the time
    image = loader(pyvips.Source.new_from_memory(data), access="sequential", fail_on=decode.fail_on, **options)
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
