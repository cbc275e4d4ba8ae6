"""`to_dict` of statistics, timings, headers and infos gives valid FastAPI responses."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from offloop import Header, Pool
from offloop.testing import scripted_pool
from offloop.testing.faults import FaultsPlugin, Noop
from offloop.testing.steps import Answer

fastapi = pytest.importorskip("fastapi")

from fastapi import FastAPI  # noqa: E402 (after the skip)
from fastapi.encoders import jsonable_encoder  # noqa: E402

pytestmark = pytest.mark.anyio

HEADER = Header(media_type="image/png", width=3, height=2)


def application(pool: Pool) -> FastAPI:
    app = FastAPI()

    @app.get("/statistics")
    async def statistics() -> dict[str, Any]:
        return pool.statistics().to_dict()

    @app.get("/task")
    async def task() -> dict[str, Any]:
        result = await pool.run(b"", [Noop()])
        return {"info": result.info.to_dict(), "timings": result.timings.to_dict(), "header": HEADER.to_dict()}

    return app


async def test_routes_return_what_a_pool_tells(anyio_backend: object) -> None:
    async with scripted_pool([Answer(b"abc", info={"width": 3})], plugins=[FaultsPlugin]) as pool:
        transport = httpx.ASGITransport(application(pool))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            task = (await client.get("/task")).raise_for_status().json()
            statistics = (await client.get("/statistics")).raise_for_status().json()
        expected = json.loads(json.dumps(pool.statistics().to_dict()))
    assert statistics == expected
    assert (statistics["completed"], statistics["wait"]["count"]) == (1, 1)
    assert task["info"]["width"] == 3
    assert task["timings"].keys() == {"queued", "started", "finished", "waited", "ran"}
    assert task["header"] == json.loads(json.dumps(HEADER.to_dict()))


async def test_the_encoder_of_fastapi_takes_what_a_pool_tells(anyio_backend: object) -> None:
    async with scripted_pool([Answer(b"abc")], plugins=[FaultsPlugin]) as pool:
        result = await pool.run(b"", [Noop()])
        for told in (pool.statistics(), pool.statistics().run, result.timings, result.info, HEADER):
            assert jsonable_encoder(told.to_dict()) == json.loads(json.dumps(told.to_dict()))
