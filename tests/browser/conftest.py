"""A real browser (Debian's Chromium, by Playwright), `offloop page`, and an S3 server on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import boto3
import pytest
import pyvips
from axe_playwright_python.sync_playwright import Axe
from moto.server import ThreadedMotoServer
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage", "--mute-audio"]
BUCKET = "pictures"
TIMEOUT_MS = 20_000
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "page", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "eu-central-1"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests where there is no Chromium; `.ci/run` installs it."""
    if CHROMIUM is None:
        for item in items:
            if "browser" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason="there is no Chromium: apt-get install chromium"))


@pytest.fixture(scope="module")
def storage() -> Iterator[Any]:
    """A client of an S3 server with an empty bucket."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    library: Any = boto3  # without types
    client: Any = library.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
    )
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": CREDENTIALS["AWS_DEFAULT_REGION"]})
    yield client
    client.close()
    server.stop()


@pytest.fixture(scope="module")
def address(storage: Any) -> Iterator[str]:
    """The address of a running page."""
    endpoint = storage.meta.endpoint_url
    command = [sys.executable, "-m", "offloop.cli", "page", "--port", "0", "--workers", "2", "--memory-limit", "1GiB"]
    command += ["--storage", f"s3://{BUCKET}/page", "--storage-option", f"endpoint={endpoint}"]
    command += ["--storage-option", "allow_http=true"]
    environment = {**os.environ, **CREDENTIALS}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Playwright runs an event loop in this thread, so it ends before the tests of another module."""
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(TIMEOUT_MS)
    yield opened
    opened.close()


@pytest.fixture
def complaints() -> list[str]:
    """Errors of the console. A test with a page fails if there are any, unless it clears the list."""
    return []


@pytest.fixture
def page(context: BrowserContext, address: str, complaints: list[str]) -> Iterator[Page]:
    opened = context.new_page()

    def keep(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    opened.on("console", keep)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(address)
    yield opened
    assert complaints == []


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 pictures: one is broken, one has 100 megapixels."""
    path = tmp_path_factory.mktemp("pictures") / "holiday"
    path.mkdir()
    for number in range(22):
        noise: Any = pyvips.Image.gaussnoise(600, 400, mean=60 + 5 * number, sigma=30, seed=number).cast("uchar")
        noise.jpegsave(str(path / f"{number:02}.jpg"), Q=80)
    (path / "broken.jpg").write_bytes((path / "00.jpg").read_bytes()[:5000])
    ramp: Any = pyvips.Image.identity().embed(0, 0, 100, 1, extend="repeat").zoom(100, 10_000).copy(interpretation="b-w")
    ramp.jpegsave(str(path / "large.jpg"), Q=70)
    (path / "notes.txt").write_text("no picture")
    return path


@pytest.fixture(scope="session")
def slow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures whose conversion to AVIF takes a while."""
    path = tmp_path_factory.mktemp("pictures") / "slow"
    path.mkdir()
    for number in range(4):
        noise: Any = pyvips.Image.gaussnoise(1100, 800, mean=128, sigma=60, seed=number).cast("uchar")
        noise.jpegsave(str(path / f"slow-{number}.jpg"), Q=90)
    return path


@pytest.fixture(scope="session")
def thousand_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "thousand"
    path.mkdir()
    black: Any = pyvips.Image.black(60, 40)
    for number in range(1000):
        black.linear(1, number % 250).cast("uchar").jpegsave(str(path / f"{number:04}.jpg"))
    return path


@pytest.fixture(scope="session")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("music") / "song.wav"
    subprocess.run([sys.executable, ROOT / "docs/examples/visualizer/demo_song.py", path], check=True, capture_output=True)
    return path


def faults_of(page: Page) -> str:
    """The faults of accessibility that axe-core finds; empty if there are none."""
    axe: Any = Axe()  # without types
    found = axe.run(page)
    return found.generate_report() if found.violations_count else ""
