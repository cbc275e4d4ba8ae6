"""Every fragment of Python on the pages runs as it stands there, given only what a reader brings."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import runpy
import signal
import subprocess
import sys
import wave
import zlib
from pathlib import Path
from typing import Any

import anyio
import distributed
import httpx
import jobs
import numpy as np
import onnx
import pytest
import pyvips
import structlog
from page_fragments import PAGES, ROOT, fragment, fragments, run
from starlette.requests import Request

from offloop import Attachment, Context, Encoded, InvalidTask, Operation, Plugin, Pool, TaskEnded, WorkerDied
from offloop.asgi import receive
from offloop.functions import declaration, resource
from offloop.plugins import group_plugins
from offloop.testing import InlineTask, run_inline
from offloop.testing.faults import FaultsPlugin, Kill, Noop, Obey
from offloop_vips import Decode, Png, Preview, Raw, Resize, Rotate, VipsPlugin, Webp
from offloop_visualizer import Visualize

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def picture() -> bytes:
    black: Any = pyvips.Image.black(1000, 800, bands=3)
    return black.write_to_buffer(".png")


class Socket:
    """A web socket that keeps what is sent."""

    def __init__(self, sent: list[Any]) -> None:
        self._sent = sent

    async def send_bytes(self, data: Any) -> None:
        self._sent.append(bytes(data))


def test_no_fragment_is_without_a_test() -> None:
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    tested = re.findall(r'fragment\(\s*"([\w./-]+)", "', source)
    for page in PAGES:
        assert tested.count(str(page.relative_to(ROOT))) == len(fragments(page)), page


async def test_the_sandbox_says_what_it_is(anyio_backend: object, capsys: pytest.CaptureFixture[str]) -> None:
    await run(fragment("docs/sandbox.md", "print(pool.sandbox)"), Pool=Pool)
    assert capsys.readouterr().out.startswith("auto: limits, privileges")


async def test_a_plugin_declares_its_needs(anyio_backend: object) -> None:
    names = await run(fragment("docs/sandbox.md", "needs = Needs("))
    assert names["ModelPlugin"].needs.read == ("/srv/models",)


async def test_the_operations_of_the_plugin(anyio_backend: object, picture: bytes) -> None:
    names = await run(fragment("plugins/offloop-vips/README.md", "Sharpen"), data=picture)
    assert {"media_type", "format", "width", "height", "bands", "pages"} <= set(names["result"].info)


async def test_a_cut_out(anyio_backend: object) -> None:
    portrait = (ROOT / "docs" / "photos" / "astronaut.jpg").read_bytes()
    names = await run(fragment("plugins/offloop-onnx/README.md", "Webp()"), data=portrait)
    info = names["result"].info
    assert (info.media_type, info.width, info.height, info.bands) == ("image/webp", 1000, 1000, 4)


async def test_a_model_of_ones_own(anyio_backend: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1, bands, 1024, 1024]) for name, bands in (("in", 3), ("out", 1))]
    node = onnx.helper.make_node("ReduceMean", ["in"], ["out"], axes=[1])
    graph = onnx.helper.make_graph([node], "isnet", ends[:1], ends[1:])
    data = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "isnet-general-use.onnx").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    black = np.zeros((80, 100, 3), "u1")
    text = fragment("plugins/offloop-onnx/README.md", "OnnxModel.isnet")
    names = await run(text, sha256=hashlib.sha256(data).hexdigest(), picture=black)
    assert names["result"].array().shape == (80, 100, 4)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_pool_on_a_cluster(tmp_path: Path, picture: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # dask writes into the working directory
    (tmp_path / "source.png").write_bytes(picture)
    untyped: Any = distributed
    options = {"dashboard_address": ":0", "host": "127.0.0.1"}
    async with untyped.Scheduler(port=0, **options) as scheduler, untyped.Worker(scheduler.address, **options):
        names = await run(
            fragment("plugins/offloop-dask/README.md", "ClusterPool"),
            address=scheduler.address,
            source=f"file://{tmp_path}/source.png",
            destination=f"file://{tmp_path}/thumbnail.webp",
        )
    assert names["result"].info.width == 720
    assert names["stored"].url == f"file://{tmp_path}/thumbnail.webp"
    assert (tmp_path / "thumbnail.webp").stat().st_size == names["stored"].nbytes


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_stored_batch(tmp_path: Path, picture: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source.png").write_bytes(picture)
    (tmp_path / "list").write_text(f"file://{tmp_path}/source.png\n")
    untyped: Any = distributed
    options = {"dashboard_address": ":0", "host": "127.0.0.1"}
    text = fragment("docs/cluster.md", "cluster_map(")
    async with untyped.Scheduler(port=0, **options) as scheduler, untyped.Worker(scheduler.address, **options):
        text = text.replace("tcp://127.0.0.1:8786", scheduler.address)
        names = await run(text, sources=str(tmp_path / "list"), to=f"file://{tmp_path}/results")
    assert names["report"].counts.done == 1
    assert len(list(tmp_path.glob("results/**/source.webp"))) == 1


async def test_a_mounted_page(anyio_backend: object) -> None:
    names = await run(fragment("plugins/offloop-page/README.md", "make_app"))
    assert [route.path for route in names["app"].routes] == ["/pictures"]


async def test_watching_a_pool(anyio_backend: object) -> None:
    told: list[tuple[str, str]] = []
    came = anyio.Event()

    def alert(cause: str, traceback: str) -> None:
        told.append((cause, traceback))
        came.set()

    names = await run(fragment("docs/operations.md", "async def watch"), alert=alert)
    async with Pool(1, plugins=[FaultsPlugin]) as pool, anyio.create_task_group() as tasks:
        tasks.start_soon(names["watch"], pool)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(WorkerDied):
            await pool.run(b"", [Kill(signal.SIGSEGV)])
        with anyio.fail_after(10):
            await came.wait()
        tasks.cancel_scope.cancel()
    assert told[0][0] == "was ended by SIGSEGV during faults (Kill)"
    assert told[0][1].startswith("Fatal Python error: Segmentation fault")


async def test_percentiles_of_a_time_of_ones_own(anyio_backend: object, capsys: pytest.CaptureFixture[str]) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        await pool.run(b"", [Noop()])

        async def some_time() -> None:
            for _ in range(3):
                await pool.run(b"", [Noop()])

        names = await run(fragment("docs/operations.md", "lately"), pool=pool, some_time=some_time)
    assert names["lately"].count == 3
    assert capsys.readouterr().out.startswith("3 tasks; half of them waited ")


async def test_a_server_that_is_scraped(anyio_backend: object) -> None:
    names = await run(fragment("docs/operations.md", "PoolCollector"))
    async with names["lifespan"](None) as state:
        concurrency = state["pool"].statistics().concurrency
        assert f"offloop_concurrency {float(concurrency)}\n" in await scraped(names["app"])
    assert "offloop" not in await scraped(names["app"])


async def test_a_pool_with_spans(anyio_backend: object) -> None:
    numbers: list[int] = []

    async def serve(pool: Pool) -> None:
        with pytest.raises(InvalidTask):
            await pool.run(b"", [])
        numbers.append(pool.statistics().concurrency)

    await run(fragment("docs/operations.md", "instrument(pool)"), serve=serve)
    assert numbers


async def scraped(app: Any) -> str:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "method": "GET", "path": "/metrics/", "query_string": b"", "headers": []}, receive, send)
    return b"".join(message.get("body", b"") for message in sent).decode()


async def test_a_program_that_drains_when_it_is_told_to_stop(anyio_backend: object, picture: bytes) -> None:
    done = 0

    async def work(pool: Pool) -> None:
        nonlocal done
        while True:
            await pool.run(picture, [Resize(10)])
            done += 1
            if done == 2:
                signal.raise_signal(signal.SIGTERM)

    names = await run(fragment("docs/operations.md", "drain_when_told"), work=work)
    numbers = names["pool"].statistics()
    assert (numbers.completed, numbers.workers) == (done, {})
    assert numbers.submitted == done + numbers.refused


def test_the_plugin_of_the_plugins_page() -> None:
    names: dict[str, Any] = {}
    exec(fragment("docs/plugins.md", "InvertProcessor"), names)
    result = run_inline(names["InvertProcessor"](), Encoded(b"\x00\x01\x02"), [names["Invert"](count=2)])
    assert bytes(result.data) == b"\xff\xfe\x02"


def test_the_operation_with_a_further_source_of_the_plugins_page() -> None:
    names: dict[str, Any] = {"Operation": Operation, "Attachment": Attachment}
    text = fragment("docs/plugins.md", "overlay: Attachment")
    exec(compile(text, "fragment", "exec", dont_inherit=True), names)  # without this module's late annotations
    operation = names["Composite"](Path("logo.png"), opacity=0.5)
    assert operation.overlay == Attachment(operation.overlay.source)
    assert operation.overlay.source == Path("logo.png")


def test_the_plugin_with_a_worker_group_of_the_plugins_page() -> None:
    names: dict[str, Any] = {"Plugin": Plugin, "Infer": Noop}
    exec(fragment("docs/plugins.md", "OnnxPlugin"), names)
    plugins = [FaultsPlugin(), VipsPlugin(), names["OnnxPlugin"]()]
    assert group_plugins(plugins, {}) == {"default": ("faults", "vips"), "onnx": ("vips", "onnx")}


def test_a_frozen_program() -> None:
    text = fragment("docs/operations.md", "offloop.freeze_support()")
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=40, check=False)
    assert (done.returncode, done.stderr) == (0, "")


async def test_a_processor_in_the_tests_own_process(anyio_backend: object) -> None:
    example = runpy.run_path(str(ROOT / "docs" / "examples" / "custom_plugin.py"))
    brought = {"MyProcessor": example["CompressProcessor"], "MyOperation": example["Compress"]}
    names = await run(fragment("docs/testing.md", "run_inline"), **brought)
    assert zlib.decompress(names["result"].data) == b"source"


async def test_the_tests_of_any_plugin(anyio_backend: object) -> None:
    example = runpy.run_path(str(ROOT / "docs" / "examples" / "custom_plugin.py"))
    brought = {"MyPlugin": example["CompressPlugin"], "MyOperation": example["Compress"]}
    kit = (await run(fragment("docs/testing.md", "ProcessorConformance"), **brought))["TestMyPlugin"]()
    kit.test_a_wrong_operation_cannot_be_made()
    kit.test_no_bytes_make_the_light_half_raise()


async def test_the_tests_of_a_picture_plugin(anyio_backend: object) -> None:
    brought = {"MyPlugin": VipsPlugin, "Png": Png, "Raw": Raw, "Resize": Resize, "Rotate": Rotate, "Decode": Decode}
    names = await run(fragment("docs/testing.md", "PictureConformance"), **brought)
    names["TestMyPlugin"]().test_samples_survive_a_file_without_loss()


async def test_a_scripted_pool(anyio_backend: object) -> None:
    names = await run(fragment("docs/testing.md", "scripted_pool"))
    assert names["pool"].statistics().worker_starts == 1


async def test_an_order(anyio_backend: object) -> None:
    with pytest.raises(WorkerDied) as caught:
        await run(fragment("docs/testing.md", "import FaultsPlugin, Obey"))
    assert caught.value.exit_code == 42


async def test_an_order_for_a_faulty_worker(anyio_backend: object) -> None:
    with pytest.raises(WorkerDied) as caught:
        await run(fragment("docs/testing.md", "FaultyWorkers"), FaultsPlugin=FaultsPlugin, Obey=Obey)
    assert caught.value.signal == signal.SIGKILL


def test_a_fixture(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    pytester.makepyfile(fragment("docs/testing.md", "offloop_pool_factory"))
    # no assertions to be rewritten in all packages that bring a plugin: that takes longest of all
    result = pytester.runpytest_subprocess("--assert=plain", "-p", "no:xdist", "-p", "no:randomly", "-p", "no:cacheprovider")
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] >= 1


async def test_the_calls_of_the_page_about_outputs(anyio_backend: object, picture: bytes, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(picture)
    track = io.BytesIO()
    with wave.open(track, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    async with Pool(1) as pool:
        names: dict[str, Any] = {"pool": pool, "picture": picture, "Resize": Resize, "Webp": Webp, "Png": Png}
        shown = await run(fragment("docs/outputs.md", "def show"), **names)
        assert shown["result"].info.width == 800
        assert (await run(fragment("docs/outputs.md", "coalesce"), **names))["result"].info.width == 800
        sent: list[Any] = []
        await run(fragment("docs/outputs.md", "on_preview"), websocket=Socket(sent), Preview=Preview, **names)
        assert [bytes(data)[8:12] for data in sent] == [b"WEBP"]
        batch = await run(fragment("docs/outputs.md", "pool.map"), folder=tmp_path, sizes={}, **names)
        assert (sorted(batch["sizes"]), batch["percent"]) == (["a.jpg", "b.jpg"], 1.0)
        many = await run(fragment("docs/outputs.md", "outcomes = await"), **names)
        assert (many["card"].info.width, many["outcomes"]["icon"].unwrap().info.format) == (640, "png")
        each = await run(fragment("docs/outputs.md", "as outcomes:\n    async for name"), ready={}, **names)
        assert sorted(each["ready"]) == ["card", "icon"]
        frames = await run(
            fragment("docs/outputs.md", "pool.stream"), track=track.getvalue(), Visualize=Visualize, shown=[], **names
        )
        assert frames["shown"]


async def test_a_service_of_fastapi(anyio_backend: object, picture: bytes) -> None:
    names = await run(fragment("docs/web.md", "UploadFile"))
    app = names["app"]
    async with app.router.lifespan_context(app) as state:

        async def app_with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        transport = httpx.ASGITransport(app_with_state)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            answer = await client.post("/thumbnail", files={"file": picture})
            assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
            assert (await client.get("/health")).json()["status"] == "ok"


async def test_one_upload_for_several_tasks(anyio_backend: object, picture: bytes) -> None:
    chunks = [{"type": "http.request", "body": picture, "more_body": False}]

    async def message() -> Any:
        if not chunks:
            await anyio.sleep_forever()
        return chunks.pop(0)

    request = Request({"type": "http", "headers": []}, message)
    async with Pool(1, plugins=["vips"]) as pool:
        brought = {"receive": receive, "pool": pool, "request": request, "Resize": Resize, "Webp": Webp}
        names = await run(fragment("docs/web.md", "share()"), **brought)
        assert (names["small"].info.width, names["large"].info.width) == (64, 1280)


async def test_labels_from_a_context_variable_and_from_structlog(anyio_backend: object, picture: bytes) -> None:
    brought = {"Resize": Resize, "Webp": Webp}
    plain = await run(fragment("docs/operations.md", "ContextVar"), **brought)
    bound = await run(fragment("docs/operations.md", "import structlog"), **brought)
    async with Pool(1, plugins=["vips"]) as pool:
        events = pool.events()
        plain["request_id"].set("4711")
        await plain["thumbnail"](pool, picture)
        with structlog.contextvars.bound_contextvars(user=7):
            await bound["icon"](pool, picture)
    seen = [event.labels async for event in events if isinstance(event, TaskEnded)]
    assert seen == [{"request_id": "4711"}, {"user": "7"}]
    record = logging.LogRecord("offloop.worker", logging.INFO, "", 0, "text", (), None)
    record.__dict__.update({"worker": 0, "task_id": 1, "labels": {"user": "7"}})
    line = json.loads(bound["format_record"].format(record))
    assert line == {"event": "text", "worker": 0, "task_id": 1, "labels": {"user": "7"}}


async def test_a_function_is_declared(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declaration, "_declared", {})
    monkeypatch.setattr(resource, "_declared", {})
    names = await run(fragment("docs/functions.md", "def classify"), __name__="fragment")
    task = InlineTask()
    assert names["classify"](memoryview(b"1234"), names["Model"](), Context(task)) == [2.0, 1.0]
    assert task.fraction == 0.5


async def test_functions_are_called(anyio_backend: object) -> None:
    async with Pool(1, plugins=["functions"]) as pool:
        names = await run(fragment("docs/functions.md", "map_call"), pool=pool, add=jobs.add, count_to=jobs.count_to)
    assert (names["total"], names["totals"][-1], names["counted"]) == (30, 40, [0, 1, 2])
