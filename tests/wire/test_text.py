"""Escaping of a worker's text for terminals and log files."""

from __future__ import annotations

import pytest

from offloop.wire.text import printable


@pytest.mark.parametrize("text", ["", "plain", "two\nlines", "café € \N{SNOWMAN}", "C:\\path", 'it\'s "so"'])
def test_printable_text_is_unchanged(text: str) -> None:
    assert printable(text, 100) == text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\tb\r\nc", "a\\tb\\r\nc"),
        ("\udcff", "\\udcff"),
        ("é\u202eright to left\u2028\n\x00", "é\\u202eright to left\\u2028\n\\x00"),
    ],
)
def test_control_sequences_of_terminals_are_escaped(text: str, safe: str) -> None:
    assert printable(text, 100) == safe


@pytest.mark.parametrize("character", [chr(code) for code in [*range(0x100), 0x2028, 0x202E, 0xFEFF, 0xD800, 0xE000, 0x10FFFF]])
def test_any_character_becomes_printable_text(character: str) -> None:
    assert printable(f"a{character}b'\"", 100).replace("\n", "").isprintable()


def test_long_text_is_cut_and_marked() -> None:
    assert printable("x" * 11, 10) == "x" * 10 + " [cut]"
    assert printable("x" * 10, 10) == "x" * 10
