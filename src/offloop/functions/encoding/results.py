"""Results of functions: encoded in a worker, and decoded strictly in the server.

The encoded value is in the info of the output if it is short, and otherwise behind the pieces. The pieces (bytes, arrays,
tables) are in the output's memory, one after the other. An info has texts and no bytes, so each byte of the encoded value is
one character.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ...errors import TaskFailed
from ...processor import Encoded, Task
from .kinds import Attached, Kind
from .shape import Shape, decode_custom, encode_custom

__all__ = ["ResultCodec"]

_ALIGNMENT = 64  # bytes; for the vector instructions of numpy and Arrow
_INFO_NBYTES = 24 * 1024  # longest encoded value in the info, because a frame has 64 KiB, and a character up to two bytes
_CHARACTERS = "latin-1"  # the encoding in which each byte is one character
_MAX_VALUE_NBYTES = 1024 * 1024  # longest encoded value, because the event loop decodes it in about 3 ms
_MAX_PIECES = 1024
_QUICK_NBYTES = 1024 * 1024  # bytes that are copied in about 0.1 ms

_INVALID = (msgspec.DecodeError, TypeError, ValueError, IndexError, RecursionError)


class ResultCodec:
    """Encodes and decodes the results of one function."""

    def __init__(self, shape: Shape, name: str) -> None:
        self._shape = shape
        self._name = name
        self._encoder = msgspec.msgpack.Encoder(enc_hook=encode_custom)
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(shape.wire_type, dec_hook=decode_custom)

    def encode(self, value: Any, task: Task) -> Encoded:
        """Encode a result, in a worker. A single piece in memory of the task is not copied.

        Raises:
            TaskFailed: the value cannot be sent; the code is "invalid_result".
        """
        pieces: list[memoryview] = []
        try:
            encoded = self._encoder.encode(self._detach(value, pieces, task) if self._shape.has_attached else value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise self._invalid(str(error)) from error
        if len(encoded) > _MAX_VALUE_NBYTES or len(pieces) > _MAX_PIECES:
            size = f"{len(encoded):,} bytes and {len(pieces):,} pieces"
            cure = "return bytes, arrays or tables, or yield parts of it from a generator function"
            raise self._invalid(f"it has {size}; the limits are {_MAX_VALUE_NBYTES:,} and {_MAX_PIECES:,}: {cure}")
        if not pieces and len(encoded) <= _INFO_NBYTES:  # the usual case
            return Encoded(b"", {"value": encoded.decode(_CHARACTERS)})
        info: dict[str, Any] = {"pieces": [piece.nbytes for piece in pieces]} if pieces else {}
        if len(encoded) <= _INFO_NBYTES - 16 * len(pieces):
            info["value"] = encoded.decode(_CHARACTERS)
        else:
            pieces.append(memoryview(encoded))
        return Encoded(pieces[0] if len(pieces) == 1 else _joined(pieces, task), info)

    def _detach(self, value: Any, pieces: list[memoryview], task: Task) -> Any:
        """Append the parts of a value that travel in the output's memory to `pieces`. Returns the value without them."""

        def attach(kind: Kind, part: Any) -> Attached:
            memory, attached = kind.memory_of(part, len(pieces), task.allocate)
            pieces.append(memory)
            return attached

        return self._shape.detach(value, attach)

    def is_slow(self, nbytes: int) -> bool:
        """Whether decoding a result with so many bytes in memory takes so long that the event loop must not do it."""
        return nbytes > _QUICK_NBYTES and self._shape.is_slow

    def decode(self, info: Mapping[str, Any], memory: memoryview) -> Any:
        """Decode a result, in the server. Views and arrays refer to the memory.

        Raises:
            TaskFailed: the worker returned what the annotation does not allow; the code is "invalid_result".
        """
        try:
            pieces, encoded = _pieces_of(info, memory)
            value = self._decoder.decode(encoded)
            if not self._shape.has_attached:
                return value
            return self._shape.restore(value, lambda kind, attached: kind.from_memory(pieces[attached.index], attached))
        except _INVALID as error:
            raise self._invalid(str(error)) from None

    def _invalid(self, reason: str) -> TaskFailed:
        return TaskFailed("invalid_result", f"{self._name} returned a value that cannot be its result: {reason}")


def _joined(pieces: Sequence[memoryview], task: Task) -> memoryview:
    """Returns shared memory with a copy of all pieces."""
    *_, (_, end) = [(0, 0), *_places(piece.nbytes for piece in pieces)]
    memory = task.allocate(end)
    for piece, (start, stop) in zip(pieces, _places(piece.nbytes for piece in pieces), strict=True):
        memory[start:stop] = piece
    return memory


def _places(lengths: Any) -> Iterator[tuple[int, int]]:
    """Yields the start and the end of each piece."""
    end = 0
    for nbytes in lengths:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        end = start + nbytes
        yield start, end


def _pieces_of(info: Mapping[str, Any], memory: memoryview) -> tuple[list[memoryview], bytes | memoryview]:
    """Returns the pieces, and the encoded value.

    Raises:
        ValueError, TypeError: the info is not that of a function's result, or the pieces are not inside the memory.
    """
    if "pieces" not in info and isinstance(value := info.get("value"), str):  # the usual case
        return [], value.encode(_CHARACTERS)
    lengths, encoded = info.get("pieces", []), info.get("value")
    if not isinstance(lengths, list) or not all(isinstance(nbytes, int) and nbytes >= 0 for nbytes in lengths):  # pyright: ignore[reportUnknownVariableType]
        raise TypeError("its info has no lengths of pieces")
    places = list(_places(lengths))
    end = places[-1][1] if places else 0
    if end > memory.nbytes:
        raise ValueError("a piece is outside of its memory")
    pieces = [memory[start:stop] for start, stop in places]
    if encoded is None:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        return pieces, bytes(memory[start : start + _MAX_VALUE_NBYTES + 1])  # a copy, because its worker may still write there
    if not isinstance(encoded, str):
        raise TypeError("its info has no encoded value")
    return pieces, encoded.encode(_CHARACTERS)
