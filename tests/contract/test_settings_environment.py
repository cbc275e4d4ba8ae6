"""Settings of a pool from environment variables."""

from __future__ import annotations

from typing import Any

import pytest

from offloop import Pool
from offloop.settings import PoolSettings, setting_rows, settings_of_environment

READ: list[tuple[str, str, Any]] = [
    ("WORKERS", "4", 4),
    ("WORKERS", "none", None),
    ("MEMORY_LIMIT", "2GiB", "2GiB"),
    ("MEMORY_LIMIT", "1048576", 1_048_576),
    ("TIMEOUT", "2.5", 2.5),
    ("TIMEOUT", "None", None),
    ("NICE", "idle", "idle"),
    ("NICE", "5", 5),
    ("SANDBOX", "strict", "strict"),
    ("INLINE", "1", True),
    ("INLINE", "off", False),
    ("PLUGINS", "vips, onnx", ["vips", "onnx"]),
    ("FUNCTIONS", "my_package.jobs", ["my_package.jobs"]),
    ("SPAWN_PREFIX", "bwrap,--die-with-parent", ["bwrap", "--die-with-parent"]),
    ("TENANT_WEIGHTS", "gold=3, free=0.5", {"gold": 3.0, "free": 0.5}),
    ("ENVIRONMENT", "OMP_NUM_THREADS=2,PATH=/bin", {"OMP_NUM_THREADS": "2", "PATH": "/bin"}),
    ("EXECUTABLE", "/usr/bin/python3", "/usr/bin/python3"),
]

REFUSED: list[tuple[str, str, str]] = [
    ("WORKERS", "many", "OFFLOOP_WORKERS='many': must be a whole number"),
    ("TIMEOUT", "long", "OFFLOOP_TIMEOUT='long': must be a number"),
    ("INLINE", "maybe", "OFFLOOP_INLINE='maybe': write 1 or 0"),
    ("TENANT_WEIGHTS", "gold", "write pairs, as in a=1,b=2"),
    ("TENANT_WEIGHTS", "gold=much", "OFFLOOP_TENANT_WEIGHTS='much': must be a number"),
    ("MEMROY_LIMIT", "1GiB", "OFFLOOP_MEMROY_LIMIT is no setting; did you mean OFFLOOP_MEMORY_LIMIT?"),
]


@pytest.mark.parametrize(("name", "text", "value"), READ, ids=str)
def test_a_variable_is_read_as_its_setting(name: str, text: str, value: Any) -> None:
    assert settings_of_environment({f"OFFLOOP_{name}": text}, "OFFLOOP_") == {name.lower(): value}


@pytest.mark.parametrize(("name", "text", "message"), REFUSED, ids=str)
def test_a_variable_that_cannot_be_read_is_refused_by_its_name(name: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match="OFFLOOP_") as caught:
        settings_of_environment({f"OFFLOOP_{name}": text}, "OFFLOOP_")
    assert message in str(caught.value)


def test_variables_of_others_and_empty_ones_are_ignored() -> None:
    others = {"OFFLOOP_PAGE_TOKEN": "x", "OFFLOOP_WORKER_ID": "1", "WORKERS": "3", "OFFLOOP_RETRIES": ""}
    assert settings_of_environment(others, "OFFLOOP_") == {}


def test_every_setting_but_groups_has_a_variable_and_a_default_that_is_accepted() -> None:
    rows = setting_rows()
    assert [row.name for row in rows if row.variable is None] == ["groups"]
    assert {row.name: row.default for row in rows} == {
        name: getattr(PoolSettings(), name) for name in PoolSettings.__struct_fields__
    }
    assert {row.name: row.type for row in rows}["sandbox"] == "'auto' or 'strict' or 'off'"


def test_the_environment_goes_before_the_defaults_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_MAX_QUEUE", "7")
    pool = Pool.from_env("SERVICE_", workers=3, max_queue=100)
    assert (pool._settings.workers, pool._settings.max_queue) == (3, 7)
    monkeypatch.setenv("SERVICE_SANDBOX", "best")
    with pytest.raises(ValueError, match="sandbox='best': must be one of"):
        Pool.from_env("SERVICE_")
