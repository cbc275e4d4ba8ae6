"""The API is what openapi.json says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
from starlette.routing import Route

import offloop_page
from offloop_page.batches.conversion import Conversion
from offloop_page.batches.file_state import FileState
from offloop_page.live import routes as live_routes
from offloop_page.live.routes import Picture
from offloop_page.web import batch_routes, file_routes

from .calls import new_batch, send

DOCUMENT: Any = json.loads((Path(offloop_page.__file__).parent / "static" / "openapi.json").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]


def test_every_route_is_described_and_no_other() -> None:
    routes = [route for route in [*batch_routes.ROUTES, *file_routes.ROUTES, *live_routes.ROUTES] if isinstance(route, Route)]
    existing = {(route.path, method.lower()) for route in routes for method in (route.methods or set()) - {"HEAD"}}
    described = {(path, method) for path, item in DOCUMENT["paths"].items() for method in item if method != "parameters"}
    assert described - {("/api/session", "post"), ("/api/capabilities", "get")} == existing


def test_settings_and_states_are_described_as_they_are() -> None:
    properties = SCHEMAS["Conversion"]["properties"]
    defaults = msgspec.to_builtins(Conversion())
    assert {name: field["default"] for name, field in properties.items()} == defaults | {"widths": []}
    assert {name: field["default"] for name, field in SCHEMAS["Picture"]["properties"].items()} == msgspec.to_builtins(
        Picture()
    )
    assert SCHEMAS["File"]["properties"]["state"]["enum"] == list(FileState)


def test_answers_have_the_fields_that_are_described(client: httpx.Client, photo: bytes) -> None:
    batch = new_batch(client, widths=[10])
    file = send(client, batch, photo).json()
    whole = client.get(f"/api/batches/{batch}").json()
    problem = client.get(f"/api/batches/{batch}/files/none").json()
    for value, name in ((file, "File"), (whole, "Batch"), (problem, "Problem"), (file["results"][0], "Result")):
        assert set(value) == set(SCHEMAS[name]["required"]) == set(SCHEMAS[name]["properties"])
    assert client.get("/openapi.json").json() == DOCUMENT


def test_a_method_that_a_path_does_not_have_is_answered_with_those_that_it_has(client: httpx.Client) -> None:
    for path, item in DOCUMENT["paths"].items():
        address = path.replace("{", "").replace("}", "")
        answer = client.options(address)
        methods = {method.upper() for method in item if method != "parameters"}
        assert (answer.status_code, answer.json()["code"]) == (405, "http"), address
        assert set(answer.headers["allow"].split(", ")) - {"HEAD"} == methods, address
