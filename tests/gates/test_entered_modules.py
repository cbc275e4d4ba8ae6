"""One run of a picture enters few modules of the server, so that a reader can follow it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from offloop.core import pool_state

MAX_MODULES = 50  # that one run of a picture enters; a change that adds one must be worth it
SCRIPT = Path(__file__).parents[1] / "process" / "entered_modules.py"


@pytest.mark.skipif(not pool_state.__file__.endswith(".py"), reason="compiled functions are not profiled")
def test_one_run_of_a_picture_enters_few_modules() -> None:
    entered = set[str]()
    for attempt in range(3):  # a busy machine enters further modules, but not the same ones each time
        # a process of its own, because loggers and plugins that other tests leave enter further modules
        printed = subprocess.run([sys.executable, str(SCRIPT)], check=True, capture_output=True, text=True).stdout
        found = {line.split()[1] for line in printed.splitlines()[:-1]}
        entered = entered & found if attempt else found
        if len(entered) <= MAX_MODULES:
            break
    assert {"client/calls", "client/submission", "runtime/driver", "core/pool_state", "core/memory/arena"} <= entered
    assert len(entered) <= MAX_MODULES, sorted(entered)
