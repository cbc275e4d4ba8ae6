"""`offloop page`: the address that it prints, its token, and its end while a page is open."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

COMMAND = [sys.executable, "-m", "offloop.cli", "page"]


@pytest.fixture
def page() -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "OFFLOOP_PAGE_MAX_FILES": "3"}
    command = [*COMMAND, "--port", "0", "--workers", "1", "--token", "a token"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_signal_ends_the_server_at_once_also_while_a_page_follows_a_batch(page: subprocess.Popen[str]) -> None:
    assert page.stdout is not None
    assert page.stderr is not None
    found = re.fullmatch(r"(http://127\.0\.0\.1:\d+/)#token=a token\n", page.stdout.readline())
    assert found
    with httpx.Client(base_url=found[1], headers={"authorization": "Bearer a token"}) as client:
        assert client.get("/api/capabilities").json()["limits"]["max_files"] == 3
        batch = client.post("/api/batches", json={}).json()["id"]
        with client.stream("GET", f"/api/batches/{batch}/events") as events:
            chunks = events.iter_text()
            next(chunks)
            asked = time.monotonic()
            page.send_signal(signal.SIGTERM)
            "".join(chunks)
    page.wait(10)
    assert time.monotonic() - asked < 5
    assert page.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["--max-files", "0"], "max_files"), (["--storage", "nonsense"], "storage"), (["--memory-limit", "much"], "memory_limit")],
)
def test_a_wrong_setting_is_a_usage_error_that_names_it(arguments: list[str], reason: str) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert reason in done.stderr
