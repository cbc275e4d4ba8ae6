"""What is tracked: nothing of one machine, nothing of one registry, and one word for a CPU."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = {"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock", "package-lock.json", "yarn.lock", "pnpm-lock.yaml", "bun.lockb"}

MACHINE = re.compile(r"(?<![\w./~-])/(?:home|Users|root|work|mnt|media)/[\w.-]+")
REGISTRY = re.compile(r"https?://\S*(?:/simple\b|pythonhosted|artifactory|/nexus/|devpi)|--(?:extra-)?index-url")
CPU = re.compile(
    r"\bprocessors?'?s? time\b|\b(?:one|two|busy|idle) processors?\b|(?:\b|\d )m?s(?:econds?)? of a processor\b", re.IGNORECASE
)


@cache
def tracked() -> tuple[str, ...]:
    """Tracked files and those that would be tracked."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("this is no git repository")
    return tuple(name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file())


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    """Every line of a tracked text file in which it occurs."""
    found: list[str] = []
    for name in tracked():
        try:
            lines = (ROOT / name).read_text().splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{name}:{number}: {line.strip()}" for number, line in enumerate(lines, 1) if pattern.search(line)]
    return found


def test_there_is_something_to_look_at() -> None:
    assert "pyproject.toml" in tracked()
    assert "src/offloop/core/memory/arena.py" in tracked()


def test_no_lock_file_is_tracked() -> None:
    assert [name for name in tracked() if Path(name).name in LOCKS] == []


def test_no_path_of_one_machine_is_tracked() -> None:
    assert lines_with(MACHINE) == []


def test_no_address_of_a_registry_is_tracked() -> None:
    assert lines_with(REGISTRY) == []


def test_no_cpu_is_called_a_processor() -> None:
    assert lines_with(CPU) == []


def test_test_files_have_names_of_their_own() -> None:
    names = [Path(name).name for name in tracked() if Path(name).name.startswith("test_") and name.endswith(".py")]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    "text",
    ["see /" + "home/me/project", "/" + "Users/me", '"/' + 'root/x"', "cd /" + "work/main"],
)
def test_a_path_of_one_machine_is_found(text: str) -> None:
    assert MACHINE.search(text)


@pytest.mark.parametrize(
    "text", ["docs/home/page", "https://example.org/root/page", "/dev/shm/x", "/tmp/out", "a/work/b", "/proc/self", "/roots/x"]
)
def test_other_paths_are_not(text: str) -> None:
    assert not MACHINE.search(text)


@pytest.mark.parametrize(
    "text", ["https://pypi.example/" + "simple", "http://host/" + "artifactory/x", "https://files." + "pythonhosted.org/a"]
)
def test_an_address_of_a_registry_is_found(text: str) -> None:
    assert REGISTRY.search(text)


def test_a_link_to_a_project_is_no_such_address() -> None:
    assert not REGISTRY.search("https://pypi.org/project/offloop/")


@pytest.mark.parametrize(
    "text", ["5 ms of a " + "processor", "Processor" + " time", "the processors'" + " time", "on one " + "processor"]
)
def test_a_cpu_that_is_called_a_processor_is_found(text: str) -> None:
    assert CPU.search(text)


@pytest.mark.parametrize(
    "text", ["the result of a processor", "a processor times out", "for one processor_id", "errors of a processor"]
)
def test_a_processor_of_a_plugin_is_not(text: str) -> None:
    assert not CPU.search(text)
