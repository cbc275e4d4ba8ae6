"""How many clients can use the page at once, and how late is the server's event loop meanwhile?

Each client creates a batch, sends its files four at a time, follows the events, and reads every result and the archive. The
server is a process of its own; it measures its loop, and the clients are in this one. A client that is told to come back later
(429, 503) does so, and any other error is a failure.

    python benchmarks/bench_page.py --clients 50 --files 20
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import socket
import statistics
import time
import zipfile
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pyvips
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from offloop import Pool
from offloop_page import PageSettings, make_app

LATER = {429, 503}
AT_ONCE = 4
INTERVAL_S = 0.005


def serve(listener: socket.socket, limit: str, results: Any) -> None:
    """Serve the page until SIGTERM, and put the delays of the loop and the most memory that was used."""
    delays: list[float] = []
    peaks: list[int] = []

    async def measure(pool: Pool) -> None:
        while True:
            due = time.perf_counter() + INTERVAL_S
            await anyio.sleep(INTERVAL_S)
            delays.append(max(time.perf_counter() - due, 0.0))
            if len(delays) % 20 == 0:
                peaks.append(pool.statistics().memory_used_bytes)

    @asynccontextmanager
    async def lifespan(_app: Starlette):
        async with pool, anyio.create_task_group() as tasks:
            tasks.start_soon(measure, pool)
            yield
            results.put((delays, max(peaks, default=0)))
            tasks.cancel_scope.cancel()

    pool = Pool(memory_limit=limit)
    settings = PageSettings(max_batches_per_client=1000, max_uploads_per_client=64)
    app = Starlette(routes=[Mount("/", make_app(pool, settings))], lifespan=lifespan)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listener])


async def use_page(client: httpx.AsyncClient, picture: bytes, files: int, times_s: list[float]) -> None:
    """One client, from its first request to its archive."""
    batch = (await ask(client, "POST", "/api/batches", json={"widths": [200]})).json()["id"]
    places = anyio.CapacityLimiter(AT_ONCE)

    async def send(number: int) -> None:
        async with places:
            begun = time.perf_counter()
            path = f"/api/batches/{batch}/files/{number}"
            answer = await ask(client, "PUT", path, content=picture, headers={"prefer": "wait"}, params={"name": "photo.jpg"})
            assert answer.json()["state"] == "done", answer.json()
            await ask(client, "GET", f"{path}/results/200")
            times_s.append(time.perf_counter() - begun)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow, client, batch, files)
        for number in range(files):
            tasks.start_soon(send, number)
    archive = await ask(client, "GET", f"/api/batches/{batch}/archive")
    assert len(zipfile.ZipFile(io.BytesIO(archive.content)).namelist()) == files
    await ask(client, "DELETE", f"/api/batches/{batch}")


async def follow(client: httpx.AsyncClient, batch: str, files: int) -> None:
    """Read the events until all files are done."""
    last = ""
    while True:
        headers = {"last-event-id": last} if last else {}
        async with client.stream("GET", f"/api/batches/{batch}/events", headers=headers) as response:
            async for line in response.aiter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    last = value
                if name == "data" and json.loads(value)["progress"]["done"] == files:
                    return


async def ask(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> httpx.Response:
    while True:
        answer = await client.request(method, path, **options)
        if answer.status_code not in LATER:
            answer.raise_for_status()
            return answer
        await anyio.sleep(float(answer.headers["retry-after"]))


async def run_clients(address: str, clients: int, files: int, picture: bytes) -> list[float]:
    times_s: list[float] = []
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=300, limits=limits) as client, anyio.create_task_group() as tasks:
        for _ in range(clients):
            tasks.start_soon(use_page, client, picture, files, times_s)
    return times_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--memory-limit", default="512MiB")
    parser.add_argument("--smoke", action="store_true", help="a short run")
    options = parser.parse_args()
    clients, files = (3, 2) if options.smoke else (options.clients, options.files)
    noise: Any = pyvips.Image.gaussnoise(1200, 800, mean=128, sigma=30).cast("uchar")
    picture = noise.jpegsave_buffer(Q=80)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = context.Process(target=serve, args=(listener, options.memory_limit, results))
        server.start()
    begun = time.perf_counter()
    times_s = anyio.run(run_clients, address, clients, files, picture)
    took_s = time.perf_counter() - begun
    server.terminate()
    delays, peak = results.get(timeout=20)
    server.join()
    delays.sort()
    count = clients * files
    print(f"{clients} clients, {files} files of {len(picture):,} bytes each: {took_s:.1f} s, {count / took_s:.1f} files/s")
    print(f"file, from its first byte to its result: median {statistics.median(times_s):.2f} s, most {max(times_s):.2f} s")
    p50, p99 = (delays[int(len(delays) * part)] * 1e3 for part in (0.5, 0.99))
    print(f"delay of the server's loop: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    print(f"shared memory of the pool: {peak / 1e6:.1f} MB at most")


if __name__ == "__main__":
    main()
