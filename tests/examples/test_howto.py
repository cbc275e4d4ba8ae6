"""The programs of the how-to pages run as they are printed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pypdfium2
import pytest
from aiohttp.test_utils import TestClient as AiohttpClient
from aiohttp.test_utils import TestServer as AiohttpServer
from litestar.testing import TestClient as LitestarClient
from obstore.store import MemoryStore
from page_fragments import fragment, run
from starlette.testclient import TestClient

from offloop import Encoded, Pool, QueueFull, TaskFailed, WorkerGroup
from offloop.testing import run_inline
from offloop.testing.faults import Echo, FaultsPlugin, HoldOn, Noop, Progress
from offloop_vips import Resize, Webp

pytestmark = pytest.mark.anyio

PHOTO = Path(__file__).parents[2] / "docs" / "photos" / "coffee.webp"
ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the library has no other loop


def is_webp(data: bytes) -> bool:
    return data[8:12] == b"WEBP"


def call_over_http(client: Any) -> None:
    """A picture becomes a thumbnail, and a file that is no picture is refused with the reason."""
    answer = client.post("/thumbnail", content=PHOTO.read_bytes())
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    assert is_webp(answer.content)
    answer = client.post("/thumbnail", content=b"no picture")
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_format")


@ASYNCIO
async def test_aiohttp(anyio_backend: object, saved: Callable[[str, str], Any]) -> None:
    module = saved("aiohttp_service", fragment("docs/howto/aiohttp.md", "cleanup_ctx"))
    async with AiohttpClient(AiohttpServer(module.app)) as client:
        async with client.post("/thumbnail", data=PHOTO.read_bytes()) as answer:
            assert (answer.status, answer.content_type) == (200, "image/webp")
            assert is_webp(await answer.read())
        async with client.post("/thumbnail", data=b"no picture") as answer:
            assert (answer.status, (await answer.json())["code"]) == (415, "unsupported_format")


def test_litestar(saved: Callable[[str, str], Any]) -> None:
    module = saved("litestar_service", fragment("docs/howto/litestar.md", "Litestar([thumbnail]"))
    with LitestarClient(module.app) as client:
        call_over_http(client)


def test_django(saved: Callable[[str, str], Any]) -> None:
    module = saved("django_service", fragment("docs/howto/django.md", "urlpatterns"))
    with TestClient(module.application) as client:
        call_over_http(client)


@ASYNCIO
async def test_background_jobs(anyio_backend: object, saved: Callable[[str, str], Any], tmp_path: Path) -> None:
    module = saved("jobs_service", fragment("docs/howto/background-jobs.md", "InMemoryBroker"))
    module.broker.is_worker_process = True
    await module.broker.startup()
    try:
        queued = await module.make_thumbnail.kiq(str(PHOTO), str(tmp_path / "small.webp"))
        result = await queued.wait_result(timeout=40)
    finally:
        await module.broker.shutdown()
    assert not result.is_err
    assert (tmp_path / "small.webp").stat().st_size == result.return_value


async def test_progress(anyio_backend: object, tmp_path: Path) -> None:
    names = await run(fragment("docs/howto/progress-sse.md", "progress_events"))
    go = tmp_path / "go"
    events: list[str] = []
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        pipeline = [Progress(0.5), HoldOn(str(go)), Echo()]
        async for event in names["progress_events"](pool, b"source", pipeline):
            events.append(event)
            if '"percent": 50' in event:
                go.touch()
    assert any('"percent": 50' in event for event in events)
    assert events[-1] == 'event: done\ndata: {"bytes": 6}\n\n'


async def test_object_storage(anyio_backend: object) -> None:
    names = await run(fragment("docs/howto/object-storage.md", "convert_object"))
    if anyio_backend == ("trio", {}):
        pytest.skip("obstore has futures of asyncio")
    store = MemoryStore()
    await store.put_async("photo.webp", PHOTO.read_bytes())
    async with Pool(1) as pool:
        nbytes = await names["convert_object"](pool, store, "photo.webp", "small.webp", [Resize(100), Webp()])
    stored = bytes(await (await store.get_async("small.webp")).bytes_async())
    assert len(stored) == nbytes
    assert is_webp(stored)


@pytest.fixture
def pages(saved: Callable[[str, str], Any]) -> Any:
    """The module of the functions for PDF files."""
    return saved("pages", fragment("docs/howto/pdf-pages.md", "preload="))


@ASYNCIO
async def test_pdf_pages(anyio_backend: object, pages: Any, tmp_path: Path) -> None:
    document: Any = pypdfium2.PdfDocument.new()
    document.new_page(200, 100).close()
    document.save(tmp_path / "empty.pdf")
    document.close()
    async with Pool(1, plugins=["functions"]) as pool:
        assert (await pages.first_page(pool, (tmp_path / "empty.pdf").read_bytes()))[1:4] == b"PNG"
        with pytest.raises(TaskFailed, match="page 0 cannot be rendered"):
            await pages.first_page(pool, b"no PDF")


def test_a_service_of_pdf_pages(saved: Callable[[str, str], Any], pages: Any) -> None:
    service = saved("pdf_service", fragment("docs/howto/pdf-pages.md", "PoolDep"))
    tests: Any = saved("pdf_service_tests", fragment("docs/howto/pdf-pages.md", "def test_"))
    assert (service.app, service.render_page) == (tests.app, pages.render_page)
    tests.test_a_page_is_sent_as_png()
    tests.test_a_page_that_is_not_there_is_refused()


@ASYNCIO
async def test_models(anyio_backend: object, saved: Callable[[str, str], Any]) -> None:
    module = saved("moods", fragment("docs/howto/models.md", "MoodModel"))
    async with Pool(1, plugins=["functions"], groups=[WorkerGroup("functions", workers=1)]) as pool:
        assert await module.moods(pool, ["good good", "bad"]) == [2.0, -1.0]


def test_a_custom_processor() -> None:
    names: dict[str, Any] = {}
    exec(fragment("docs/howto/custom-processor.md", "ShoutPlugin"), names)
    result = run_inline(names["ShoutProcessor"](), Encoded(b"hello"), [names["Shout"](marks=2)])
    assert bytes(result.data) == b"HELLO!!"


@ASYNCIO
async def test_time_limits(anyio_backend: object, saved: Callable[[str, str], Any]) -> None:
    module = saved("patterns", fragment("docs/howto/time-limits.md", "search_safely"))
    async with Pool(1, plugins=["functions"]) as pool:
        assert await module.search_safely(pool, "(a+)+$", "a" * 40 + "b") is None
        assert await module.search_safely(pool, "a+", "baa") is True


async def test_containers(anyio_backend: object) -> None:
    names = await run(fragment("docs/howto/containers.md", "pool_for_container"))
    assert isinstance(names["pool_for_container"](1), Pool)
    with pytest.raises(SystemExit, match="--shm-size"):
        names["pool_for_container"](1 << 60)


async def test_tests_with_fakes(anyio_backend: object) -> None:
    names = await run(fragment("docs/howto/test-with-fakes.md", "scripted_pool"), __name__="test_of_a_service")
    await names["test_each_step_is_for_one_task"]()


async def test_tenants(anyio_backend: object, tmp_path: Path) -> None:
    names = await run(fragment("docs/howto/tenants.md", "tenant_weights"))
    async with names["make_pool"]() as pool:
        result = await names["run_for"](pool, "gold", PHOTO.read_bytes(), [Resize(10), Webp()])
        assert result.info.width == 10
    async with Pool(1, plugins=[FaultsPlugin]) as pool, anyio.create_task_group() as tasks:
        for _ in range(101):
            tasks.start_soon(names["run_for"], pool, "free", b"", [HoldOn(str(tmp_path / "go"))])
        while pool.statistics().waiting < 100:
            await anyio.sleep(0)
        with pytest.raises(QueueFull):
            await names["run_for"](pool, "free", b"", [Noop()])
        (tmp_path / "go").touch()


async def test_upgrade_and_reload(anyio_backend: object, tmp_path: Path) -> None:
    names = await run(fragment("docs/howto/upgrade-and-reload.md", "CurrentPool"))
    current = names["CurrentPool"]()
    await current.replace(Pool(1, plugins=[FaultsPlugin]))
    first = current.pool
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run, b"", [HoldOn(str(tmp_path / "go"))])
        while not first.statistics().running:
            await anyio.sleep(0)
        tasks.start_soon(current.replace, Pool(1, plugins=[FaultsPlugin]))
        while current.pool is first:
            await anyio.sleep(0)
        await current.pool.run(b"", [Noop()])
        (tmp_path / "go").touch()
    assert (first.statistics().completed, first.statistics().workers) == (1, {})
    await current.pool.drain()


async def test_request_ids(anyio_backend: object, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tasks")
    names = await run(fragment("docs/howto/request-ids.md", "TaskLog"))
    pool = Pool(1, plugins=[FaultsPlugin])
    pool.add_observer(names["TaskLog"]())

    async def request(number: str) -> None:
        names["request_id"].set(number)
        await pool.run(b"", [Noop()])

    async with pool:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(request, "r-1")
            tasks.start_soon(request, "r-2")
    lines = [record.getMessage().split() for record in caplog.records if record.name == "tasks"]
    assert sorted(line[:2] for line in lines) == [["r-1", "completed"], ["r-2", "completed"]]
