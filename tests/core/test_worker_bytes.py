"""No bytes that a worker could send end the server, upset its tables, or keep it busy."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from offloop.wire.codec import encode_frame
from offloop.wire.framing import HEADER, MAX_FROM_WORKER_NBYTES

from .worker_bytes import CORPUS, ServerSide

FRAMES = [bytes(encode_frame(message)) for message in CORPUS]

changes = st.tuples(
    st.sampled_from(["flip", "cut", "insert", "repeat"]), st.integers(0, 1 << 16), st.binary(min_size=1, max_size=9)
)


def changed(stream: bytes, change: tuple[str, int, bytes]) -> bytes:
    """The stream after one change at a place."""
    kind, place, data = change
    place %= len(stream) + 1
    match kind:
        case "flip":
            return (
                stream[:place] + bytes(a ^ b for a, b in zip(stream[place:], data, strict=False)) + stream[place + len(data) :]
            )
        case "cut":
            return stream[:place] + stream[place + len(data) :]
        case "insert":
            return stream[:place] + data + stream[place:]
        case _:
            return stream + stream[place:]


def reframed(payload: bytes) -> bytes:
    return HEADER.pack(len(payload)) + payload


@settings(max_examples=400, deadline=None, print_blob=True)
@given(st.lists(st.sampled_from(FRAMES), min_size=1, max_size=6), st.lists(changes, max_size=6), st.booleans(), st.booleans())
def test_changed_messages_are_refused_or_handled(
    frames: list[bytes], edits: list[tuple[str, int, bytes]], reframe: bool, is_ready: bool
) -> None:
    if reframe:  # the changes are inside frames of the right length
        frames = [frame[HEADER.size :] for frame in frames]
        for edit in edits:
            frames[edit[1] % len(frames)] = changed(frames[edit[1] % len(frames)], edit)[:MAX_FROM_WORKER_NBYTES]
        stream = b"".join(map(reframed, frames))
    else:
        stream = b"".join(frames)
        for edit in edits:
            stream = changed(stream, edit)
    half = len(stream) // 2
    ServerSide(is_ready=is_ready).receive([stream[:half], stream[half:]])


@settings(max_examples=60, deadline=None, print_blob=True)
@given(st.sampled_from([0x90, 0x80, 0xA0, 0xC0, 0x01, 0xD9, 0xDD, 0xDF, 0x9F, 0x81]), st.binary(max_size=30))
def test_the_largest_frame_of_any_byte_is_refused_soon(byte: int, start: bytes) -> None:
    payload = (start + bytes([byte]) * MAX_FROM_WORKER_NBYTES)[:MAX_FROM_WORKER_NBYTES]
    assert not ServerSide().receive([reframed(payload)])


def test_a_frame_that_is_announced_too_large_costs_no_memory() -> None:
    for nbytes in (MAX_FROM_WORKER_NBYTES + 1, 1 << 31, (1 << 32) - 1):
        assert not ServerSide().receive([HEADER.pack(nbytes) + b"x" * 100])


def test_unchanged_messages_reach_the_core() -> None:
    assert ServerSide(is_ready=False).receive([FRAMES[0]])
    assert ServerSide().receive([FRAMES[2]])
    assert not ServerSide().receive([FRAMES[6]]), "its handle was never granted"
    assert ServerSide().receive([FRAMES[8]])
