"""Every message is decoded as it was encoded, and no other bytes are decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest

from offloop.wire.codec import decode_from_supervisor, decode_from_worker, encode_frame
from offloop.wire.framing import HEADER_NBYTES, FrameReader, ProtocolError
from offloop.wire.handles import INBOX, OUTBOX, EncodedAt, Handle, RasterAt, WrittenTo
from offloop.wire.messages import (
    Cancel,
    Configure,
    Credit,
    Done,
    Failed,
    File,
    FromSupervisor,
    FromWorker,
    Grant,
    Loading,
    Need,
    NeedFile,
    Output,
    OutputFailed,
    PluginSource,
    Ready,
    Retire,
    Run,
    Skipped,
    Stage,
)

BLOCK = Handle(OUTBOX, 4096, 12, 7)
SOURCE = Handle(INBOX, 0, 12, 3)
STAGES = [Stage("vips", msgspec.Raw(msgspec.msgpack.encode([["Resize", 1, 2]]))), Stage("faces", msgspec.Raw(b"\x90"))]

DOWN: list[FromSupervisor] = [
    Configure(3, 1 << 40, 1 << 41, {"vips": PluginSource("offloop_vips:VipsPlugin", "a:B", b"\x80")}, 7, 1 << 42, 20),
    Run(1, (EncodedAt(None),), [], None),
    Run(1, (EncodedAt(SOURCE),), STAGES, BLOCK),
    Run(1, (RasterAt(SOURCE, (2, 2, 3), "|u1"),), STAGES, None, True),
    Grant(1, BLOCK),
    Grant(1, None),
    Credit(1, 7, [Handle(OUTBOX, 4096, 5000, 9)]),
    File(1, opened=True),
    Cancel((1 << 63) - 1),
    Retire(),
]
UP: list[FromWorker] = [
    Loading(4242),
    Ready(4242),
    Need(1, 1 << 50),
    NeedFile(1),
    Output(1, "frame", EncodedAt(BLOCK), {"index": 3}, 5, 9),
    Output(1, "", RasterAt(BLOCK, (2, 2, 3), "|u1"), {}, 5, 9),
    Done(1, EncodedAt(BLOCK), {"width": 3, "tags": ["a", None, 1.5], "deep": {"b": True}}, 5, 9),
    Done(1, EncodedAt(None), {}, 0, 0),
    OutputFailed(1, "card", "refused", "because", None),
    Done(1, None, {}, 0, 0),
    Done(1, RasterAt(BLOCK, (2, 2, 3), "|u1"), {}, 0, 0),
    Done(1, WrittenTo(99), {}, 0, 0),
    Failed(1, "refused", "because", "Traceback\n  ü", 5, 9),
    Failed(1, "", "", None, 5, 9),
    Skipped(1, 17),
]

Decode = Callable[[bytes], Any]


def payload_of(message: FromSupervisor | FromWorker) -> bytes:
    (frame,) = FrameReader(1 << 24).feed(bytes(encode_frame(message)))
    return bytes(frame)


def named(message: object) -> str:
    return type(message).__name__


@pytest.mark.parametrize("message", DOWN, ids=named)
def test_a_message_of_the_supervisor_is_decoded_unchanged(message: FromSupervisor) -> None:
    assert decode_from_supervisor(payload_of(message)) == message


@pytest.mark.parametrize("message", UP, ids=named)
def test_a_message_of_a_worker_is_decoded_unchanged(message: FromWorker) -> None:
    assert decode_from_worker(payload_of(message)) == message


def test_a_frame_starts_with_its_length() -> None:
    frame = encode_frame(Ready(1))
    assert int.from_bytes(frame[:HEADER_NBYTES], "little") == len(frame) - HEADER_NBYTES


def test_the_examples_contain_every_message() -> None:
    assert {type(message) for message in DOWN} == set(get_args(FromSupervisor))
    assert {type(message) for message in UP} == set(get_args(FromWorker))


def test_operations_of_a_decoded_message_are_still_encoded() -> None:
    run = decode_from_supervisor(payload_of(DOWN[2]))
    assert isinstance(run, Run)
    assert msgspec.msgpack.decode(run.stages[0].operations) == [["Resize", 1, 2]]


@pytest.mark.parametrize("message", DOWN, ids=named)
def test_a_worker_cannot_send_a_message_of_the_supervisor(message: FromSupervisor) -> None:
    with pytest.raises(ProtocolError):
        decode_from_worker(payload_of(message))


@pytest.mark.parametrize("message", UP, ids=named)
def test_the_supervisor_cannot_send_a_message_of_a_worker(message: FromWorker) -> None:
    with pytest.raises(ProtocolError):
        decode_from_supervisor(payload_of(message))


ALL: list[tuple[Decode, FromSupervisor | FromWorker]] = [
    *((decode_from_supervisor, message) for message in DOWN),
    *((decode_from_worker, message) for message in UP),
]
each_message = pytest.mark.parametrize(("decode", "message"), ALL, ids=named)


@each_message
def test_an_extra_field_is_refused(decode: Decode, message: FromSupervisor | FromWorker) -> None:
    fields = msgspec.msgpack.decode(payload_of(message))
    with pytest.raises(ProtocolError):
        decode(msgspec.msgpack.encode([*fields, 1]) if len(fields) < 7 else msgspec.msgpack.encode([*fields, 1, 1, 1]))


@each_message
def test_bytes_after_the_message_are_refused(decode: Decode, message: FromSupervisor | FromWorker) -> None:
    with pytest.raises(ProtocolError):
        decode(payload_of(message) + b"\x00")


@each_message
def test_a_truncated_message_is_refused(decode: Decode, message: FromSupervisor | FromWorker) -> None:
    payload = payload_of(message)
    for end in range(len(payload)):
        with pytest.raises(ProtocolError):
            decode(payload[:end])


@each_message
def test_a_message_with_a_changed_byte_is_another_message_or_refused(
    decode: Decode, message: FromSupervisor | FromWorker
) -> None:
    payload = payload_of(message)
    for position in range(len(payload)):
        for value in (0x00, 0x7F, 0x80, 0x90, 0xA1, 0xC0, 0xC1, 0xC7, 0xD9, 0xDD, 0xDF, 0xFF):
            changed = bytearray(payload)
            changed[position] = value
            try:
                decode(bytes(changed))
            except ProtocolError:
                continue


WRONG: list[Any] = [
    None,
    [],
    {},
    1,
    "ready",
    ["ready"],
    ["unknown", 1],
    [1, 1],
    [None, 1],
    ["ready", "1"],
    ["ready", 1.0],
    ["ready", True],
    ["ready", None],
    {"type": "ready", "pid": 1},
    ["need", 1],
    ["need", 1, None],
    ["need", 1, 1 << 64 - 1, 1],
    ["done", 1, 5, {}, 1, 2],
    ["done", 1, ["x", None], {}, 1, 2],
    ["done", 1, ["e", [1, 2, 3]], {}, 1, 2],
    ["done", 1, ["e", [1, 2, 3, "4"]], {}, 1, 2],
    ["done", 1, ["e", None], {1: 2}, 1, 2],
    ["done", 1, ["e", None], [], 1, 2],
    ["done", 1, ["e", None], {}, 1.5, 2],
    ["done", 1, ["r", [1, 4096, 12, 7], [2, 2], "|u1"], {}, 1, 2],
    ["done", 1, ["r", [1, 4096, 12, 7], [2, 2, 4], "|u1"], {}, 1, 2],
    ["done", 1, ["r", [1, 4096, 12, 7], [2, 2, 3], "|O8"], {}, 1, 2],
    ["done", 1, ["r", [1, 4096, 12, 7], [-2, -2, 3], "|u1"], {}, 1, 2],
    ["done", 1, ["r", None, [1, 1, 1], "|u1"], {}, 1, 2],
    ["done", 1, ["w", None], {}, 1, 2],
    ["failed", 1, "code", "text", 5, 1, 2],
    ["failed", 1, b"code", "text", None, 1, 2],
]


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_a_worker_that_sends_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(ProtocolError):
        decode_from_worker(msgspec.msgpack.encode(value))


@pytest.mark.parametrize(
    "output",
    [["e", [1, 4096, 12, 7, 99]], ["e", None, 1], ["r", [1, 4096, 12, 7], [2, 2, 3], "|u1", 1], ["w", 5, 5]],
    ids=repr,
)
def test_an_extra_field_inside_a_message_is_refused(output: Any) -> None:
    with pytest.raises(ProtocolError):
        decode_from_worker(msgspec.msgpack.encode(["done", 1, output, {}, 1, 2]))


def test_a_file_with_a_negative_length_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode_from_worker(msgspec.msgpack.encode(["done", 1, ["w", -5], {}, 1, 2]))


def done_with(info: bytes) -> bytes:
    """Returns an encoded `Done` with these bytes as its info."""
    pack = msgspec.msgpack.encode
    return b"\x96" + pack("done") + pack(1) + pack(["e", None]) + info + pack(1) + pack(2)


@pytest.mark.parametrize(
    "info",
    [
        pytest.param(b"\x81\xa1a" + b"\x91" * 100_000 + b"\x01", id="nested too deep"),
        pytest.param(b"\x81\xa1a" + b"\x81\xa1a" * 100_000 + b"\x01", id="maps nested too deep"),
        pytest.param(b"\x81\xa1a\x81\x80\x01", id="a map for a key"),
        pytest.param(b"\x81\xa1a\x81\x91\x80\x01", id="a list of maps for a key"),
        pytest.param(b"\x81\xa1\xff\x01", id="a key that is no text"),
        pytest.param(b"\x81\xa1a\xa1\xff", id="text that is no text"),
        pytest.param(b"\x81\xa1a\xc1", id="a byte that means nothing"),
        pytest.param(b"\x81\xa1a\xd4\x05\x01", id="an extension type"),
        pytest.param(b"\x81\xa1a\xc4\x01y", id="bytes"),
        pytest.param(b"\x81\xa1a\x91\x91\x01", id="a list in a list"),
        pytest.param(b"\x81\xa1a\x81\x91\x01\x01", id="a list for a key"),
        pytest.param(b"\x81\xa1a\xd6\xff\x00\x00\x00\x00", id="a time"),
        pytest.param(b"\x81\xa1a\xdd\xff\xff\xff\xff", id="a list of four thousand million"),
        pytest.param(b"\x81\xa1a\xdf\xff\xff\xff\xff", id="a map of four thousand million"),
        pytest.param(b"\x81\xa1a\xc6\xff\xff\xff\xff", id="four gigabytes"),
        pytest.param(b"\x81\xa1a\xc7\x0c\xff" + b"\xff" * 12, id="a time that never was"),
        pytest.param(b"\x81\xa1a\xd7\xff" + b"\xff" * 8, id="a nanosecond that never was"),
    ],
)
def test_invalid_info_raises_protocol_error_and_no_other_error(info: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_from_worker(done_with(info))


def test_operations_that_are_nested_too_deeply_raise_protocol_error() -> None:
    pack = msgspec.msgpack.encode
    stage = b"\x92" + pack("vips") + b"\x91" * 1_000_000 + b"\x01"
    run = b"\x97" + pack("run") + pack(1) + pack([["e", None]]) + b"\x91" + stage + b"\xc0\xc0\xc0"
    with pytest.raises(ProtocolError, match=r"recursion|Stack overflow"):
        decode_from_supervisor(run)


@pytest.mark.parametrize("info", [{}, {"a": [1, 2.5, None, True, "x"], "b": {"c": -1, "d": None}, "e": 1 << 63}], ids=repr)
def test_info_is_plain_values_and_flat_collections_of_them(info: dict[str, Any]) -> None:
    message = decode_from_worker(done_with(msgspec.msgpack.encode(info)))
    assert isinstance(message, Done)
    assert message.info == info


def test_the_error_contains_the_length_of_the_message() -> None:
    with pytest.raises(ProtocolError, match="undecodable message of 3 bytes"):
        decode_from_worker(b"\xc1\xc1\xc1")


@pytest.mark.parametrize(
    "payload",
    [["\x1b[31m" * 10_000], ["done", 1, ["r", None, [1, 1, 1], "\x1b" * 50_000], {}, 0, 0]],
    ids=["tag", "dtype"],
)
def test_the_decoders_error_is_quoted_up_to_a_limit_and_printable(payload: list[object]) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_from_worker(msgspec.msgpack.encode(payload))
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()
