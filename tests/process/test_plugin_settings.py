"""The parameters of a plugin instance reach the processor in the worker, or the instance is refused."""

from __future__ import annotations

from typing import Any

import pytest
from configured_plugin import Ask, ConfiguredPlugin, StatefulPlugin

from offloop import Pool
from offloop.errors import PluginError

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("plugin", "model"),
    [
        (ConfiguredPlugin("x"), "x"),
        (ConfiguredPlugin, "default"),
        ("configured_plugin:ConfiguredPlugin", "default"),
        ("configured_plugin:INSTANCE", "by reference"),
    ],
)
async def test_the_settings_of_a_plugin_reach_its_processor(anyio_backend: object, plugin: Any, model: str) -> None:
    async with Pool(1, plugins=[plugin]) as pool:
        assert bytes(await pool.run(b"", [Ask()])) == f"{model} (1, 2)".encode()


async def test_an_instance_with_other_state_is_refused_when_the_pool_is_entered(anyio_backend: object) -> None:
    with pytest.raises(PluginError, match=r"plugin 'configured': its instance has state .*: model; put it into .*`settings`"):
        async with Pool(1, plugins=[StatefulPlugin("y")]):
            pytest.fail("the pool was opened")


@pytest.mark.parametrize("settings", ["x", {"model": "x"}, 5])
async def test_settings_that_are_no_frozen_struct_are_refused(anyio_backend: object, settings: Any) -> None:
    plugin = ConfiguredPlugin()
    plugin.settings = settings
    with pytest.raises(PluginError, match="its settings must be a frozen msgspec struct"):
        async with Pool(1, plugins=[plugin]):
            pytest.fail("the pool was opened")
