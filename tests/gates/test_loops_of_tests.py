"""A test runs on every loop if it is marked, else on one loop; the mark is used by tests that have several loops."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARKED, UNMARKED = "tests/process/test_turns.py", "tests/process/test_preflight.py"
ALL = {"asyncio", "uvloop", "trio"}


def loops_of_tests(*options: str) -> dict[str, dict[str, set[str]]]:
    """The loops of each test with several, by module."""
    command = [sys.executable, "-m", "pytest", "-o", "addopts=--import-mode=importlib", "--collect-only", "-q", *options]
    output = subprocess.run([*command, MARKED, UNMARKED], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found: dict[str, defaultdict[str, set[str]]] = {MARKED: defaultdict(set), UNMARKED: defaultdict(set)}
    for module, name, parameters in re.findall(r"^(.*)::(.*)\[(.*)\]$", output, re.MULTILINE):
        words = set(parameters.split("-"))
        if words & ALL:
            found[module][f"{name}[{sorted(words - ALL)}]"] |= words & ALL
    return {module: dict(tests) for module, tests in found.items()}


def test_marked_tests_are_on_every_loop_and_the_others_on_one() -> None:
    loops = loops_of_tests()
    assert set(map(frozenset, loops[MARKED].values())) == {frozenset(ALL)}
    single = loops[UNMARKED].values()
    assert {len(names) for names in single} == {1}
    assert set[str]().union(*single) == ALL, "a module sees more than one loop"


def test_one_loop_for_each_test_can_be_asked_for() -> None:
    loops = loops_of_tests("--loops", "one")
    assert {len(names) for tests in loops.values() for names in tests.values()} == {1}
