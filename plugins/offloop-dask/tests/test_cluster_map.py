"""`offloop cluster-map` on a real S3 server: exactly one result for each source, also after an interruption."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from cluster_jobs import SLOWLY
from cluster_pools import NODE, PLUGINS, until
from moto.server import ThreadedMotoServer

from offloop import InvalidTask, TaskFailed
from offloop.testing.faults import Echo, Raise
from offloop_dask import ClusterPool, Url
from offloop_dask.batches import cluster_map
from offloop_dask.batches.listing import name_of_result
from offloop_dask.batches.manifest import Counts, Manifest

from .conftest import Cluster

pytestmark = pytest.mark.anyio

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "node", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "eu-central-1"}


@pytest.fixture(scope="module")
def storage() -> Iterator[Any]:
    """A client of an S3 server with empty buckets "in" and "out"."""
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
    for bucket in ("sources", "results"):
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": CREDENTIALS["AWS_DEFAULT_REGION"]})
    yield client
    client.close()
    server.stop()


@pytest.fixture
def options(storage: Any) -> dict[str, str]:
    """Options of obstore for this server. Here they have the credentials, because these are worth nothing."""
    return {
        "endpoint": storage.meta.endpoint_url,
        "allow_http": "true",
        "access_key_id": CREDENTIALS["AWS_ACCESS_KEY_ID"],
        "secret_access_key": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        "region": CREDENTIALS["AWS_DEFAULT_REGION"],
    }


def keys(storage: Any, bucket: str, prefix: str) -> dict[str, bytes]:
    found = storage.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ())
    return {one["Key"]: storage.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in found}


async def test_urls_of_a_bucket_are_sources_and_destinations(cluster: Cluster, storage: Any, options: dict[str, str]) -> None:
    storage.put_object(Bucket="sources", Key="one/a b.bin", Body=b"x" * 3_000_000)
    pool = ClusterPool(cluster.address, plugins=PLUGINS[:1], node=NODE, storage_options=options, linger=0)
    async with pool:
        result = await pool.run(Url("s3://sources/one/a b.bin"), [Echo()], to="s3://results/one/copy.bin")
        assert (result.url, result.nbytes) == ("s3://results/one/copy.bin", 3_000_000)
        assert len(result.data) == 0
        assert keys(storage, "results", "one/") == {"one/copy.bin": b"x" * 3_000_000}
        assert bytes(await pool.run(Url("s3://results/one/copy.bin"), [Echo()])) == b"x" * 3_000_000
        with pytest.raises(InvalidTask, match="there is no"):
            await pool.run(Url("s3://sources/one/missing"), [Echo()])
        with pytest.raises(TaskFailed) as caught:
            await pool.run(b"lost", [Echo()], to="s3://nowhere/key")
        assert caught.value.code == "cannot_write"


async def test_a_batch_gives_each_source_one_result_and_reports_failures(
    cluster: Cluster, storage: Any, options: dict[str, str], tmp_path: Path
) -> None:
    for number in range(30):
        storage.put_object(Bucket="sources", Key=f"batch/{number}.txt", Body=b"%d" % number)
    (tmp_path / "list").write_text("".join(f"s3://sources/batch/{n}.txt\n" for n in (*range(30), 77)))
    seen: list[Counts] = []
    pool = ClusterPool(cluster.address, plugins=PLUGINS[:1], node=NODE, storage_options=options, linger=0)
    async with pool:
        arguments: dict[str, Any] = {"to": "s3://results/batch", "manifest": tmp_path / "run.db", "storage_options": options}
        report = await cluster_map(
            pool,
            str(tmp_path / "list"),
            [Echo()],
            suffix=".copy",
            on_progress=lambda counts, _: seen.append(counts),
            report=tmp_path / "failures",
            **arguments,
        )
        assert (report.counts.done, report.counts.failed, report.new_done) == (30, 1, 30)
        assert seen[-1].done == 30
        assert keys(storage, "results", "batch/") == {f"batch/batch/{n}.copy": b"%d" % n for n in range(30)}
        (failure,) = [json.loads(line) for line in (tmp_path / "failures").read_text().splitlines()]
        assert failure["source"] == "s3://sources/batch/77.txt"
        assert failure["code"] == "InvalidTask"
        with pytest.raises(InvalidTask, match="--resume"):
            await cluster_map(pool, str(tmp_path / "list"), [Echo()], suffix=".copy", **arguments)
        with pytest.raises(InvalidTask, match="another batch"):
            await cluster_map(pool, str(tmp_path / "list"), [Raise("ordinary")], suffix=".copy", resume=True, **arguments)
        storage.put_object(Bucket="sources", Key="batch/77.txt", Body=b"77")
        again = await cluster_map(
            pool, str(tmp_path / "list"), [Echo()], suffix=".copy", resume=True, retry_failed=True, **arguments
        )
        assert (again.counts.done, again.counts.failed, again.new_done) == (31, 0, 1)


async def test_a_listing_of_a_prefix_is_a_batch(
    cluster: Cluster, storage: Any, options: dict[str, str], tmp_path: Path
) -> None:
    for name in ("a.txt", "deep/b.txt", "same.txt", "same.bin"):
        storage.put_object(Bucket="sources", Key=f"tree/{name}", Body=name.encode())
    pool = ClusterPool(cluster.address, plugins=PLUGINS[:1], node=NODE, storage_options=options, linger=0)
    async with pool:
        report = await cluster_map(
            pool,
            "s3://sources/tree",
            [Echo()],
            to="s3://results/tree",
            manifest=tmp_path / "run.db",
            suffix=".copy",
            storage_options=options,
        )
    assert (report.counts.done, report.counts.failed) == (3, 1)  # one of the two "same"
    assert set(keys(storage, "results", "tree/")) == {"tree/a.copy", "tree/deep/b.copy", "tree/same.copy"}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
async def test_the_command_is_interrupted_and_continued(
    cluster: Cluster, storage: Any, options: dict[str, str], tmp_path: Path, how: signal.Signals
) -> None:
    prefix = f"many-{how.name}"
    for number in range(60):
        storage.put_object(Bucket="sources", Key=f"{prefix}/{number:02}.txt", Body=b"%d" % number)
    command = [sys.executable, "-m", "offloop.cli", "cluster-map", f"s3://sources/{prefix}"]
    command += ["--to", f"s3://results/{prefix}"]
    command += ["--scheduler", cluster.address, "--pipeline", "cluster_jobs:SLOWLY", "--suffix", ".out", "--plugin", PLUGINS[0]]
    command += ["--node-option", "workers=1", "--node-option", "memory_limit=256MiB"]
    command += [word for pair in options.items() for word in ("--storage-option", "=".join(pair))]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    async with asyncio.timeout(50):
        while len(keys(storage, "results", f"{prefix}/")) < 3:
            assert first.poll() is None, first.communicate()
            await asyncio.sleep(0.02)
    first.send_signal(how)
    _, told = await asyncio.to_thread(first.communicate)
    if how is signal.SIGINT:
        assert first.returncode == 130, told
        assert b"--resume" in told
    manifest = Manifest(tmp_path / "cluster-map.db", {}, resume=True)
    counts = manifest.counts()
    manifest.close()
    assert (3 if how is signal.SIGINT else 0) <= counts.done < 60  # a process that is killed has not recorded the last second
    second = await asyncio.to_thread(
        subprocess.run, [*command, "--resume"], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert second.returncode == 0, second.stderr
    assert keys(storage, "results", f"{prefix}/") == {f"{prefix}/{n:02}.out": b"%d" % n for n in range(60)}
    assert f"{60 - counts.done:,} results in".encode() in second.stdout


async def test_a_node_that_is_killed_costs_no_source_of_a_batch(
    own_cluster: Cluster, storage: Any, options: dict[str, str], tmp_path: Path
) -> None:
    for name in ("first", "second"):
        own_cluster.start_node(name=name)
    for number in range(40):
        storage.put_object(Bucket="sources", Key=f"killed/{number:02}.txt", Body=b"%d" % number)
    killed = asyncio.Event()

    def kill(counts: Counts, _is_listed: bool) -> None:
        if counts.done and not killed.is_set():
            own_cluster.kill_node("first")
            killed.set()

    pool = ClusterPool(own_cluster.address, plugins=PLUGINS[:1], node=NODE, storage_options=options, linger=0)
    async with pool:
        await until(lambda: len(pool.statistics().nodes) == 2)
        report = await cluster_map(
            pool,
            "s3://sources/killed",
            SLOWLY,
            to="s3://results/killed",
            manifest=tmp_path / "run.db",
            storage_options=options,
            on_progress=kill,
        )
    assert killed.is_set()
    assert (report.counts.done, report.counts.failed) == (40, 0)
    assert keys(storage, "results", "killed/") == {f"killed/{n:02}.txt": b"%d" % n for n in range(40)}


def test_the_name_of_a_result_follows_from_its_source() -> None:
    def name(source: str, sources: str, suffix: str | None = ".webp") -> str:
        return name_of_result(source, sources, "s3://to/folder/", suffix)

    assert name("s3://from/a/b.png", "s3://from/a") == "s3://to/folder/b.webp"
    assert name("s3://from/a/deep/b.tar.gz", "s3://from/a/") == "s3://to/folder/deep/b.tar.webp"
    assert name("s3://from/a/b", "list.txt") == "s3://to/folder/a/b.webp"
    assert name("s3://from/a/b.png", "list.txt", None) == "s3://to/folder/a/b.png"


def test_a_manifest_is_of_one_batch_and_one_process(tmp_path: Path) -> None:
    path, about = tmp_path / "m.db", {"to": "here"}
    first = Manifest(path, about, resume=False)
    with pytest.raises(InvalidTask, match="locked"):
        Manifest(path, about, resume=True)
    assert first.add([("a", "x"), ("b", "x"), ("c", "y"), ("a", "x")]) == 3
    assert first.add([("c", "y")]) == 0
    first.record([("a", 7)], [("c", "exception", "it failed")])
    assert first.counts() == Counts(waiting=0, done=1, failed=2, nbytes=7)
    assert [failure.code for failure in first.failures()] == ["same_destination", "exception"]
    assert first.retry_failed() == 1
    assert [item.source for item in first.waiting_after(0, 10)] == ["c"]
    assert not first.is_listed
    first.close()
    with pytest.raises(InvalidTask, match="another batch"):
        Manifest(path, {"to": "elsewhere"}, resume=True)
    (tmp_path / "text").write_text("no database, and long enough to be none" * 10)
    with pytest.raises(InvalidTask, match="no manifest"):
        Manifest(tmp_path / "text", about, resume=True)
