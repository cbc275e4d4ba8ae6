"""Memory pressure of the machine, from the files in /proc and of cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest

from offloop.system import memory_pressure

MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    {} kB\n"
PSI = "some avg10={} avg60=99.00 avg300=99.00 total=1\nfull avg10=98.00 avg60=0.00 avg300=0.00 total=1\n"


class Machine:
    """A fake /proc and a fake tree of cgroups, which a test writes."""

    def __init__(self, directory: Path) -> None:
        self.proc, self.listing, self.mount = directory / "proc", directory / "cgroup", directory / "fs"
        self.group = self.mount / "a"
        (self.proc / "pressure").mkdir(parents=True)
        self.group.mkdir(parents=True)
        self.listing.write_text("0::/a\n")

    def host(self, available: int, stalled: str | None = None) -> None:
        (self.proc / "meminfo").write_text(MEMINFO.format(available))
        if stalled is not None:
            (self.proc / "pressure/memory").write_text(PSI.format(stalled))

    def cgroup(self, limit: str, usage: int, *, files: int | None = None, stalled: str | None = None) -> None:
        (self.group / "memory.max").write_text(limit)
        (self.group / "memory.current").write_text(f"{usage}\n")
        if files is not None:
            (self.group / "memory.stat").write_text(f"anon 5\ninactive_file {files}\n")
        if stalled is not None:
            (self.group / "memory.pressure").write_text(PSI.format(stalled))

    def measure(self) -> tuple[float, float]:
        return memory_pressure(proc=self.proc, listing=self.listing, mount=self.mount)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_host_has_available_memory_and_stall_time(machine: Machine) -> None:
    machine.host(250, "12.50")
    assert machine.measure() == (0.25, 0.125)


def test_without_the_files_there_is_no_pressure(machine: Machine) -> None:
    assert machine.measure() == (1.0, 0.0)


@pytest.mark.parametrize("text", ["", "nonsense", "MemTotal: 1000 kB\n", "MemTotal: much\nMemAvailable: x\n"])
def test_with_invalid_files_there_is_no_pressure(machine: Machine, text: str) -> None:
    (machine.proc / "meminfo").write_text(text)
    (machine.proc / "pressure/memory").write_text(text)
    assert machine.measure() == (1.0, 0.0)


def test_the_smaller_of_host_and_cgroup_counts(machine: Machine) -> None:
    machine.host(250, "1.00")
    machine.cgroup("1000", 900, stalled="30.00")
    assert machine.measure() == pytest.approx((0.1, 0.3))
    machine.cgroup("1000", 100, stalled="0.50")
    assert machine.measure() == pytest.approx((0.25, 0.01))


def test_files_that_the_kernel_would_drop_are_available(machine: Machine) -> None:
    machine.cgroup("1000", 900, files=400)
    assert machine.measure()[0] == pytest.approx(0.5)


def test_a_cgroup_without_a_limit_is_ignored(machine: Machine) -> None:
    machine.host(250)
    machine.cgroup("max\n", 900, stalled="90.00")
    assert machine.measure() == (0.25, 0.0)


def test_a_cgroup_above_its_limit_has_zero_available(machine: Machine) -> None:
    machine.cgroup("1000", 1100)
    assert machine.measure()[0] == 0.0


def test_the_real_files_of_this_machine_can_be_read() -> None:
    available, stalled = memory_pressure()
    assert 0 <= available <= 1
    assert 0 <= stalled <= 1
