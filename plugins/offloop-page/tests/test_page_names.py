"""Names from clients become safe and unique."""

from __future__ import annotations

import pytest

from offloop_page.batches.names import clean_name, result_name, unique_name


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("photo.jpg", "photo.jpg"),
        ("holiday/photo.jpg", "holiday/photo.jpg"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("..\\..\\windows\\x.png", "windows/x.png"),
        ("C:\\x.png", "C_/x.png"),
        ("a/./b/../c.png", "a/b/c.png"),
        ("", "file"),
        ("...", "file"),
        ("..", "file"),
        ("/", "file"),
        ("a\x00b\n\r.png", "ab.png"),
        ("a\u202egpj.exe", "agpj.exe"),  # text direction that shows another suffix
        ("a\ud800.png", "a?.png".replace("?", "_")),
        ("name.png. .", "name.png"),
        ("CON.jpg", "_CON.jpg"),
        ("lpt1", "_lpt1"),
        ("console.jpg", "console.jpg"),
        ('a<b>:"|?*.png', "a_b______.png"),
        ("Ame\u0301lie 👩‍👩‍👧.png", "Am\u00e9lie 👩‍👩‍👧.png"),
        (".hidden", ".hidden"),
    ],
)
def test_a_name_is_a_safe_relative_path(given: str, expected: str) -> None:
    assert clean_name(given) == expected


def test_a_long_name_keeps_its_suffix_and_whole_characters() -> None:
    cleaned = clean_name("ü" * 300 + ".jpeg")
    assert cleaned.endswith("ü.jpeg")
    assert 110 < len(cleaned.encode()) <= 120
    assert len(clean_name("x" * 300).encode()) == 120


def test_deep_folders_keep_the_last_parts() -> None:
    assert clean_name("/".join(str(number) for number in range(20))) == "12/13/14/15/16/17/18/19"


def test_a_second_file_of_one_name_gets_a_number_also_if_only_the_case_differs() -> None:
    taken = {"a/photo.jpg", "a/photo (2).jpg", "plain"}
    assert unique_name("a/Photo.jpg", taken) == "a/Photo (3).jpg"
    assert unique_name("Plain", taken) == "Plain (2)"
    assert unique_name("b/photo.jpg", taken) == "b/photo.jpg"


def test_a_result_has_the_suffix_of_its_format_and_its_width() -> None:
    assert result_name("a/photo.jpeg", ".webp", None) == "a/photo.webp"
    assert result_name("a.b/photo", ".webp", 320) == "a.b/photo-320w.webp"
    assert result_name("version 1.0 final", ".png", None) == "version 1.0 final.png"
    assert result_name(".hidden", ".png", None) == ".hidden.png"
