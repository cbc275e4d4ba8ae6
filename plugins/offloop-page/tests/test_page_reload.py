"""`uvicorn --reload` with an open page restarts at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from .calls import until


def test_a_reload_does_not_wait_for_a_page_that_follows_a_batch(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("from offloop_page import make_app\n\napp = make_app(pool_options={'workers': 1})\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "app:app", "--reload", "--reload-delay", "0.05", "--port", str(port)]
    command += ["--log-level", "warning"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with (
        subprocess.Popen(command, cwd=tmp_path, env=environment) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):

        def batch() -> str | None:
            try:
                return client.post("/api/batches", json={}).json()["id"]
            except httpx.TransportError:
                return None

        try:
            old = until(batch)
            with client.stream("GET", f"/api/batches/{old}/events") as events:
                chunks = events.iter_text()
                next(chunks)
                started = time.monotonic()
                (tmp_path / "app.py").write_text((tmp_path / "app.py").read_text() + "\n# changed\n")
                "".join(chunks)  # ends when the old server stops
            assert time.monotonic() - started < 5
            until(lambda: batch() and client.get(f"/api/batches/{old}").status_code == 404)
        finally:
            process.terminate()
