"""A worker's text made safe to print."""

from __future__ import annotations

import pytest

from offloop.wire.text import printable


@pytest.mark.parametrize("text", ["", "plain", "two\nlines", "café € \N{SNOWMAN}", "C:\\path", 'it\'s "so"'])
def test_text_that_can_be_printed_stays_as_it_is(text: str) -> None:
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
def test_what_a_terminal_would_obey_is_escaped(text: str, safe: str) -> None:
    assert printable(text, 100) == safe


@pytest.mark.parametrize("character", [chr(code) for code in [*range(0x100), 0x2028, 0x202E, 0xFEFF, 0xD800, 0xE000, 0x10FFFF]])
def test_whatever_character_it_is_the_outcome_is_printable(character: str) -> None:
    assert printable(f"a{character}b'\"", 100).replace("\n", "").isprintable()


def test_long_text_is_cut_and_says_so() -> None:
    assert printable("x" * 11, 10) == "x" * 10 + " [cut]"
    assert printable("x" * 10, 10) == "x" * 10
