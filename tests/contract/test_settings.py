"""Settings of a pool: invalid values are refused by name, and defaults come from the machine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from offloop.settings import PoolSettings, WorkerGroup, default_memory_limit
from offloop.sizes import parse_size
from offloop.system import Amount, available_cpus, available_memory, free_shared_memory, limits
from offloop.system.cgroups import control_groups, read_number

MIB = 1 << 20

REFUSED: list[tuple[str, Any, type[Exception], str]] = [
    ("workers", 0, ValueError, "from 1 to 1,024"),
    ("spawn_prefix", "bwrap", TypeError, "a list of a program and its arguments"),
    ("spawn_prefix", ["/nonexistent/bwrap"], ValueError, "there is no program '/nonexistent/bwrap'"),
    ("sandbox", "best", ValueError, "must be one of 'auto', 'strict', 'off'"),
    ("sandbox", True, ValueError, "must be one of 'auto', 'strict', 'off'"),
    ("isolation", "user", ValueError, "must be one of 'pool', 'tenant', 'task'"),
    ("private_sources", 1, TypeError, "must be True, False or None"),
    ("workers", -1, ValueError, "from 1 to 1,024"),
    ("workers", 1025, ValueError, "from 1 to 1,024"),
    ("workers", 2.0, TypeError, "whole number"),
    ("workers", "2", TypeError, "whole number"),
    ("workers", True, TypeError, "whole number"),
    ("max_queue", -1, ValueError, "at least 0"),
    ("max_queue", 1.0, TypeError, "whole number"),
    ("max_queue", False, TypeError, "whole number"),
    ("memory_limit", MIB - 1, ValueError, "from 1,048,576"),
    ("memory_limit", 0, ValueError, "from 1,048,576"),
    ("memory_limit", -MIB, ValueError, "from 1,048,576"),
    ("memory_limit", 10**40, ValueError, "from 1,048,576"),
    ("memory_limit", "512", ValueError, "from 1,048,576"),
    ("memory_limit", "much", ValueError, "'512MB' or '2GiB'"),
    ("memory_limit", "", ValueError, "'512MB' or '2GiB'"),
    ("memory_limit", "-2GiB", ValueError, "'512MB' or '2GiB'"),
    ("memory_limit", "9" * 400, ValueError, "'512MB' or '2GiB'"),
    ("memory_limit", 1.5 * MIB, TypeError, "whole number"),
    ("memory_limit", [MIB], TypeError, "whole number"),
    ("memory_limit", True, TypeError, "whole number"),
    *(
        (name, value, error, text)
        for name in ("timeout", "grace", "start_timeout", "restart_period", "quarantine_time")
        for value, error, text in (
            (-1, ValueError, "from 0"),
            (-0.001, ValueError, "from 0"),
            (math.nan, ValueError, "from 0"),
            (math.inf, ValueError, "from 0"),
            (10**400, ValueError, "from 0"),
            ("1", TypeError, "number"),
            (True, TypeError, "number"),
            (object, TypeError, "number"),
        )
    ),
    *(
        (name, value, error, text)
        for name, least in (("spares", 0), ("retries", 0), ("quarantine_after", 1), ("max_tasks_per_worker", 1))
        for value, error, text in (
            (least - 1, ValueError, f"{least}"),
            (-1000, ValueError, f"{least}"),
            (1.0, TypeError, "whole number"),
            ("1", TypeError, "whole number"),
            (True, TypeError, "whole number"),
        )
    ),
    ("tenant_weights", 5, TypeError, "a dictionary"),
    ("nice", -1, ValueError, "from 0 to 19"),
    ("nice", 20, ValueError, "from 0 to 19"),
    ("nice", 5.0, TypeError, "whole number"),
    ("nice", "low", ValueError, "or 'idle'"),
    ("spares", 1025, ValueError, "from 0 to 1,024"),
    ("retries", 101, ValueError, "from 0 to 100"),
    ("restart_intensity", -1, ValueError, "at least 0"),
    ("restart_intensity", 0.5, TypeError, "whole number"),
    ("restart_period", None, TypeError, "number"),
    ("max_worker_age", 0.5, ValueError, "from 1.0"),
    ("max_worker_age", -1, ValueError, "from 1.0"),
    ("max_worker_age", math.nan, ValueError, "from 1.0"),
    ("max_worker_age", "1h", TypeError, "number"),
    ("max_worker_memory", 1, ValueError, "from 33,554,432"),
    ("max_worker_memory", "1MB", ValueError, "from 33,554,432"),
    ("max_worker_memory", "much", ValueError, "'512MB' or '2GiB'"),
    ("grace", None, TypeError, "number"),
    ("start_timeout", None, TypeError, "number"),
    ("plugins", "vips", TypeError, "list of plugins"),
    ("plugins", b"vips", TypeError, "list of plugins"),
    ("plugins", 5, TypeError, "list of plugins"),
]


@pytest.mark.parametrize(
    ("name", "value", "error", "range_"), REFUSED, ids=[f"{name}={str(value)[:20]}" for name, value, *_ in REFUSED]
)
def test_an_invalid_setting_is_refused_with_its_name_its_value_and_the_range(
    name: str, value: Any, error: type[Exception], range_: str
) -> None:
    with pytest.raises(error) as caught:
        PoolSettings(**{name: value})
    text = str(caught.value)
    assert text.startswith(f"{name}=")
    assert range_ in text
    assert repr(value)[:10] in text or str(parse_size(value)) in text


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"workers": 1},
        {"workers": 1024},
        {"max_queue": 0},
        {"timeout": None},
        {"timeout": 0},
        {"grace": 0},
        {"memory_limit": MIB},
        {"memory_limit": "1MiB"},
        {"plugins": []},
        {"plugins": ("vips",)},
    ],
    ids=str,
)
def test_valid_settings_are_accepted(settings: dict[str, Any]) -> None:
    PoolSettings(**settings)


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        (12345, 12345),
        ("12345", 12345),
        ("12345B", 12345),
        ("1k", 1000),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("512MB", 512 * 10**6),
        ("2GiB", 2 << 30),
        ("1.5 GiB", 3 << 29),
        (" 1 tib ", 1 << 40),
        ("0.5MiB", MIB // 2),
    ],
)
def test_a_size_is_a_number_or_text_with_a_unit(text: int | str, nbytes: int) -> None:
    assert parse_size(text) == nbytes


@pytest.mark.parametrize(
    "text", ["", "B", "GiB", "1.", ".5", "1e9", "1,5MB", "0x10", "1 M B", "1PB", "5i", "5iB", "-1", "1MB/s", "nan"]
)
def test_an_invalid_size_is_refused_and_the_message_shows_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size; write bytes as .*'2GiB'"):
        parse_size(text)


def test_given_settings_reach_the_core() -> None:
    core = PoolSettings(workers=3, memory_limit="4MiB", max_queue=7, grace=0.5, start_timeout=9).resolved()
    assert (core.limit_bytes, core.max_queue, core.grace_s, core.start_timeout_s) == (4 * MIB, 7, 0.5, 9)
    assert core.groups[0].workers == 3
    assert core.inbox_nbytes == 3 * MIB


def test_a_limit_is_whole_pages() -> None:
    core = PoolSettings(workers=1, memory_limit=2 * MIB + 5000).resolved()
    assert core.limit_bytes == 2 * MIB + 4096
    assert core.inbox_nbytes % 4096 == 0


def test_missing_settings_come_from_the_machine() -> None:
    core = PoolSettings().resolved()
    assert core.groups[0].workers == available_cpus().value
    assert MIB <= core.limit_bytes <= available_memory().value
    assert core.max_queue is None


def test_the_default_limit_contains_its_source() -> None:
    limit = default_memory_limit()
    assert limit.value >= MIB
    assert limit.source.startswith(("half of ", "nine tenths of "))


def test_the_machine_gives_each_number_with_its_reason() -> None:
    for amount in (available_cpus(), available_memory(), free_shared_memory()):
        assert isinstance(amount, Amount)
        assert amount.value >= 0
        assert amount.source


# cgroups, from a tree of files


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def cgroups(tmp_path: Path, listing: str, controller: str) -> list[str]:
    """Returns the cgroup directories with a limit, relative to the mount."""
    write(tmp_path / "cgroup", listing)
    found = control_groups(controller, listing=tmp_path / "cgroup", mount=tmp_path / "fs")
    return [str(directory.relative_to(tmp_path / "fs")) for directory in found]


def test_version_two_has_one_tree_and_every_level_of_it_limits(tmp_path: Path) -> None:
    assert cgroups(tmp_path, "0::/system.slice/app.service\n", "memory") == ["system.slice/app.service", "system.slice", "."]


def test_the_root_of_a_container_is_the_whole_tree(tmp_path: Path) -> None:
    assert cgroups(tmp_path, "0::/\n", "cpu") == ["."]


def test_version_one_has_a_tree_for_each_controller(tmp_path: Path) -> None:
    listing = "12:cpu,cpuacct:/docker/abc\n9:memory:/docker/abc\n5:name=systemd:/x\n"
    assert cgroups(tmp_path, listing, "memory") == ["memory/docker/abc", "memory/docker", "memory"]
    assert cgroups(tmp_path, listing, "cpu") == ["cpu/docker/abc", "cpu/docker", "cpu"]


def test_both_versions_at_once_are_both_read(tmp_path: Path) -> None:
    assert cgroups(tmp_path, "9:memory:/a\n0::/b\n", "memory") == ["memory/a", "memory", "b", "."]


def test_a_path_with_colons_in_it_is_one_path(tmp_path: Path) -> None:
    assert cgroups(tmp_path, "0::/a:b:c\n", "cpu")[0] == "a:b:c"


def test_a_system_without_cgroups_has_none(tmp_path: Path) -> None:
    assert control_groups("cpu", listing=tmp_path / "nothing", mount=tmp_path) == []


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.cfs_quota_us": "300000\n", "cpu.cfs_period_us": "100000\n"}, 3.0),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.cfs_quota_us": "300000\n"}, None),
        ({"cpu.max": "nonsense\n"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_a_quota_is_read_in_both_versions(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for name, text in files.items():
        write(tmp_path / name, text)
    assert limits._cpu_quota(tmp_path) == quota


@pytest.mark.parametrize(("text", "number"), [("1073741824\n", 1 << 30), ("max\n", None), ("", None), ("1.5", None)])
def test_a_limit_is_a_number_or_none(tmp_path: Path, text: str, number: int | None) -> None:
    write(tmp_path / "memory.max", text)
    assert read_number(tmp_path / "memory.max") == number
    assert read_number(tmp_path / "not there") is None


def test_spares_that_do_not_fit_into_memory_are_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"spares=5: they need 1,310,720 bytes of the 1,048,576 .* at most 4 fit"):
        PoolSettings(workers=1, memory_limit=4 * MIB, spares=5)
    assert PoolSettings(workers=1, memory_limit=4 * MIB, spares=4).resolved().groups[0].spares == 4


def test_the_default_restart_intensity_grows_with_the_number_of_workers() -> None:
    assert PoolSettings(workers=3, spares=1, memory_limit=64 * MIB).resolved().groups[0].restart_intensity == 20
    assert PoolSettings(workers=3, restart_intensity=0, memory_limit=64 * MIB).resolved().groups[0].restart_intensity == 0


def test_each_pool_has_a_jitter_of_its_own() -> None:
    settings = PoolSettings(workers=1, memory_limit=64 * MIB)
    assert len({settings.resolved().seed for _ in range(5)}) > 1


@pytest.mark.parametrize("weight", [0, -1, 1001, math.nan, "1", None])
def test_an_invalid_weight_is_refused_with_its_tenant(weight: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^tenant_weights\['acme'\]=.*: must be "):
        PoolSettings(tenant_weights={"acme": weight})


@pytest.mark.parametrize(
    ("settings", "private"),
    [
        ({}, True),
        ({"sandbox": "off"}, False),
        ({"sandbox": "off", "private_sources": True}, True),
        ({"private_sources": False}, False),
        ({"inline": True, "private_sources": True}, False),
    ],
)
def test_sources_are_private_unless_workers_are_trusted(settings: dict[str, Any], private: bool) -> None:
    (group,) = PoolSettings(**settings).resolved().groups
    assert group.private_sources is private


def test_a_group_has_its_own_setting_of_private_sources() -> None:
    groups = (WorkerGroup("trusted", private_sources=False), WorkerGroup("open", sandbox="off"), WorkerGroup("other"))
    settings = PoolSettings(groups=groups)
    assert {name: settings.has_private_sources(name) for name in ("default", "trusted", "open", "other")} == {
        "default": True,
        "trusted": False,
        "open": False,
        "other": True,
    }
