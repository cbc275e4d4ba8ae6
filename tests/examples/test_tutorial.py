"""The five steps of the tutorial: each file runs as it is printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from page_fragments import fragment

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "docs" / "photos" / "coffee.webp"


def python(folder: Path, *arguments: str) -> str:
    """The output of Python in that folder."""
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_step_1_makes_a_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "thumbnail.py").write_text(fragment("docs/tutorial/1-thumbnail.md", "async def main"))
    text = python(tmp_path, "thumbnail.py", str(PHOTO), "thumbnail.webp")
    assert text.startswith("thumbnail.webp: 320 x ")
    assert (tmp_path / "thumbnail.webp").read_bytes()[8:12] == b"WEBP"


def test_step_2_serves_thumbnails(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(fragment("docs/tutorial/2-service.md", "Starlette(routes"))
    (tmp_path / "client.py").write_text(
        "import sys\nfrom starlette.testclient import TestClient\nfrom service import app\n"
        "with TestClient(app) as client:\n"
        "    answer = client.post('/thumbnail', content=open(sys.argv[1], 'rb').read())\n"
        "    print(answer.status_code, answer.headers['content-type'], answer.content[8:12])\n"
    )
    assert python(tmp_path, "client.py", str(PHOTO)) == "200 image/webp b'WEBP'\n"


def test_step_4_makes_several_sizes(tmp_path: Path) -> None:
    (tmp_path / "sizes.py").write_text(fragment("docs/tutorial/4-sizes.md", "run_many"))
    lines = python(tmp_path, "sizes.py", str(PHOTO), ".").splitlines()
    assert {line.partition(" x ")[0] for line in lines} == {"card.webp: 640", "thumb.webp: 160", "mail.jpg: 320"}
    assert sorted(path.name for path in tmp_path.glob("*.[wj]*")) == ["card.webp", "mail.jpg", "thumb.webp"]


def test_steps_3_and_5_are_a_service_with_tests_that_pass(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(fragment("docs/tutorial/3-limits.md", "def make_app"))
    (tmp_path / "test_service.py").write_text(fragment("docs/tutorial/5-tests.md", "def status_of"))
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "-W", "error", "--rootdir", str(tmp_path)]
    assert "4 passed" in python(tmp_path, "-m", "pytest", *options)


@pytest.mark.parametrize("step", ["1-thumbnail", "2-service", "3-limits", "4-sizes", "5-tests"])
def test_the_overview_links_to_each_step(step: str) -> None:
    assert f"({step}.md)" in (ROOT / "docs" / "tutorial" / "README.md").read_text()
