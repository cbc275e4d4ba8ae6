"""From messages to frames and back.

Decoding is strict in both directions. Anything that does not decode is a `ProtocolError`, and whoever sent it is not
listened to any more.
"""

from __future__ import annotations

import msgspec

from .framing import HEADER, ProtocolError
from .messages import MAX_UNLESS_FAILED_NBYTES, FromSupervisor, FromWorker
from .text import printable

__all__ = ["decode_from_supervisor", "decode_from_worker", "encode_frame"]

_FAILED = tuple(bytes([0x90 + n]) + b"\xa6failed" for n in (7, 8, 9, 10, 11))  # an array of so many, and a text of 6
_REASON_LIMIT = 200  # characters: a decoder's complaint may quote what it was given

_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_encode = msgspec.msgpack.Encoder().encode
_pack_length = HEADER.pack
_from_supervisor: msgspec.msgpack.Decoder[FromSupervisor] = msgspec.msgpack.Decoder(FromSupervisor)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def encode_frame(message: FromSupervisor | FromWorker) -> bytes:
    """The message, ready to be sent: its length and its bytes."""
    encoded = _encode(message)
    return _pack_length(len(encoded)) + encoded


def decode_from_supervisor(frame: bytes | bytearray) -> FromSupervisor:
    """Raises `ProtocolError` for anything that is not exactly one message of the supervisor."""
    try:
        return _from_supervisor.decode(frame)
    except _UNDECODABLE as error:
        raise _protocol_error(frame, error) from None


def decode_from_worker(frame: bytes | bytearray) -> FromWorker:
    """Raises `ProtocolError` for anything that is not exactly one message of a worker."""
    if len(frame) > MAX_UNLESS_FAILED_NBYTES and not frame.startswith(_FAILED):
        raise ProtocolError(f"a message of {len(frame):,} bytes that is no failure; the limit is {MAX_UNLESS_FAILED_NBYTES:,}")
    try:
        return _from_worker.decode(frame)
    except _UNDECODABLE as error:
        raise _protocol_error(frame, error) from None


def _protocol_error(frame: bytes | bytearray, error: Exception) -> ProtocolError:
    return ProtocolError(f"undecodable message of {len(frame)} bytes: {printable(str(error), _REASON_LIMIT)}")
