"""Hostile and unlucky clients: limits, slow and broken uploads, other origins, missing tokens."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from offloop import Buffer, MemoryLimitExceeded
from offloop_page.batches.file_entry import FileEntry

from .calls import file_of, new_batch, send, until, until_state
from .conftest import HOST, Server


@pytest.fixture
def tight(server: Server) -> Iterator[httpx.Client]:
    with server.client("/tight") as opened:
        yield opened


def raw_put(server: Server, path: str, length: int, body: bytes) -> socket.socket:
    """A connection that has sent a request of that length and a part of its body."""
    connection = socket.create_connection((HOST, server.port))
    connection.sendall(f"PUT {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n".encode() + body)
    return connection


def test_too_large_a_file_is_refused_before_it_is_read(tight: httpx.Client) -> None:
    batch = new_batch(tight)
    answer = send(tight, batch, b"x" * 100_001)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    file = file_of(tight, batch)
    assert (file["state"], file["received"], file["failure"]["can_retry"]) == ("failed", 0, False)


def test_too_large_a_file_is_refused_when_its_name_is_announced(tight: httpx.Client) -> None:
    batch = new_batch(tight)
    [file] = tight.post(f"/api/batches/{batch}/files", json=[{"key": "1", "name": "a", "nbytes": 100_001}]).json()
    assert (file["state"], file["failure"]["code"]) == ("failed", "too_large")


def test_too_large_a_body_without_a_length_is_refused(tight: httpx.Client) -> None:
    answer = send(tight, new_batch(tight), iter([b"x" * 60_000] * 2))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_batch_has_limits_of_files_and_bytes(tight: httpx.Client) -> None:
    batch = new_batch(tight)
    names = [{"key": str(number), "name": "a"} for number in range(5)]
    assert tight.post(f"/api/batches/{batch}/files", json=names).json()["code"] == "limit_files"
    heavy = [{"key": str(number), "name": "a", "nbytes": 80_000} for number in range(2)]
    assert tight.post(f"/api/batches/{batch}/files", json=heavy).json()["code"] == "limit_batch_bytes"
    assert tight.get(f"/api/batches/{batch}").json()["files"] == []
    for key in "abcd":
        send(tight, batch, b"x", key=key)
    assert send(tight, batch, b"x", key="e").json()["code"] == "limit_files"


def test_results_have_a_limit_and_the_oldest_idle_batch_goes_first(server: Server, photo: bytes) -> None:
    with server.client("/small") as client:
        first = new_batch(client, widths=[10])
        assert send(client, first, photo).json()["state"] == "done"
        second = new_batch(client, widths=[10])
        assert send(client, second, photo).json()["state"] == "done"
        assert client.get(f"/api/batches/{first}").status_code == 404
        answer = send(client, second, photo, key="2")
        assert (answer.status_code, answer.json()["code"]) == (507, "limit_results")
        assert file_of(client, second, "2")["failure"]["can_retry"]


def test_an_empty_file_fails_with_a_reason(client: httpx.Client) -> None:
    batch = new_batch(client)
    answer = send(client, batch, b"")
    assert (answer.status_code, answer.json()["detail"]) == (422, "the file is empty")
    assert file_of(client, batch)["state"] == "failed"


def test_a_client_that_leaves_halfway_has_an_interrupted_file(server: Server, client: httpx.Client, photo: bytes) -> None:
    batch = new_batch(client)
    used = server.used_bytes()
    connection = raw_put(server, f"/open/api/batches/{batch}/files/1", len(photo), photo[: len(photo) // 2])
    until(lambda: file_of(client, batch).get("received"))
    connection.close()
    file = until_state(client, batch, "failed")
    assert (file["failure"]["code"], file["failure"]["can_retry"]) == ("interrupted", True)
    until(lambda: server.used_bytes() <= used)
    assert send(client, batch, photo).json()["state"] == "done"


def test_a_body_that_is_longer_than_it_says_is_cut_at_its_length(server: Server, client: httpx.Client, photo: bytes) -> None:
    batch = new_batch(client)
    with raw_put(server, f"/open/api/batches/{batch}/files/1", 1000, photo) as connection:
        assert b"202" in connection.recv(1000)
    assert until_state(client, batch, "failed")["nbytes"] == 1000


def test_a_slow_drip_is_ended(server: Server, tight: httpx.Client) -> None:
    batch = new_batch(tight)
    with raw_put(server, f"/tight/api/batches/{batch}/files/1", 1000, b"x") as connection:
        connection.settimeout(10)
        assert b"408" in connection.recv(1000)
    assert file_of(tight, batch)["failure"]["code"] == "too_slow"


def test_a_client_sends_a_limited_number_of_files_at_a_time(server: Server, tight: httpx.Client) -> None:
    batch = new_batch(tight)
    with raw_put(server, f"/tight/api/batches/{batch}/files/1", 1000, b"x"):
        until(lambda: file_of(tight, batch).get("state") == "uploading")
        answer = send(tight, batch, b"x", key="2")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (429, "limit_uploads_of_client", "1")


def test_an_upload_that_waits_for_memory_says_so_and_goes_on_when_there_is_some(
    server: Server, client: httpx.Client, photo: bytes
) -> None:
    batch = new_batch(client, widths=[10])

    async def fill() -> list[Buffer]:
        held: list[Buffer] = []
        for nbytes in (1 << 23, 1 << 20, 1 << 16, 1 << 14):
            with suppress(MemoryLimitExceeded):
                while True:
                    buffer = server.pool.buffer(nbytes)
                    _ = buffer.view  # raises an error if there is no memory now
                    held.append(buffer)
        return held

    held = server.run(fill)
    with raw_put(server, f"/open/api/batches/{batch}/files/1", len(photo), photo) as connection:
        until_state(client, batch, "blocked")
        held.clear()
        assert b"202" in connection.recv(1000)
    until_state(client, batch, "done")


def test_an_upload_that_waits_for_memory_can_be_cancelled(server: Server, client: httpx.Client, photo: bytes) -> None:
    batch = new_batch(client)

    async def entry() -> FileEntry:
        return server.pages["/open"].store.batches[batch].files["1"]

    with raw_put(server, f"/open/api/batches/{batch}/files/1", len(photo), photo[:100]) as connection:
        until_state(client, batch, "uploading")
        client.delete(f"/api/batches/{batch}/files/1")
        assert b"409" in connection.recv(1000)
    assert server.run(entry).stop is None


@pytest.mark.parametrize("name", ["../../../etc/passwd", "x" * 300 + ".jpg", "👩‍👩‍👧 ☃.jpg", "a\x00b.jpg", "\u202egpj.jpg"])
def test_no_name_reaches_a_file_system(client: httpx.Client, photo: bytes, name: str) -> None:
    batch = new_batch(client, widths=[10])
    file = send(client, batch, photo, name=name).json()
    assert file["state"] == "done"
    assert not file["results"][0]["name"].startswith(("/", "."))
    assert client.get(f"/api/batches/{batch}/files/1/results/10").status_code == 200


@pytest.mark.parametrize("path", ["/..%2f..%2fsettings.py", "/js/../../settings.py", "/%2e%2e/settings.py", "//etc/passwd"])
def test_no_file_outside_the_page_is_served(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("key", ["a.b", "a%2Fb", "x" * 65, "%00"])
def test_a_key_that_is_none_is_refused(client: httpx.Client, photo: bytes, key: str) -> None:
    assert client.put(f"/api/batches/{new_batch(client)}/files/{key}", content=photo).status_code in (404, 405, 422)


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "null"}],
)
def test_a_write_of_another_site_is_refused(client: httpx.Client, headers: dict[str, str]) -> None:
    answer = client.post("/api/batches", json={}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "origin")
    assert client.get("/api/capabilities", headers=headers).status_code == 200


def test_a_write_of_the_page_itself_is_accepted(server: Server, client: httpx.Client) -> None:
    headers = {"origin": f"http://{HOST}:{server.port}", "sec-fetch-site": "same-origin"}
    assert client.post("/api/batches", json={}, headers=headers).status_code == 201


def test_every_answer_has_the_headers_of_security(client: httpx.Client) -> None:
    for path in ("/", "/js/main.js", "/api/capabilities", "/api/batches/none", "/nothing"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'; ")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_the_page_has_neither_inline_scripts_nor_inline_styles(client: httpx.Client) -> None:
    page = client.get("/").text
    assert "<script>" not in page
    assert "style=" not in page
    assert " on" not in "".join(
        tag for tag in page.split("<") if tag.startswith(("button", "input", "form", "body")) and " on" in tag
    )


def test_a_token_is_required_for_the_api_and_not_for_the_page(server: Server) -> None:
    def code(client: httpx.Client, **headers: str) -> Any:
        answer = client.post("/api/batches", json={}, headers=headers)
        return answer.json().get("code", answer.status_code)

    with server.client("/guarded") as client:
        assert client.get("/").status_code == 200
        assert code(client) == "token"
        assert code(client, authorization="Bearer wrong") == "token"
        assert code(client, authorization="Bearer secret token") == 201
        assert client.post("/api/session", json={"token": "wrong"}).status_code == 401
        assert code(client) == "token"
        session = client.post("/api/session", json={"token": "secret token"})
        assert session.status_code == 204
        cookie = session.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "path=/guarded/" in cookie


def test_another_host_name_is_refused_because_it_may_be_rebound(server: Server) -> None:
    with server.client("/guarded") as client:
        answer = client.get("/", headers={"host": "evil.example"})
        assert (answer.status_code, answer.json()["code"]) == (421, "host")
        assert client.get("/", headers={"host": f"{HOST}:1"}).status_code == 200


def test_an_id_of_a_batch_cannot_be_guessed(client: httpx.Client) -> None:
    ids = {new_batch(client) for _ in range(20)}
    assert len(ids) == 20
    assert {len(batch) for batch in ids} == {22}
