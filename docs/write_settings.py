"""Write settings.md from the settings that the code has: python docs/write_settings.py"""

from __future__ import annotations

import re
from pathlib import Path

from offloop import Pool
from offloop.settings import setting_rows

PAGE = Path(__file__).with_name("settings.md")
_HEAD = """# All settings of a pool

This page is written by `python docs/write_settings.py` from the code. [operations.md](operations.md#first-settings) says
which to choose first. `Pool.from_env()` reads the variables with the prefix OFFLOOP_.

| setting of `Pool` | variable | type | default | effect |
| --- | --- | --- | --- | --- |
"""


def effects() -> dict[str, str]:
    """Return the text about each setting in the docstring of `Pool`."""
    text = (Pool.__doc__ or "").partition("Args:\n")[2].partition("Raises:")[0]
    entries = re.findall(r"^        (\w+(?:, \w+)*): (.*(?:\n            .*)*)", text, flags=re.MULTILINE)
    return {name: " ".join(effect.split()) for names, effect in entries for name in names.split(", ")}


def written() -> str:
    """Return the page for the settings of today."""
    lines: list[str] = []
    about = effects()
    for row in setting_rows():
        variable = "" if row.variable is None else f"OFFLOOP_{row.variable}"
        default = "none" if row.default in (None, ()) else f"{row.default!r}"
        lines.append(f"| `{row.name}` | {variable} | {row.type} | {default} | {about[row.name].replace('|', '/')} |\n")
    return _HEAD + "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(written())
