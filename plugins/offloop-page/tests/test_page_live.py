"""The live page's server: frames with credit over a WebSocket, and videos."""

from __future__ import annotations

import io
import json
import struct
import wave
from math import sin
from typing import Any

import av
import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from .calls import until
from .conftest import HOST, Server


@pytest.fixture(scope="module")
def song() -> bytes:
    """Two seconds of a tone."""
    file = io.BytesIO()
    with wave.open(file, "wb") as track:
        track.setparams((1, 2, 8000, 0, "NONE", ""))
        track.writeframes(b"".join(struct.pack("<h", round(9000 * sin(number / 5))) for number in range(16_000)))
    return file.getvalue()


@pytest.fixture
def track(client: httpx.Client, song: bytes) -> str:
    return client.post("/api/tracks", content=song).json()["id"]


def socket(server: Server, track: str, query: str = "width=64&height=64&fps=20", **headers: str) -> ClientConnection:
    url = f"ws://{HOST}:{server.port}/open/api/tracks/{track}/frames?{query}"
    return connect(url, additional_headers=headers, compression=None)


def test_no_frame_comes_without_credit_and_then_the_newest_one(server: Server, track: str) -> None:
    with socket(server, track) as frames:
        frames.send("1")
        first = json.loads(frames.recv(timeout=10))
        picture = frames.recv(timeout=10)
        assert isinstance(picture, bytes)
        assert picture[:2] == b"\xff\xd8"
        with pytest.raises(TimeoutError):
            frames.recv(timeout=1)
        frames.send("2")
        second = json.loads(frames.recv(timeout=10))
        assert (first["index"], first["dropped"]) == (0, 0)
        assert second["dropped"] >= 3
        assert second["index"] == second["dropped"] + 1
        assert second["time_s"] > first["time_s"] + 0.1
    until(lambda: not server.pool.statistics().running)


def test_the_frames_end_with_the_music(server: Server, track: str) -> None:
    with socket(server, track, "width=64&height=64&fps=10&seconds=0.3") as frames:
        frames.send("100")
        messages = list(frames)
        assert [isinstance(message, bytes) for message in messages] == [False, True] * (len(messages) // 2)
    assert frames.close_code == 1000


@pytest.mark.parametrize("query", ["width=1", "fps=1000", "palette=none", "nonsense=1"])
def test_a_wrong_picture_is_refused_with_a_reason(server: Server, track: str, query: str) -> None:
    with socket(server, track, query) as frames, pytest.raises(ConnectionClosed) as caught:
        frames.recv(timeout=10)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1008
    assert query.partition("=")[0] in caught.value.rcvd.reason


def test_a_file_that_is_no_music_closes_the_socket_with_a_reason(server: Server, client: httpx.Client) -> None:
    track = client.post("/api/tracks", content=b"no music").json()["id"]
    with socket(server, track) as frames:
        frames.send("1")
        with pytest.raises(ConnectionClosed) as caught:
            frames.recv(timeout=10)
    assert caught.value.rcvd is not None
    assert "unsupported_format" in caught.value.rcvd.reason


def test_a_socket_of_another_site_is_refused(server: Server, track: str) -> None:
    with pytest.raises(Exception, match="403"):
        socket(server, track, origin="https://evil.example")


def test_a_video_has_all_frames_and_the_sound(client: httpx.Client, track: str) -> None:
    video = f"/api/tracks/{track}/video"
    assert client.get(video).json()["code"] == "no_video"
    assert client.post(video, json={"width": 64, "height": 64, "fps": 10, "seconds": 1}).status_code == 202
    assert until(lambda: (state := client.get(video).json())["state"] != "working" and state)["fraction"] == 1
    answer = client.get(f"{video}/file")
    assert answer.headers["content-type"] == "video/mp4"
    container: Any
    with av.open(io.BytesIO(answer.content)) as container:
        assert len(list(container.decode(video=0))) == 10
        assert len(container.streams.audio) == 1


def test_a_video_can_be_cancelled(client: httpx.Client, track: str) -> None:
    video = f"/api/tracks/{track}/video"
    client.post(video, json={"width": 640, "height": 640, "fps": 60})
    assert client.delete(video).json()["state"] == "cancelled"
    assert client.get(f"{video}/file").json()["code"] == "no_video"
    assert client.delete(f"/api/tracks/{track}").status_code == 204
    assert client.get(video).json()["code"] == "no_track"


def test_too_large_and_too_many_tracks_have_limits(server: Server, song: bytes) -> None:
    with server.client("/tight") as client:
        assert client.post("/api/tracks", content=b"x" * 50_000).json()["code"] == "too_large"
        first, second = (client.post("/api/tracks", content=song[:1000]).json()["id"] for _ in range(2))
        assert client.delete(f"/api/tracks/{first}").json()["code"] == "no_track"
        assert client.delete(f"/api/tracks/{second}").status_code == 204
