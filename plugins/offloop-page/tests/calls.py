"""Calls of the API that many tests make."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx


def new_batch(client: httpx.Client, **conversion: Any) -> str:
    answer = client.post("/api/batches", json=conversion)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def send(client: httpx.Client, batch: str, body: Any, *, key: str = "1", wait: bool = True, **query: str) -> httpx.Response:
    headers = {"prefer": "wait=20"} if wait else {}
    return client.put(f"/api/batches/{batch}/files/{key}", content=body, params=query, headers=headers)


def file_of(client: httpx.Client, batch: str, key: str = "1") -> Any:
    return client.get(f"/api/batches/{batch}/files/{key}").json()


def until(condition: Callable[[], Any]) -> Any:
    """Ask again and again until the answer is true, and return it."""
    deadline = time.monotonic() + 15
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)
    return value


def until_state(client: httpx.Client, batch: str, state: str, key: str = "1") -> Any:
    return until(lambda: (file := file_of(client, batch, key)).get("state") == state and file)


def events(response: httpx.Response) -> Iterator[tuple[str, Any]]:
    """The id and the data of each event of a stream."""
    event_id = ""
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            event_id = value
        elif name == "data":
            yield event_id, json.loads(value)
