"""A processor that tries to leave its worker is refused everything, in each of its threads; and the server is unharmed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hostile_plugin import PROBES

from offloop.worker.isolation.kernel import Kernel
from offloop.worker.isolation.syscall_numbers import ARCHITECTURES

HERE = Path(__file__).parent
WITHOUT_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
THREADS = ("main", "new", "old")
DOCUMENT = HERE.parents[1] / "docs" / "sandbox.md"

needs_setpriv = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can give up capabilities, with setpriv"
)


def has_all_layers() -> bool:
    try:
        return Kernel().landlock_abi() > 0 and Kernel().machine in ARCHITECTURES
    except OSError:
        return False


needs_all_layers = pytest.mark.skipif(not has_all_layers(), reason="this kernel has no Landlock, or no filter is known for it")


@cache
def escape(mode: str, prefix: Sequence[str] = (), loop: str = "asyncio") -> Any:
    """What each probe gave in each thread of the worker of a server."""
    command = [*prefix, sys.executable, str(HERE / "escape_server.py"), mode, loop]
    environment = {**os.environ, "PYTHONPATH": str(HERE), "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def allowed(found: dict[str, str]) -> set[str]:
    return {name for name, result in found.items() if result not in {"EPERM", "EACCES"}}


@needs_all_layers
@pytest.mark.parametrize(
    "prefix", [(), pytest.param(WITHOUT_CAPABILITIES, marks=needs_setpriv)], ids=["this user", "without capabilities"]
)
def test_a_processor_that_was_taken_over_reaches_nothing(prefix: Sequence[str]) -> None:
    found = escape("auto", prefix)
    check_that_nothing_is_reached(found)


@needs_all_layers
@pytest.mark.parametrize("loop", ["uvloop", "trio"])
def test_nothing_is_reached_on_other_event_loops(loop: str) -> None:
    check_that_nothing_is_reached(escape("auto", loop=loop))


def check_that_nothing_is_reached(found: Any) -> None:
    for thread in THREADS:
        assert found[thread].keys() == PROBES.keys()
        assert allowed(found[thread]) == set(), thread
    assert found["server"] == {"crashes": 0, "limits": True}
    assert found["posture"]["missing"] == {}


@needs_all_layers
def test_while_plugins_are_loaded_no_file_can_be_written_or_read_except_code() -> None:
    assert allowed(escape("auto")["loading"]) == set()


@needs_setpriv
def test_without_a_sandbox_nearly_everything_is_allowed_to_the_servers_own_user() -> None:
    found = escape("off", WITHOUT_CAPABILITIES)
    privileged = {"gain capabilities", "bpf", "perf_event_open", "mount", "change the root directory", "raise a limit"}
    privileged |= {"userfaultfd", "enter a namespace", "keep the lifeline from killing", "move the server to another CPU"}
    privileged |= {"change a source of another task"}  # the descriptor of the inbox is read-only in any case
    for thread in THREADS:
        assert allowed(found[thread]) >= PROBES.keys() - privileged, thread
    assert found["posture"]["mode"] == "off"


@needs_all_layers
def test_the_page_lists_each_probe_with_its_error() -> None:
    found = escape("auto")["main"]
    rows = "".join(f"| {name} | {error} |\n" for name, error in found.items())
    assert f"| attempt | error |\n| --- | --- |\n{rows}" in DOCUMENT.read_text()
