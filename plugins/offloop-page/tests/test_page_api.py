"""The HTTP API, as curl and the page use it: files in, progress, results, archive, storage."""

from __future__ import annotations

import hashlib
import io
import zipfile
from typing import Any

import httpx
import pyvips

from .calls import events, file_of, new_batch, send, until, until_state
from .conftest import Server


def test_a_file_is_converted_in_three_calls(client: httpx.Client, photo: bytes) -> None:
    batch = new_batch(client, widths=[100], format="webp")
    answer = send(client, batch, photo, name="holiday/me.jpg")
    assert answer.status_code == 200
    file = answer.json()
    assert (file["state"], file["name"], file["share"]) == ("done", "holiday/me.jpg", 1)
    assert file["source"]["media_type"] == "image/jpeg"
    [result] = file["results"]
    assert (result["name"], result["width"], result["media_type"]) == ("holiday/me.webp", 100, "image/webp")
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"/api/batches/{batch}/archive").content))
    assert archive.testzip() is None
    assert hashlib.sha256(archive.read("holiday/me.webp")).hexdigest() == result["sha256"]


def test_a_result_is_an_attachment_with_its_own_type_and_never_something_else(client: httpx.Client, photo: bytes) -> None:
    batch = new_batch(client, format="png", widths=[20])
    send(client, batch, photo, name="ünï ☃.jpg")
    answer = client.get(f"/api/batches/{batch}/files/1/results/20")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%BCn%C3%AF%20%E2%98%83.png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert hashlib.sha256(answer.content).hexdigest() == answer.headers["etag"].strip('"')
    again = client.get(f"/api/batches/{batch}/files/1/results/20", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    preview: Any = pyvips.Image.new_from_buffer(client.get(f"/api/batches/{batch}/files/1/preview").content, "")
    assert max(preview.width, preview.height) <= 128
    assert client.get(f"/api/batches/{batch}/files/1/results/21").json()["code"] == "no_result"


def test_a_file_has_a_result_for_each_width(client: httpx.Client, photo: bytes) -> None:
    batch = new_batch(client, widths=[200, 100, 50], format="jpeg", quality=60)
    file = send(client, batch, photo, name="me.jpg").json()
    assert [(result["name"], result["width"]) for result in file["results"]] == [
        ("me-200w.jpg", 200),
        ("me-100w.jpg", 100),
        ("me-50w.jpg", 50),
    ]
    assert file["has_preview"]


def test_a_result_has_at_most_the_bytes_that_were_asked_for(client: httpx.Client, photo: bytes) -> None:
    batch = new_batch(client, widths=[200], format="jpeg", max_bytes=4000)
    [result] = send(client, batch, photo).json()["results"]
    assert 2000 < result["nbytes"] <= 4000
    client.patch(f"/api/batches/{batch}", json={"widths": [200], "max_bytes": 100})
    assert send(client, batch, photo).json()["failure"]["code"] == "output_too_large"


def test_results_of_one_name_are_told_apart_in_the_archive(client: httpx.Client, photo: bytes) -> None:
    batch = new_batch(client, widths=[10])
    for key, name in {"1": "a.jpg", "2": "a.jpg", "3": "A.png", "4": "../a.jpg"}.items():
        assert send(client, batch, photo, key=key, name=name).json()["state"] == "done"
    names = zipfile.ZipFile(io.BytesIO(client.get(f"/api/batches/{batch}/archive").content)).namelist()
    assert sorted(names) == ["A (3).webp", "a (2).webp", "a (4).webp", "a.webp"] or len({n.casefold() for n in names}) == 4


def test_an_archive_without_results_is_a_problem(client: httpx.Client) -> None:
    answer = client.get(f"/api/batches/{new_batch(client)}/archive")
    assert (answer.status_code, answer.json()["code"]) == (409, "no_results")


def test_settings_can_change_for_the_files_that_follow(client: httpx.Client, photo: bytes) -> None:
    batch = new_batch(client, widths=[10], format="png")
    send(client, batch, photo)
    assert client.patch(f"/api/batches/{batch}", json={"widths": [20], "format": "jpeg"}).status_code == 200
    [result] = send(client, batch, photo).json()["results"]
    assert (result["width"], result["media_type"], file_of(client, batch)["attempt"]) == (20, "image/jpeg", 2)


def test_wrong_settings_are_a_problem_that_names_the_field(client: httpx.Client) -> None:
    for wrong in ({"quality": 0}, {"format": "bmp"}, {"widths": [0]}, {"widths": [1] * 9}, {"widths": [5, 5]}, {"nonsense": 1}):
        answer = client.post("/api/batches", json=wrong)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert next(iter(wrong)) in answer.json()["detail"]
    assert client.post("/api/batches", content=b"{").json()["code"] == "invalid"


def test_a_broken_file_has_a_reason_and_the_others_go_on(client: httpx.Client, photo: bytes) -> None:
    batch = new_batch(client, widths=[10])
    broken = send(client, batch, photo[: len(photo) // 2], key="b").json()
    text = send(client, batch, b"no picture", key="t").json()
    fine = send(client, batch, photo, key="f").json()
    assert [file["state"] for file in (broken, text, fine)] == ["failed", "failed", "done"]
    assert text["failure"]["code"] == "unsupported_format"
    assert not broken["failure"]["can_retry"]
    assert client.get(f"/api/batches/{batch}").json()["progress"]["failed"] == 2


def test_events_are_a_snapshot_then_changes_and_continue_after_the_last_one(client: httpx.Client, photo: bytes) -> None:
    batch = new_batch(client, widths=[10])
    client.post(f"/api/batches/{batch}/files", json=[{"key": "1", "name": "a.jpg"}, {"key": "2", "name": "b.jpg"}])
    with client.stream("GET", f"/api/batches/{batch}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        stream = events(response)
        _, snapshot = next(stream)
        assert snapshot["is_snapshot"]
        assert [file["state"] for file in snapshot["files"]] == ["expected", "expected"]
        send(client, batch, photo, wait=False)
        states: list[str] = []
        last = ""
        while states[-1:] != ["done"]:
            last, change = next(stream)
            assert not change["is_snapshot"]
            states += [file["state"] for file in change["files"] if file["key"] == "1"]
            assert {file["key"] for file in change["files"]} == {"1"}
    with client.stream("GET", f"/api/batches/{batch}/events", headers={"last-event-id": last}) as response:
        stream = events(response)
        client.delete(f"/api/batches/{batch}/files/2")
        _, change = next(stream)
        assert [(file["key"], file["state"]) for file in change["files"]] == [("2", "cancelled")]


def test_an_event_stream_ends_after_its_time_and_when_its_batch_is_dropped(server: Server) -> None:
    with server.client("/tight") as client, client.stream("GET", f"/api/batches/{new_batch(client)}/events") as response:
        assert "event: dropped" not in response.read().decode()
    with server.client() as client:
        batch = new_batch(client)
        with client.stream("GET", f"/api/batches/{batch}/events") as response:
            stream = response.iter_text()
            next(stream)
            assert client.delete(f"/api/batches/{batch}").status_code == 204
            assert "event: dropped" in "".join(stream)
        assert client.get(f"/api/batches/{batch}").json()["code"] == "no_batch"


def test_a_conversion_can_be_cancelled_and_sent_again(client: httpx.Client, noise: bytes, photo: bytes) -> None:
    batch = new_batch(client, format="avif", quality=90)
    send(client, batch, noise, wait=False)
    until_state(client, batch, "working")
    assert send(client, batch, noise).json()["code"] == "in_progress"
    assert client.delete(f"/api/batches/{batch}/files/1").json()["state"] == "cancelled"
    assert client.delete(f"/api/batches/{batch}/files/1").status_code == 200
    client.patch(f"/api/batches/{batch}", json={"widths": [10]})
    again = send(client, batch, photo).json()
    assert (again["state"], again["attempt"]) == ("done", 2)
    assert client.delete(f"/api/batches/{batch}/files/1").json()["code"] == "ended"


def test_cancel_all_stops_what_runs_and_what_waits(client: httpx.Client, noise: bytes) -> None:
    batch = new_batch(client, format="avif", quality=90)
    for key in "abc":
        send(client, batch, noise, key=key, wait=False)
    assert client.post(f"/api/batches/{batch}/cancel").json() == {"cancelled": 3}
    assert {file_of(client, batch, key)["state"] for key in "abc"} == {"cancelled"}


def test_memory_of_results_comes_back_when_their_batch_is_deleted(server: Server, photo: bytes) -> None:
    with server.client() as client:
        batch = new_batch(client, widths=[300])
        send(client, batch, photo)
        with_result = server.used_bytes()
        client.delete(f"/api/batches/{batch}")
        until(lambda: server.used_bytes() < with_result)


def test_results_are_stored_and_each_file_tells_where(server: Server, photo: bytes) -> None:
    with server.client("/stored") as client:
        batch = new_batch(client, widths=[10, 20])
        sha256 = {result["name"]: result["sha256"] for result in send(client, batch, photo, name="a/b.jpg").json()["results"]}
        assert client.post(f"/api/batches/{batch}/upload").json() == {"uploads": 1}
        with client.stream("GET", f"/api/batches/{batch}/events") as response:
            upload = next(
                file["upload"]
                for _, change in events(response)
                for file in change["files"]
                if file["upload"]["state"] == "stored"
            )
        assert upload["detail"].startswith("memory:")
        assert client.post(f"/api/batches/{batch}/upload").json() == {"uploads": 0}
        store: Any = server.pages["/stored"].storage._store  # pyright: ignore[reportOptionalMemberAccess]
        for name, digest in sha256.items():
            stored = bytes(store.get(f"{batch[:8]}/{name}").bytes())
            assert hashlib.sha256(stored).hexdigest() == digest


def test_a_server_without_storage_says_so(client: httpx.Client) -> None:
    assert client.post(f"/api/batches/{new_batch(client)}/upload").json()["code"] == "no_storage"
    assert client.get("/api/capabilities").json()["storage"] is None
