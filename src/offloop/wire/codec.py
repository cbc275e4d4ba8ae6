"""Encodes messages into frames, and decodes frames.

Decoding is strict in both directions. A frame that cannot be decoded is a `ProtocolError`, after which no more is read from its
sender.
"""

from __future__ import annotations

import msgspec

from .framing import HEADER, ProtocolError
from .messages import FromSupervisor, FromWorker
from .text import printable

__all__ = ["decode_from_supervisor", "decode_from_worker", "encode_frame"]

_MAX_REASON_LENGTH = 200  # maximum characters of a decoder's error text, because it may quote the frame

_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_encode = msgspec.msgpack.Encoder().encode
_pack_length = HEADER.pack
_from_supervisor: msgspec.msgpack.Decoder[FromSupervisor] = msgspec.msgpack.Decoder(FromSupervisor)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def encode_frame(message: FromSupervisor | FromWorker) -> bytes:
    """Returns the frame of a message: its length and its encoding."""
    encoded = _encode(message)
    return _pack_length(len(encoded)) + encoded


def decode_from_supervisor(frame: bytes | bytearray) -> FromSupervisor:
    """Decode a frame from the supervisor.

    Raises:
        ProtocolError: the frame is not exactly one message of the supervisor.
    """
    try:
        return _from_supervisor.decode(frame)
    except _UNDECODABLE as error:
        raise _protocol_error(frame, error) from None


def decode_from_worker(frame: bytes | bytearray) -> FromWorker:
    """Decode a frame from a worker.

    Raises:
        ProtocolError: the frame is not exactly one message of a worker.
    """
    try:
        return _from_worker.decode(frame)
    except _UNDECODABLE as error:
        raise _protocol_error(frame, error) from None


def _protocol_error(frame: bytes | bytearray, error: Exception) -> ProtocolError:
    return ProtocolError(f"undecodable message of {len(frame)} bytes: {printable(str(error), _MAX_REASON_LENGTH)}")
