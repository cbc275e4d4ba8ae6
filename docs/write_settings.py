"""Write settings.md from the settings that the code has: python docs/write_settings.py"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from offloop import Pool
from offloop.settings import PoolSettings, setting_rows

PAGE = Path(__file__).with_name("settings.md")
_HEAD = """# All settings of a pool

This page is written by `python docs/write_settings.py` from the code. [operations.md](operations.md#first-settings) says
which to choose first. `Pool.from_env()` reads the variables with the prefix OFFLOOP_. A value outside of its range is a
`ValueError`, one of another type a `TypeError`; both name the setting, the value and the range. Sizes are in bytes, times in
seconds.

| setting of `Pool` | variable | type | range | default | effect |
| --- | --- | --- | --- | --- | --- |
"""
_RANGE = re.compile(r"must be (from [\d,.]+ to [\d,.]+|at least [\d,.]+)")


def effects() -> dict[str, str]:
    """Return the text about each setting in the docstring of `Pool`."""
    text = (Pool.__doc__ or "").partition("Args:\n")[2].partition("Raises:")[0]
    entries = re.findall(r"^        (\w+(?:, \w+)*): (.*(?:\n            .*)*)", text, flags=re.MULTILINE)
    return {name: " ".join(effect.split()) for names, effect in entries for name in names.split(", ")}


def range_of(name: str) -> str:
    """Return the range of a number, from the error that a lower one causes; empty: the setting is no number."""
    given: dict[str, Any] = {name: {"tenant": -1} if name == "tenant_weights" else -1}
    try:
        PoolSettings(**given)
    except (TypeError, ValueError) as error:
        if found := _RANGE.search(str(error)):
            return re.sub(r"\.0\b", "", found[1].rstrip(",."))
    return ""


def written() -> str:
    """Return the page for the settings of today."""
    lines: list[str] = []
    about = effects()
    for row in setting_rows():
        variable = "" if row.variable is None else f"OFFLOOP_{row.variable}"
        default = "none" if row.default in (None, ()) else f"{row.default!r}"
        cells = (f"`{row.name}`", variable, row.type, range_of(row.name), default, about[row.name].replace("|", "/"))
        lines.append(f"| {' | '.join(cells)} |\n")
    return _HEAD + "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(written())
