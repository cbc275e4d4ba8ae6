"""The live page in a real browser: a worker draws frames that a worker of the server has made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .conftest import ROOT, faults_of

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="session")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("music") / "song.wav"
    subprocess.run([sys.executable, ROOT / "docs/examples/visualizer/demo_song.py", path], check=True, capture_output=True)
    return path


def test_frames_are_shown_while_the_music_plays_and_can_be_exported(page: Page, song: Path) -> None:
    page.get_by_role("link", name="Live").click()
    page.locator("#track").set_input_files(song)
    expect(page.locator("#connection-text")).to_have_text("Ready to play")
    assert faults_of(page) == ""
    page.locator("#size").select_option("640x360")
    page.locator("#sound").evaluate("sound => sound.play()")
    expect(page.locator("#shown")).not_to_have_text("0")
    expect(page.locator("#beats")).to_contain_text("(126 a minute)")
    expect(page.locator("#shown-fps")).not_to_have_text("0")
    assert page.locator("#sound").evaluate("sound => !sound.paused")
    page.locator("#sound").evaluate("sound => sound.pause()")
    expect(page.locator("#connection-text")).to_have_text("Ready to play")
    page.locator("#fps").select_option("15")
    page.get_by_role("button", name="Make a video").click()
    expect(page.locator("#export-bar")).not_to_have_js_property("value", 0)
    page.get_by_role("button", name="Cancel the video").click()
    expect(page.locator("#export-text")).to_have_text("Cancelled.")
