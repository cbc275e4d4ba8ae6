"""Commands that other distributions add to `offloop`."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest
from click.testing import CliRunner

from offloop.cli import app


def test_a_command_of_another_distribution_is_listed_and_one_that_is_broken_spoils_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = EntryPoint("broken", "no_such_module:command", "offloop.commands")

    def installed(group: str) -> list[EntryPoint]:
        return [broken] if group == "offloop.commands" else []

    monkeypatch.setattr(app, "entry_points", installed)
    command: Any = app.offloop
    listed = CliRunner().invoke(command, ["--help"])
    assert listed.exit_code == 0
    assert "(cannot be imported)" in listed.output
    assert "convert" in listed.output
    used = CliRunner().invoke(command, ["broken"])
    assert used.exit_code == 1
    assert "no_such_module" in used.output
    assert CliRunner().invoke(command, ["nothing"]).exit_code == 2
