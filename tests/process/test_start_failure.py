"""`describe_spawn_error` names the limit that was reached, and no other."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import pytest

from offloop.runtime.workers.spawn_errors import describe_spawn_error

AGAIN = BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
NO_THREAD = RuntimeError("can't start new thread")


class Machine:
    """The kernel's files, in a directory."""

    def __init__(self, directory: Path) -> None:
        self.proc, self.mount = directory / "proc", directory / "cgroup"
        self.write("proc/self/cgroup", "0::/service/web\n")
        self.write("proc/loadavg", "0.20 0.18 0.12 1/80 11206\n")
        self.write("proc/sys/kernel/threads-max", "1000\n")
        self.write("proc/sys/kernel/pid_max", "32768\n")
        self.write("cgroup/service/pids.max", "max\n")
        self.write("cgroup/service/pids.current", "21\n")

    def write(self, path: str, text: str) -> None:
        file = self.proc.parent / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def why(self, error: Exception = AGAIN, user_id: int = 1000) -> str:
        return describe_spawn_error(error, proc=self.proc, mount=self.mount, user_id=user_id)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    def getrlimit(_which: int) -> tuple[int, int]:
        return 4000, 5000

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    return Machine(tmp_path)


@pytest.mark.parametrize("error", [AGAIN, NO_THREAD])
def test_a_full_cgroup_is_named_with_both_numbers(machine: Machine, error: Exception) -> None:
    machine.write("cgroup/service/web/pids.max", "20\n")
    machine.write("cgroup/service/web/pids.current", "20\n")
    text = machine.why(error)
    assert text.endswith("service/web may have 20 processes and threads, and has 20 (pids.max)")
    assert "RLIMIT_NPROC" not in text


def test_a_full_cgroup_above_is_named_too(machine: Machine) -> None:
    machine.write("cgroup/service/pids.max", "22\n")
    assert "cgroup/service may have 22 processes and threads, and has 21 (pids.max)" in machine.why()


def test_a_cgroup_with_room_is_not_blamed(machine: Machine) -> None:
    machine.write("cgroup/service/web/pids.max", "200\n")
    machine.write("cgroup/service/web/pids.current", "20\n")
    assert machine.why().endswith("this user may have 4,000 processes and threads (RLIMIT_NPROC)")


def test_a_cgroup_of_version_1_is_found(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "8:pids:/service\n4:memory:/service\n0::/\n")
    machine.write("cgroup/pids/service/pids.max", "20\n")
    machine.write("cgroup/pids/service/pids.current", "20\n")
    assert "pids/service may have 20 processes" in machine.why()


def test_the_systems_own_limit_is_named(machine: Machine) -> None:
    machine.write("proc/loadavg", "0.20 0.18 0.12 1/990 11206\n")
    assert machine.why().endswith("the system may have 1,000 processes and threads, and has 990 (kernel.threads-max)")


def test_root_has_no_limit_for_its_user(machine: Machine) -> None:
    assert machine.why(user_id=0) == "BlockingIOError: [Errno 11] Resource temporarily unavailable"


def test_descriptors_have_a_limit_of_the_process(machine: Machine) -> None:
    text = machine.why(OSError(errno.EMFILE, "Too many open files"))
    assert text.endswith("this process may have 4,000 descriptors (RLIMIT_NOFILE)")


def test_other_errors_say_what_they_say(machine: Machine) -> None:
    assert machine.why(FileNotFoundError(2, "No such file", "python")) == "FileNotFoundError: [Errno 2] No such file: 'python'"
