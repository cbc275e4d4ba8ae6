"""Worker groups: their settings, the plugins that each of them loads, and the group in which a pipeline runs."""

from __future__ import annotations

import math
from typing import Any

import pytest

from offloop import InvalidTask, PluginError, WorkerGroup
from offloop.operation import Operation, Plugin
from offloop.plugins import Planner, Registry, group_plugins
from offloop.plugins.grouping import find_group
from offloop.settings import PoolSettings
from offloop.testing.faults import FaultsPlugin, Noop

MIB = 1024 * 1024

# Settings

REFUSED = [
    ("workers", 0, ValueError, "from 1 to 1,024"),
    ("workers", 1.0, TypeError, "whole number"),
    ("min_workers", -1, ValueError, "from 0 to 1,024"),
    ("max_workers", 0, ValueError, "from 1 to 1,024"),
    ("spares", -1, ValueError, "from 0 to 1,024"),
    ("idle_timeout", -1, ValueError, "from 0"),
    ("nice", 20, ValueError, "from 0 to 19"),
    ("nice", "low", ValueError, "or 'idle'"),
    ("max_tasks", 0, ValueError, "at least 1"),
    ("max_age", math.nan, ValueError, "from 1.0"),
    ("max_memory", "1MB", ValueError, "from 33,554,432"),
    ("load_timeout", "1", TypeError, "number"),
    ("plugins", "vips", TypeError, "a list of names"),
    ("plugins", [FaultsPlugin], TypeError, "a list of names"),
    ("environment", {"A": 1}, TypeError, "texts"),
    ("environment", 5, TypeError, "a dictionary"),
]


@pytest.mark.parametrize(("name", "value", "error", "range_"), REFUSED, ids=[f"{case[0]}={case[1]}"[:30] for case in REFUSED])
def test_an_invalid_setting_is_refused_with_its_name_and_the_range(
    name: str, value: Any, error: type[Exception], range_: str
) -> None:
    with pytest.raises(error, match=rf"^{name}=.*{range_}"):
        WorkerGroup("models", **{name: value})


@pytest.mark.parametrize("name", ["", "1st", "a b", "ä", "x" * 65])
def test_a_name_is_a_label_of_metrics(name: str) -> None:
    with pytest.raises(ValueError, match=r"^name="):
        WorkerGroup(name)


def test_a_number_and_a_range_of_workers_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        WorkerGroup("models", workers=1, max_workers=2)


@pytest.mark.parametrize(
    ("groups", "error", "text"),
    [
        ([WorkerGroup("default")], ValueError, "Pool itself describe the group 'default'"),
        ([WorkerGroup("small")], ValueError, "'small' is the group for small tasks"),
        ([WorkerGroup("a"), WorkerGroup("a")], ValueError, "two groups are named 'a'"),
        (["models"], TypeError, "'models' is no WorkerGroup"),
        ("models", TypeError, "give a list of WorkerGroup"),
        (WorkerGroup("a"), TypeError, "give a list of WorkerGroup"),
    ],
)
def test_the_groups_of_a_pool_are_checked(groups: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        PoolSettings(groups=groups)


def test_a_group_has_the_settings_of_the_pool_unless_it_has_its_own() -> None:
    settings = PoolSettings(
        workers=3,
        memory_limit=512 * MIB,
        idle_timeout=7.0,
        load_timeout=8.0,
        max_tasks_per_worker=9,
        max_worker_age=10.0,
        max_worker_memory="100MiB",
        nice=4,
        environment={"A": "1", "B": "2"},
        groups=[
            WorkerGroup("plain"),
            WorkerGroup("own", workers=2, spares=1, idle_timeout=1.0, load_timeout=2.0, max_tasks=3, max_age=4.0, nice="idle"),
            WorkerGroup("variables", min_workers=1, max_memory="50MiB", environment={"B": None, "C": "3"}),
        ],
    )
    _, plain, own, variables = settings.resolved({"default": (), "plain": ("x",), "own": (), "variables": ()}).groups
    assert (plain.min_workers, plain.workers, plain.spares, plain.plugins) == (0, 3, 0, ("x",))
    assert (plain.idle_timeout_s, plain.load_timeout_s, plain.max_tasks_per_worker, plain.max_worker_age_s) == (7, 8, 9, 10)
    assert plain.max_worker_bytes == 100 * MIB
    assert (own.min_workers, own.workers, own.spares, own.restart_intensity) == (2, 2, 1, 15)
    assert (own.idle_timeout_s, own.load_timeout_s, own.max_tasks_per_worker, own.max_worker_age_s) == (1, 2, 3, 4)
    assert (variables.min_workers, variables.workers, variables.max_worker_bytes) == (1, 3, 50 * MIB)
    assert (settings.nice_of("plain"), settings.nice_of("own"), settings.nice_of("small")) == (4, "idle", 1)
    assert settings.worker_program("plain").environment == {"A": "1", "B": "2"}
    assert settings.worker_program("variables").environment == {"A": "1", "B": None, "C": "3"}


def test_workers_for_small_tasks_beside_idle_ones_are_of_the_ordinary_class() -> None:
    assert PoolSettings(nice="idle").nice_of("small") == 19


def test_the_memory_limit_must_have_room_for_the_workers_that_groups_keep() -> None:
    enough = 3 * 32 * MIB + 64 * MIB
    group = WorkerGroup("models", workers=2)
    plugins: dict[str, tuple[str, ...]] = {"default": (), "models": ()}
    assert PoolSettings(workers=1, memory_limit=enough, groups=[group]).resolved(plugins).budget_bytes == enough
    assert PoolSettings(workers=1, memory_limit=enough - 1, groups=[group]).resolved(plugins).budget_bytes is None
    on_demand = WorkerGroup("models", max_workers=2)
    assert PoolSettings(workers=1, memory_limit=enough - 1, groups=[on_demand]).resolved(plugins).budget_bytes is not None


# Plugins of a group


class Step(Operation, frozen=True):
    """An operation of the plugin with a group."""


class ModelPlugin(Plugin):
    name = "model"
    operations = (Step,)
    processor = "offloop.testing.faults_processor:FaultsProcessor"
    group = "models"
    companions = ("faults", "absent")


class OtherModelPlugin(ModelPlugin):
    name = "other"
    companions = ()


PLUGINS = [FaultsPlugin(), ModelPlugin(), OtherModelPlugin()]


def test_a_plugin_with_a_group_is_loaded_there_with_its_companions_and_not_by_the_default_group() -> None:
    assert group_plugins(PLUGINS[:2], {}) == {"default": ("faults",), "models": ("faults", "model")}


def test_plugins_may_share_a_group() -> None:
    assert group_plugins(PLUGINS, {})["models"] == ("faults", "model", "other")


def test_the_groups_of_the_pool_are_tried_before_those_of_plugins() -> None:
    groups = group_plugins(PLUGINS[:2], {"b": ["faults"], "a": None})
    assert list(groups) == ["default", "b", "a", "models"]
    assert (groups["b"], groups["a"]) == (("faults",), ("faults",)), "by default the plugins of the default group"


def test_a_group_of_the_pool_with_the_name_of_a_plugins_group_has_its_plugins_or_the_given_ones() -> None:
    assert group_plugins(PLUGINS[:2], {"models": None})["models"] == ("faults", "model")
    assert group_plugins(PLUGINS[:2], {"models": ["model"]})["models"] == ("model",)


def test_a_group_that_needs_a_plugin_that_the_pool_does_not_have_is_refused() -> None:
    with pytest.raises(PluginError, match=r"absent.*the worker group 'a' needs it, and the pool has: faults"):
        group_plugins(PLUGINS[:1], {"a": ["absent"]})


def test_a_pipeline_runs_in_the_first_group_that_has_all_of_its_plugins() -> None:
    groups = group_plugins(PLUGINS[:2], {"b": ["faults", "model"]})
    assert find_group(groups, ["faults"]) == "default"
    assert find_group(groups, ["faults", "model", "faults"]) == "b"


def test_a_pipeline_that_no_group_can_run_is_refused_with_the_plugins_of_each() -> None:
    groups = group_plugins(PLUGINS[:2], {"models": ["model"]})
    with pytest.raises(InvalidTask, match=r"plugins faults, model in one worker.*'default' has faults; 'models' has model"):
        find_group(groups, ["faults", "model"])


def test_a_plan_has_the_group_of_its_pipeline() -> None:
    registry = Registry([FaultsPlugin, ModelPlugin])
    planner = Planner(registry, group_plugins(PLUGINS[:2], {}))
    assert [planner.plan(pipeline).group for pipeline in ([Noop()], [Step()], [Noop(), Step()])] == [
        "default",
        "models",
        "models",
    ]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"group": 5}, "its group must be an identifier or None, not 5"),
        ({"group": "a b"}, "its group must be an identifier"),
        ({"group": "default"}, "must not be 'default', which every pool has"),
        ({"group": "small"}, "must not be 'small'"),
        ({"companions": "vips"}, "its companions must be a tuple of names"),
        ({"group": None}, r"it has companions \('faults', 'absent'\) and no group"),
    ],
    ids=str,
)
def test_a_plugin_with_an_invalid_group_is_refused(fields: dict[str, Any], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in fields.items():
        monkeypatch.setattr(ModelPlugin, name, value)
    with pytest.raises(PluginError, match=text):
        Registry([ModelPlugin])
