"""Framing: messages in any split give the same frames; garbage gives frames or a ProtocolError, in bounded memory."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from offloop.wire.codec import decode_from_worker, encode_frame
from offloop.wire.framing import HEADER_NBYTES, FrameReader, ProtocolError
from offloop.wire.messages import Done, Failed, Need, Ready

CAP = 64

each_fixed = settings(max_examples=150, deadline=None, print_blob=True)


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    """Return the stream in pieces, cut at these offsets."""
    places = sorted({0, len(stream), *(place % (len(stream) + 1) for place in cuts)})
    return [stream[start:end] for start, end in pairwise(places)]


@each_fixed
@given(payloads=st.lists(st.binary(max_size=CAP), max_size=12), cuts=st.lists(st.integers(0, 2000), max_size=30))
def test_any_split_gives_the_same_frames(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(len(payload).to_bytes(HEADER_NBYTES, "little") + payload for payload in payloads)
    reader = FrameReader(CAP)
    frames: list[bytes] = []
    for piece in cut(stream, cuts):
        frames += map(bytes, reader.feed(piece))
        assert len(reader.pending) < CAP + HEADER_NBYTES
    assert frames == payloads
    assert not reader.pending


@each_fixed
@given(pieces=st.lists(st.binary(max_size=40), max_size=40))
def test_any_garbage_is_frames_within_the_limit_or_a_protocol_error(pieces: list[bytes]) -> None:
    reader = FrameReader(CAP)
    received = returned = 0
    try:
        for piece in pieces:
            received += len(piece)
            frames = reader.feed(piece)
            assert all(len(frame) <= CAP for frame in frames)
            returned += sum(HEADER_NBYTES + len(frame) for frame in frames)
            assert len(reader.pending) < CAP + HEADER_NBYTES
            assert len(reader.pending) == received - returned, "no byte is lost or added"
    except ProtocolError:
        return


numbers = st.integers(0, (1 << 63) - 1)
messages = st.one_of(
    st.builds(Ready, numbers),
    st.builds(Need, numbers, numbers),
    st.builds(Failed, numbers, st.text(), st.text(), st.none() | st.text(), numbers, numbers),
)


@each_fixed
@given(sent=st.lists(messages, max_size=8), cuts=st.lists(st.integers(0, 2000), max_size=20))
def test_any_messages_arrive_in_any_split(sent: list[Ready | Need | Failed], cuts: list[int]) -> None:
    reader = FrameReader(1 << 20)
    stream = b"".join(map(bytes, map(encode_frame, sent)))
    assert [decode_from_worker(frame) for piece in cut(stream, cuts) for frame in reader.feed(piece)] == sent


@settings(each_fixed, max_examples=400)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_protocol_error(garbage: bytes) -> None:
    try:
        message = decode_from_worker(garbage)
    except ProtocolError:
        return
    assert isinstance(message, Ready | Need | Done | Failed)


@settings(each_fixed, max_examples=300)
@given(info=st.binary(min_size=1, max_size=60))
def test_any_bytes_in_place_of_an_info_are_a_message_or_a_protocol_error(info: bytes) -> None:
    try:
        message = decode_from_worker(b"\x96\xa4done\x01\x92\xa1e\xc0" + info + b"\x01\x02")
    except ProtocolError:
        return
    assert isinstance(message, Done)
