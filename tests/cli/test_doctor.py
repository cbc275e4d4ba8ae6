"""`offloop doctor`, and options of all commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import pyvips

import offloop
from offloop import Posture
from offloop.cli.doctor import advise
from offloop.cli.examination import Cpus, Examination, Memory, Processes, SharedMemory
from offloop.cli.trial import Trial

CommandLine: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


def test_it_shows_what_a_pool_could_use_and_that_a_conversion_works(command_line: CommandLine):
    ended = command_line("doctor")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    labels = [line.split("  ")[0] for line in ended.stdout.splitlines()]
    facts = ["offloop", "python", "event loop", "CPUs", "memory", "memory limit", "shared memory", "pidfd"]
    assert labels[: len(facts)] == facts
    assert f"vips (offloop-vips {version('offloop-vips')}): Decode, " in ended.stdout
    assert "a picture converted in " in ended.stdout
    assert ended.stdout.endswith("\nusable\n")
    assert ended.stderr == ""


def test_json_contains_the_same(command_line: CommandLine):
    ended = command_line("doctor", "--json")
    report: Any = json.loads(ended.stdout)
    assert (ended.returncode, report["usable"], report["problems"]) == (0, True, [])
    examination, trial = report["examination"], report["trial"]
    assert examination["cpus"]["usable"] <= examination["cpus"]["affinity"] == len(os.sched_getaffinity(0))
    assert examination["memory"]["pool_limit_bytes"] <= examination["memory"]["available_bytes"]
    assert examination["shared_memory"]["free_bytes"] <= examination["shared_memory"]["size_bytes"]
    assert examination["libvips"].split()[0] == ".".join(str(pyvips.version(part)) for part in range(3))
    assert (trial["worker_started"], trial["converted"], trial["error"]) == (True, True, None)


def examined(shm_bytes: int | None, *, pidfd: bool, files: int, cpus: int) -> Examination:
    return Examination(
        offloop="1",
        compiled=False,
        python="",
        platform="",
        event_loop="",
        cpus=Cpus(cpus, "cgroup quota of 1", cpus, cpus),
        memory=Memory(2 << 30, "", 1 << 30, ""),
        shared_memory=None if shm_bytes is None else SharedMemory(shm_bytes, shm_bytes),
        processes=Processes(pidfd, files),
        plugins=[],
        refused=[],
        libvips=None,
        libvips_error=None,
    )


def test_a_good_machine_needs_no_advice():
    good = examined(1 << 30, pidfd=True, files=4096, cpus=2)
    assert list(advise(good, Trial(worker_started=True, sandbox=Posture(mode="auto")))) == []


def test_each_fault_of_a_container_has_its_advice():
    posture = Posture(mode="auto", missing={"landlock": "the kernel has none"})
    told = list(advise(examined(64 << 20, pidfd=False, files=256, cpus=1), Trial(worker_started=True, sandbox=posture)))
    for word in ("--shm-size", "pidfd_open", "ulimit -n", "second CPU (cgroup quota of 1)", "landlock of the sandbox"):
        assert len([text for text in told if word in text]) == 1, (word, told)
    assert len(told) == 5
    (first, *_) = advise(examined(None, pidfd=True, files=4096, cpus=2), Trial())
    assert first.startswith("mount a tmpfs at /dev/shm")


def test_it_never_loads_libvips_itself():
    command = [sys.executable, "-X", "importtime", "-m", "offloop.cli", "doctor"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "offloop_vips.plugin" in imported
    assert not {name for name in imported if name.startswith(("pyvips", "numpy", "offloop_vips.processor"))}


def test_without_a_plugin_it_shows_that_and_a_worker_still_starts(bare: dict[str, str]):
    ended = doctor(bare)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert 'no other is installed; for pictures: pip install "offloop-vips"' in ended.stdout
    assert "nothing was converted, no plugin here does that" in ended.stdout


def test_a_refused_plugin_is_a_problem_with_a_name_and_a_reason(bare: dict[str, str], tmp_path: Path):
    distribution = tmp_path / "site" / "shaky-1.5.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: shaky\nVersion: 1.5\n")
    (distribution / "entry_points.txt").write_text("[offloop.processors]\nshaky = nowhere_at_all:Plugin\n")
    ended = doctor(bare)
    assert ended.returncode == 1
    assert "problem: plugin 'shaky' (shaky 1.5) was refused: cannot be imported: ModuleNotFoundError" in ended.stdout
    assert ended.stdout.endswith("\nnot usable as it is\n")
    assert ended.stderr == ""


def test_a_pool_that_cannot_start_is_a_problem():
    no_files = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh"]  # because shared memory cannot be created then
    command = [*no_files, sys.executable, "-m", "offloop.cli", "doctor", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    report: Any = json.loads(ended.stdout)
    assert (ended.returncode, report["usable"], report["trial"]["worker_started"]) == (1, False, False)
    assert [problem.partition(": ")[0] for problem in report["problems"]] == ["no worker could be started"]


def test_the_version_is_that_of_the_distribution(command_line: CommandLine):
    ended = command_line("--version")
    assert (ended.returncode, ended.stdout) == (0, f"offloop {version('offloop')}\n")


def test_an_unknown_command_is_bad_usage(command_line: CommandLine):
    ended = command_line("covnert")
    assert (ended.returncode, "No such command 'covnert'" in ended.stderr) == (2, True)


def test_without_its_extra_the_error_names_the_packages_to_install(tmp_path: Path):
    installed = Path(offloop.__file__).parent
    for path in (installed, *installed.parent.glob("*__mypyc.*.so")):  # with the compiled modules, if there are any
        (tmp_path / path.name).symlink_to(path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-S", "-m", "offloop.cli", "doctor"]  # no site-packages, so no click and no rich
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == 'offloop: the command line needs click and rich: pip install "offloop[cli]"\n'


def doctor(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", "-m", "offloop.cli", "doctor"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
