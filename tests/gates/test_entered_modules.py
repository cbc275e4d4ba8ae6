"""One run of a picture enters few modules of the server, so that a reader can follow it."""

from __future__ import annotations

import pytest
from entered_modules import modules_of_a_run

from offloop.core import pool_state

MAX_MODULES = 49  # that one run of a picture enters; a change that adds one must be worth it


@pytest.mark.skipif(not pool_state.__file__.endswith(".py"), reason="compiled functions are not profiled")
def test_one_run_of_a_picture_enters_few_modules() -> None:
    entered = modules_of_a_run()
    assert {"client/calls", "client/submission", "runtime/driver", "core/pool_state", "core/memory/arena"} <= set(entered.calls)
    assert len(entered.calls) <= MAX_MODULES, sorted(entered.calls)
