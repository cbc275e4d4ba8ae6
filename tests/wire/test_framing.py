"""`FrameReader` splits a byte stream into frames, for pieces of any length."""

from __future__ import annotations

import pytest

from offloop.wire.codec import decode_from_supervisor, encode_frame
from offloop.wire.framing import HEADER_NBYTES, MAX_FROM_SUPERVISOR_NBYTES, MAX_FROM_WORKER_NBYTES, FrameReader, ProtocolError
from offloop.wire.messages import Retire


def framed(*payloads: bytes) -> bytes:
    return b"".join(len(payload).to_bytes(4, "little") + payload for payload in payloads)


def test_a_frame_is_four_bytes_of_length_little_endian_and_its_bytes() -> None:
    assert HEADER_NBYTES == 4
    assert FrameReader(100).feed(b"\x03\x00\x00\x00abc") == [b"abc"]


def test_several_frames_in_one_read_are_returned_in_order() -> None:
    assert FrameReader(100).feed(framed(b"one", b"", b"three")) == [b"one", b"", b"three"]


def test_every_split_into_two_pieces_gives_the_same_frames() -> None:
    stream = framed(b"one", b"", b"three")
    for cut in range(len(stream) + 1):
        reader = FrameReader(100)
        assert reader.feed(stream[:cut]) + reader.feed(stream[cut:]) == [b"one", b"", b"three"], cut
        assert not reader.pending


def test_one_byte_at_a_time_gives_the_same_frames() -> None:
    reader = FrameReader(100)
    frames = [frame for byte in framed(b"one", b"", b"three") for frame in reader.feed(bytes([byte]))]
    assert frames == [b"one", b"", b"three"]


def test_no_bytes_are_no_frames() -> None:
    assert FrameReader(100).feed(b"") == []


@pytest.mark.parametrize("part", [b"\x03", b"\x03\x00\x00\x00", b"\x03\x00\x00\x00ab"])
def test_pending_contains_the_bytes_of_an_incomplete_frame(part: bytes) -> None:
    reader = FrameReader(100)
    assert not reader.pending
    assert reader.feed(part) == []
    assert reader.pending


def test_a_frame_as_long_as_the_limit_is_accepted() -> None:
    assert FrameReader(5).feed(framed(b"12345")) == [b"12345"]


@pytest.mark.parametrize("announced", [6, 1 << 31, (1 << 32) - 1])
def test_a_frame_over_the_limit_is_refused_after_its_header(announced: int) -> None:
    with pytest.raises(ProtocolError, match="the limit is 5"):
        FrameReader(5).feed(announced.to_bytes(4, "little"))


def test_a_frame_over_the_limit_is_refused_after_valid_frames() -> None:
    reader = FrameReader(5)
    assert reader.feed(framed(b"good")) == [b"good"]
    with pytest.raises(ProtocolError):
        reader.feed(framed(b"too long"))


def test_returned_frames_are_not_kept() -> None:
    reader = FrameReader(1000)
    for _ in range(100):
        reader.feed(framed(b"x" * 900))
    assert not reader.pending


def test_a_frame_belongs_to_its_receiver() -> None:
    reader = FrameReader(100)
    (frame,) = reader.feed(framed(b"one") + b"\x03\x00")
    assert isinstance(frame, bytearray)
    frame[:] = b"two"
    assert reader.feed(b"\x00\x00abc") == [b"abc"]


def test_an_encoded_message_is_one_frame_for_the_reader() -> None:
    frame = bytes(encode_frame(Retire()))
    assert frame == framed(frame[HEADER_NBYTES:])
    (message,) = FrameReader(100).feed(frame)
    assert decode_from_supervisor(message) == Retire()


def test_the_limit_of_a_worker_is_below_that_of_the_supervisor() -> None:
    assert (MAX_FROM_WORKER_NBYTES, MAX_FROM_SUPERVISOR_NBYTES) == (1 << 16, 1 << 24)
