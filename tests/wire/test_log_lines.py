"""Log records in a worker's output: markers and levels of lines."""

from __future__ import annotations

import logging

import pytest

from offloop.wire.log_lines import log_lines, split_levels, without_markers


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, 25, logging.WARNING, logging.ERROR, logging.CRITICAL])
def test_each_line_of_a_record_has_the_level_of_the_record(level: int) -> None:
    lines = log_lines(level, "first\nsecond \u20ac").split(b"\n")
    assert lines.pop() == b""
    assert [split_levels(line) for line in lines] == [[(level, b"first")], [(level, "second \u20ac".encode())]]


@pytest.mark.parametrize(("level", "sent"), [(-5, 1), (0, 1), (51, 50), (10_000, 50)])
def test_a_level_out_of_range_is_limited(level: int, sent: int) -> None:
    assert split_levels(log_lines(level, "text").rstrip(b"\n")) == [(sent, b"text")]


@pytest.mark.parametrize(
    ("line", "pieces"),
    [
        (b"plain", [(20, b"plain")]),
        (b"", []),
        (b"\x1e30 ", []),
        (b"unfinished\x1e40 record", [(20, b"unfinished"), (40, b"record")]),
        (b"\x1e40 one\x1e10 two", [(40, b"one"), (10, b"two")]),
        (b"\x1e99 forged", [(50, b"forged")]),
        (b"\x1e00 forged", [(1, b"forged")]),
        (b"\x1e3 \x1e30", [(20, b"\x1e3 \x1e30")]),
    ],
)
def test_a_line_is_split_into_pieces_with_levels(line: bytes, pieces: list[tuple[int, bytes]]) -> None:
    assert split_levels(line) == pieces


def test_each_marker_is_replaced_by_the_name_of_its_level() -> None:
    output = b"plain\n" + log_lines(30, "careful") + log_lines(25, "odd")
    assert without_markers(output) == b"plain\nWARNING careful\nodd\n"


def test_text_that_cannot_be_encoded_is_escaped() -> None:
    assert log_lines(20, "\udcff") == b"\x1e20 \\udcff\n"
