"""The page that a worker can be written from says what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from offloop.core.model.settings import FIRST_GRANT_NBYTES, MAX_NEEDS
from offloop.runtime.workers import channel, framed_socket, output_log
from offloop.wire import handles, messages
from offloop.wire.framing import MAX_FROM_SUPERVISOR_NBYTES, MAX_FROM_WORKER_NBYTES
from offloop.wire.status import STATUS_NBYTES, read_status, write_memory, write_progress, write_stage

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
SHAPES = re.findall(r"^    \[(.+)\]$", PAGE, re.MULTILINE)


def structs() -> list[Any]:
    """All that travels."""
    found = [value for module in (messages, handles) for value in vars(module).values()]
    all_of_them = {value for value in found if isinstance(value, type) and issubclass(value, msgspec.Struct)}
    return [value for value in all_of_them - {messages._Message} if value.__module__ in {messages.__name__, handles.__name__}]


def shape_of(struct: Any) -> str:
    tag = struct.__struct_config__.tag
    return ", ".join([*([f'"{tag}"'] if tag else []), *struct.__struct_fields__])


def section(title: str) -> str:
    return PAGE.partition(f"\n### {title}\n")[2].partition("\n##")[0]


def test_every_message_and_handle_is_on_the_page_with_its_tag_and_fields_and_nothing_else_is() -> None:
    assert sorted(SHAPES) == sorted(map(shape_of, structs()))
    assert len(SHAPES) >= 14


@pytest.mark.parametrize(
    ("title", "union"),
    [("Supervisor to worker", messages.FromSupervisor), ("Worker to supervisor", messages.FromWorker)],
)
def test_each_message_stands_under_its_direction(title: str, union: Any) -> None:
    assert [shape for shape in SHAPES if f"[{shape}]" in section(title)] == [shape_of(struct) for struct in union.__args__]


@pytest.mark.parametrize(
    ("row", "number"),
    [
        ("a frame to the worker", f"{MAX_FROM_SUPERVISOR_NBYTES:,} bytes"),
        ("a frame from the worker", f"{MAX_FROM_WORKER_NBYTES:,} bytes"),
        ("time for a frame that has begun", f"| {channel.STALL_LIMIT_S:g} s"),
        ("time for what the supervisor writes", f"| {channel.STALL_LIMIT_S:g} s"),
        ("bytes from the worker in one read", f"| {framed_socket.READ_NBYTES} |"),
        ("reads for one frame", f"| {framed_socket._MAX_PIECES:,} |"),
        ("`need` in one task", f"| {MAX_NEEDS:,} |"),
    ],
)
def test_the_table_of_limits_has_the_codes_numbers(row: str, number: str) -> None:
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {row}")]
    assert number in line


def test_other_numbers_of_the_page_are_the_codes() -> None:
    assert f"a handle of {FIRST_GRANT_NBYTES:,} bytes to begin with" in PAGE
    assert f"at most {output_log._LINES_PER_SECOND} a second of at most {output_log._LINE_NBYTES:,} bytes" in PAGE
    assert f"last {output_log._TAIL_NBYTES:,} bytes go into the report" in PAGE
    assert f"pauses for {output_log._PAUSE_S * 1000:g} ms" in PAGE
    assert output_log._BURST_NBYTES == 1024 * 1024
    assert f"`shape`: 1 to {handles.MAX_DIMENSIONS} integers" in PAGE
    assert handles._MAX_SIDES_NBYTES == 1 << 62
    assert f"The first {STATUS_NBYTES:,} bytes of the outbox" in PAGE


def test_the_status_block_has_the_layout_of_the_page() -> None:
    page = bytearray(STATUS_NBYTES)
    write_stage(memoryview(page), 0x1122334455667788, 0x99AABBCC)
    write_progress(memoryview(page), 0.5)
    write_memory(memoryview(page), 77)
    assert page[:8] == (0x1122334455667788).to_bytes(8, "little")
    assert page[8:12] == (0x99AABBCC).to_bytes(4, "little")
    assert page[16:24] == bytes.fromhex("000000000000e03f")
    assert page[24:32] == (77).to_bytes(8, "little")
    assert read_status(bytes(page)).progress == 0.5
    assert re.findall(r"^\| (\d+) \| (\w+) \|", PAGE, re.MULTILINE) == [
        ("0", "u64"),
        ("8", "u32"),
        ("16", "f64"),
        ("24", "u64"),
    ]


def test_the_design_page_leads_here() -> None:
    assert "(protocol.md)" in (Path(__file__).parents[2] / "docs" / "design.md").read_text()
