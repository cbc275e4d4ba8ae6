"""Environment of a worker: the server's variables, and those that limit its memory and threads."""

from __future__ import annotations

import os

import pytest
from environment_plugin import Environment, EnvironmentPlugin

from offloop import Pool
from offloop.runtime.workers.command_line import DEFAULT_ENVIRONMENT

pytestmark = pytest.mark.anyio


async def environment_of_worker(**settings: object) -> dict[str, str]:
    async with Pool(1, plugins=[EnvironmentPlugin], memory_limit="64MiB", **settings) as pool:  # pyright: ignore[reportArgumentType]
        return (await pool.run(b"", [Environment()])).info.variables


async def test_workers_have_one_thread_in_each_library_and_give_memory_back(
    anyio_backend: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in DEFAULT_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    variables = await environment_of_worker(sandbox="off")
    assert variables["OMP_NUM_THREADS"] == variables["OPENBLAS_NUM_THREADS"] == "1"
    assert (variables["MALLOC_MMAP_THRESHOLD_"], variables["MALLOC_ARENA_MAX"]) == ("4194304", "1")
    assert len(variables.pop("OFFLOOP_WORKER_ID")) == 16
    assert variables == dict(os.environ) | dict(DEFAULT_ENVIRONMENT)


async def test_what_the_server_has_set_stays(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "4000000")
    variables = await environment_of_worker()
    assert (variables["OMP_NUM_THREADS"], variables["MALLOC_MMAP_THRESHOLD_"]) == ("3", "4000000")


async def test_in_a_sandbox_no_secret_of_the_servers_environment_reaches_a_worker(
    anyio_backend: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ("AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "OPENAI_API_KEY", "PGPASSWORD", "SSH_AUTH_SOCK", "PATHS", "ANYTHING")
    for name in secrets:
        monkeypatch.setenv(name, "secret")
    for name in ("LC_ALL", "VIPS_CONCURRENCY", "LD_LIBRARY_PATH", "TZ"):
        monkeypatch.setenv(name, "C")
    variables = await environment_of_worker(environment={"ANYTHING": "given"})
    assert "secret" not in variables.values()
    assert variables["ANYTHING"] == "given"
    assert {"PATH", "LC_ALL", "VIPS_CONCURRENCY", "LD_LIBRARY_PATH", "TZ", "OMP_NUM_THREADS"} <= variables.keys()


async def test_a_pool_sets_and_removes_variables_of_its_workers(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLOOP_TEST_SECRET", "secret")
    variables = await environment_of_worker(
        environment={"OFFLOOP_TEST_SECRET": None, "OMP_NUM_THREADS": "2", "EXTRA": "\u00fc"}
    )
    assert "OFFLOOP_TEST_SECRET" not in variables
    assert (variables["OMP_NUM_THREADS"], variables["EXTRA"]) == ("2", "\u00fc")
    assert os.environ["OFFLOOP_TEST_SECRET"] == "secret"
