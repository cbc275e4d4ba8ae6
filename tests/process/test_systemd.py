"""A service of systemd with the restrictions of the unit in docs/howto/systemd.md: the sandbox of its workers is complete.

The manager is a real one: `systemd --user` of root, in PID and mount namespaces of its own.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "systemd.md").read_text()
# a manager of a user has no cgroups for limits and no dynamic users; the others say how the program is started and ended
NOT_TRIED = {"DynamicUser", "MemoryMax", "TasksMax"}
STARTING = {"Type", "WorkingDirectory", "ExecStart", "Restart", "KillMode", "TimeoutStopSec", "LimitNOFILE"}

MANAGER = """
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/user/0
export XDG_RUNTIME_DIR=/run/user/0
for program in /lib/systemd/systemd /usr/lib/systemd/systemd; do
    [ -x "$program" ] && break
done
"$program" --user --unit=basic.target --log-target=null &
for _ in $(seq 300); do
    systemctl --user list-units >/dev/null 2>&1 && exec systemd-run --user --wait --pipe --quiet "$@"
    sleep 0.1
done
exit 1
"""

SERVICE = """
import ctypes, json, os
from pathlib import Path
import anyio
from offloop import OffloopError, Pool
from offloop.testing.faults import Echo, FaultsPlugin

status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())

async def main():
    try:
        async with Pool(1, plugins=[FaultsPlugin]) as pool:
            data = bytes(await pool.run(b"abc", [Echo()]))
            said = {"data": data.decode(), "layers": pool.sandbox.layers, "missing": pool.sandbox.missing}
    except OffloopError as error:
        said = {"error": str(error)}
    said["seccomp"] = int(status["Seccomp"])
    said["capabilities"] = int(status["CapEff"], 16)
    said["is_read_only"] = bool(os.statvfs("/usr").f_flag & os.ST_RDONLY)
    print(json.dumps(said))

anyio.run(main)
"""


def options() -> list[str]:
    """Lines of the unit's section [Service] that restrict the service; its own /tmp would hide an interpreter that is there."""
    (unit,) = (unit for unit in re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if "[Service]" in unit)
    lines = unit.partition("[Service]\n")[2].partition("\n[")[0].splitlines()
    left_out = NOT_TRIED | STARTING
    if Path(sys.executable).is_relative_to("/tmp"):
        left_out |= {"PrivateTmp"}
    return [line for line in lines if "=" in line and line.partition("=")[0] not in left_out]


def run_service(properties: list[str], *command: str) -> subprocess.CompletedProcess[str]:
    arguments = [part for line in properties for part in ("-p", line)]
    manager = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", MANAGER, "sh"]
    return subprocess.run([*manager, *arguments, *command], capture_output=True, text=True, timeout=55, check=False)


@pytest.fixture(scope="module", autouse=True)
def systemd() -> None:
    """Skip these tests where no manager can be started."""
    tools = all(shutil.which(name) for name in ("systemd-run", "unshare"))
    if not tools or run_service([], "true").returncode:
        pytest.skip("no manager of systemd can be started here")


def test_the_sandbox_is_complete_under_all_restrictions() -> None:
    assert len(options()) >= 11
    done = run_service(options(), sys.executable, "-c", SERVICE)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["data"], said["missing"], said["layers"]) == ("abc", {}, ["limits", "privileges", "landlock", "seccomp"])
    assert (said["seccomp"], said["capabilities"], said["is_read_only"]) == (2, 0, True)


def test_without_the_named_calls_a_worker_does_not_start_and_the_error_says_why() -> None:
    done = run_service(["SystemCallFilter=@system-service"], sys.executable, "-c", SERVICE)
    assert json.loads(done.stdout)["error"] == "the worker was ended by SIGSYS during its start"
