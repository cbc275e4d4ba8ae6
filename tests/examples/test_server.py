"""The example server under a real uvicorn: what it answers, what it does when things go wrong, how it ends.

A worker that is stopped (SIGSTOP) stands for one that is busy: it takes a task and gets nowhere, for as long as a test wants.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pyvips

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

LAUNCH = """
import json, socket, sys
sys.path.insert(0, sys.argv[1])
import uvicorn
import server
from starlette.responses import JSONResponse
from offloop.asgi import pool_of
server.MAX_SOURCE_BYTES = 1_000_000
app = server.make_app(**json.loads(sys.argv[3]))

async def statistics(request):
    return JSONResponse(pool_of(request).statistics().to_dict())

app.add_route("/statistics", statistics)
config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5)
uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[2]))])
"""


class Server:
    """The example in a process of its own. Its socket listens before it starts, so that no client comes too early."""

    def __init__(self, **settings: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.address: tuple[str, int] = listener.getsockname()
            descriptor = listener.fileno()
            command = [sys.executable, "-c", LAUNCH, str(EXAMPLES), str(descriptor), json.dumps(settings)]
            self.process = subprocess.Popen(command, pass_fds=[descriptor], stderr=subprocess.PIPE, text=True)
        self.client = httpx.Client(base_url=f"http://{self.address[0]}:{self.address[1]}", timeout=20)

    def post(self, source: bytes, **query: Any) -> httpx.Response:
        return self.client.post("/thumbnail", content=source, params=query)

    def post_aside(self, source: bytes, **query: Any) -> tuple[threading.Thread, list[httpx.Response]]:
        """Send a picture in another thread; the answer comes into the list."""
        answers: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: answers.append(self.post(source, **{"width": 10, **query})))
        thread.start()
        return thread, answers

    def statistics(self) -> Any:
        return self.client.get("/statistics").json()

    def workers(self) -> list[int]:
        """Its pool's processes."""
        numbered = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [int(entry.name) for entry in numbered if self._is_worker(entry)]

    def stop_worker(self) -> int:
        """Stop its only worker, once that is ready."""
        until(lambda: self.statistics()["workers"] == {"idle": 1})
        [pid] = self.workers()
        os.kill(pid, signal.SIGSTOP)
        return pid

    def end(self) -> tuple[int, str]:
        """SIGTERM: its exit code and what it wrote to stderr."""
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said

    def close(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _is_worker(self, entry: Path) -> bool:
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            return parent == self.process.pid and "offloop.worker" in (entry / "cmdline").read_text()
        except (OSError, ValueError):
            return False  # it ended while we looked


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start servers whose pools have the given settings and, but for those, one worker."""
    servers: list[Server] = []

    def start(**settings: Any) -> Server:
        servers.append(Server(**{"workers": 1, "memory_limit": "256MiB", **settings}))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A JPEG, 400 wide, 300 high."""
    picture: Any = pyvips.Image.gaussnoise(400, 300, mean=128, sigma=30).cast("uchar")
    return picture.jpegsave_buffer()


def test_a_picture_comes_back_as_a_thumbnail(serve: Callable[..., Server], photo: bytes):
    server = serve()
    answer = server.post(photo, width=100, format="png")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    thumbnail: Any = pyvips.Image.new_from_buffer(answer.content, "")
    assert (thumbnail.get("vips-loader"), thumbnail.width, thumbnail.height) == ("pngload_buffer", 100, 75)
    until(lambda: server.statistics()["memory_used_bytes"] == 0)  # the result's memory is back when its last slice was sent


def test_a_large_result_is_sent_whole_in_slices(serve: Callable[..., Server], photo: bytes):
    server = serve()
    answer = server.post(photo, width=2000, format="png")  # several megabytes: many slices
    assert (answer.status_code, len(answer.content) > 1_000_000) == (200, True), answer.text[:200]
    assert int(answer.headers["content-length"]) == len(answer.content)
    thumbnail: Any = pyvips.Image.new_from_buffer(answer.content, "", fail_on="warning")
    assert (thumbnail.width, 0 < thumbnail.avg() < 255) == (2000, True)


def test_a_body_of_unknown_length_is_taken_piece_by_piece(serve: Callable[..., Server], photo: bytes):
    pieces = (photo[start : start + 1000] for start in range(0, len(photo), 1000))
    answer = serve().client.post("/thumbnail", content=pieces, params={"width": 10})
    assert (answer.status_code, answer.headers["content-type"], answer.headers["vary"]) == (200, "image/jpeg", "accept")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"width": 0}, 422, "invalid_task"),
        ({"width": "wide"}, 422, "invalid_task"),
        ({}, 422, "invalid_task"),
        ({"width": 10, "format": "bmp"}, 422, "invalid_task"),
        ({"width": 10_000_000}, 413, "too_many_pixels"),
    ],
    ids=str,
)
def test_a_wish_that_cannot_be_met_is_refused(
    serve: Callable[..., Server], photo: bytes, query: dict[str, Any], status: int, code: str
):
    answer = serve().post(photo, **query)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_that_is_no_picture_is_refused(serve: Callable[..., Server], photo: bytes):
    server = serve()
    unknown, broken, empty = (server.post(body, width=10) for body in (b"plain text", photo[:200], b""))
    assert (unknown.status_code, "unsupported_format" in unknown.text) == (415, True)
    assert (broken.status_code, "corrupt_source" in broken.text) == (422, True)
    assert empty.status_code == 422
    assert server.post(photo, width=10).status_code == 200


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_refused(serve: Callable[..., Server], announced: bool):
    server = serve()
    body = b"\xff\xd8\xff" + bytes(1_000_000)
    pieces = (body[start : start + 100_000] for start in range(0, len(body), 100_000))
    answer = server.client.post("/thumbnail", content=body if announced else pieces, params={"width": 10})
    assert (answer.status_code, answer.json()["code"]) == (413, "source_too_large")
    assert server.statistics()["memory_used_bytes"] == 0


def test_when_too_many_wait_a_client_is_told_to_come_back(serve: Callable[..., Server], photo: bytes):
    server = serve(max_queue=1)
    pid = server.stop_worker()
    first, _ = server.post_aside(photo)
    until(lambda: server.statistics()["running"] == 1)
    second, _ = server.post_aside(photo)
    until(lambda: server.statistics()["waiting"] == 1)
    answer = server.post(photo, width=10)
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "queue_full", "1")
    os.kill(pid, signal.SIGCONT)
    first.join()
    second.join()
    assert server.statistics()["completed"] == 2


def test_a_task_that_takes_too_long_is_a_gateway_timeout(serve: Callable[..., Server], photo: bytes):
    server = serve(timeout=0.3)
    server.stop_worker()
    answer = server.post(photo, width=10)
    assert (answer.status_code, answer.json()["code"]) == (504, "task_timeout")
    until(lambda: server.statistics()["workers"] == {"idle": 1})  # another worker took the place of the one that did not obey
    assert server.statistics()["worker_starts"] == 2


def test_a_worker_that_dies_costs_one_request(serve: Callable[..., Server], photo: bytes):
    server = serve()
    until(lambda: server.statistics()["workers"] == {"idle": 1})
    [pid] = server.workers()
    before = processor_ticks(pid)
    thread, answers = server.post_aside(photo, width=1200, format="avif")  # seconds of work
    until(lambda: processor_ticks(pid) > before + 20)  # it has begun: a task that has not is given to another worker
    os.kill(pid, signal.SIGKILL)
    thread.join()
    assert (answers[0].status_code, answers[0].json()["code"]) == (503, "worker_died")
    assert answers[0].json()["detail"].startswith("the worker process that had the task died during vips (Resize, Avif)")
    assert server.post(photo, width=10).status_code == 200


def test_the_log_has_the_cause_that_the_client_is_not_told(serve: Callable[..., Server], photo: bytes):
    server = serve()
    until(lambda: server.statistics()["workers"] == {"idle": 1})
    [pid] = server.workers()
    before = processor_ticks(pid)
    thread, answers = server.post_aside(photo, width=1200, format="avif")
    until(lambda: processor_ticks(pid) > before + 20)
    os.kill(pid, signal.SIGSEGV)
    thread.join()
    assert "SIGSEGV" not in answers[0].text
    _, said = server.end()
    assert "the worker was ended by SIGSEGV during vips (Resize, Avif)" in said
    assert "Fatal Python error: Segmentation fault" in said


def test_a_client_that_leaves_during_its_task_cancels_it(serve: Callable[..., Server], photo: bytes):
    server = serve(timeout=None)
    server.stop_worker()
    with socket.create_connection(server.address) as connection:
        connection.sendall(request(len(photo)) + photo)
        until(lambda: server.statistics()["running"] == 1)
    until(lambda: server.statistics()["cancelled"] == 1)
    assert (server.statistics()["running"], server.statistics()["memory_used_bytes"]) == (0, 0)
    assert server.post(photo, width=10).status_code == 200
    assert server.end()[1] == ""


def test_a_client_that_leaves_during_its_upload_gives_the_memory_back(serve: Callable[..., Server], photo: bytes):
    server = serve()
    with socket.create_connection(server.address) as connection:
        connection.sendall(request(len(photo)) + photo[: len(photo) // 2])
        until(lambda: server.statistics()["memory_used_bytes"] > 0)
    until(lambda: server.statistics()["memory_used_bytes"] == 0)
    assert server.statistics()["submitted"] == 0
    assert server.end()[1] == ""


def test_a_client_that_leaves_during_its_response_gives_the_memory_back(serve: Callable[..., Server], photo: bytes):
    server = serve()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(server.address)
        head = f"POST /thumbnail?width=4000&format=png HTTP/1.1\r\nHost: here\r\nContent-Length: {len(photo)}\r\n\r\n"
        connection.sendall(head.encode() + photo)
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        assert server.statistics()["leases"]["caller"] == 1  # the rest waits for this client
    until(lambda: server.statistics()["leases"]["caller"] == 0)
    assert server.end()[1] == ""


def test_a_form_with_a_file_is_accepted_and_one_without_is_refused(serve: Callable[..., Server], photo: bytes):
    server = serve()
    answer = server.client.post("/thumbnail", files={"file": photo}, params={"width": 10}, headers={"accept": "image/avif"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/avif")
    refused = server.client.post("/thumbnail", files={"picture": photo}, params={"width": 10})
    assert (refused.status_code, refused.json()["code"]) == (422, "no_file")
    large = server.client.post("/thumbnail", files={"file": bytes(1_000_001)}, params={"width": 10})
    assert (large.status_code, large.json()["code"]) == (413, "source_too_large")
    until(lambda: server.statistics()["memory_used_bytes"] == 0)


def test_the_verdict_for_a_load_balancer_is_that_of_the_pool(serve: Callable[..., Server]):
    server = serve()
    until(lambda: server.statistics()["workers"] == {"idle": 1})
    answer = server.client.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "reasons": []})


def test_libvips_is_loaded_in_workers_and_not_in_the_server(serve: Callable[..., Server], photo: bytes):
    server = serve()
    assert server.post(photo, width=10).status_code == 200
    [worker] = server.workers()
    assert "libvips" in Path(f"/proc/{worker}/maps").read_text()
    assert "libvips" not in Path(f"/proc/{server.process.pid}/maps").read_text()


def test_sigterm_ends_it_and_every_worker(serve: Callable[..., Server], photo: bytes):
    server = serve(workers=2)
    assert server.post(photo, width=10).status_code == 200
    workers = server.workers()
    assert len(workers) == 2
    exit_code, said = server.end()
    assert (exit_code, said) == (-signal.SIGTERM, "")  # uvicorn closes down, then dies of the signal that it was sent
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def request(nbytes: int) -> bytes:
    return f"POST /thumbnail?width=10 HTTP/1.1\r\nHost: here\r\nContent-Length: {nbytes}\r\n\r\n".encode()


def processor_ticks(pid: int) -> int:
    """The CPU time that a process has used, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def until(condition: Callable[[], bool]) -> None:
    """Ask again and again; a condition that does not come true fails the test."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)
