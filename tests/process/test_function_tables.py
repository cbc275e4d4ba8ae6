"""Arrow tables as arguments and results: in shared memory, and checked when they come from a worker."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from offloop import InvalidTask, Pool, TaskFailed

pa: Any = pytest.importorskip("pyarrow")
pl: Any = pytest.importorskip("polars")
tables: Any = importlib.import_module("tables")  # it needs both

from offloop.functions.encoding.results import ResultCodec  # noqa: E402
from offloop.functions.encoding.shape import Shape  # noqa: E402
from offloop.functions.encoding.tables import find_table_kind  # noqa: E402

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pool(offloop_pool_factory: Callable[..., Awaitable[Pool]]) -> Pool:
    return await offloop_pool_factory(1, plugins=["functions"], memory_limit="1GiB")


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False}), ("trio", {})], ids=["asyncio", "trio"])
async def test_tables_go_to_a_worker_and_come_back(anyio_backend: object, pool: Pool) -> None:
    frame = pl.DataFrame({"key": [1, 2] * 5000, "value": range(10_000), "text": ["a", None] * 5000})
    sums = await pool.call(tables.sums_of, frame)
    assert isinstance(sums, pl.DataFrame)
    assert sums.to_dicts() == [{"key": 1, "value": 24_995_000}, {"key": 2, "value": 25_000_000}]
    table = pa.table(frame)
    assert (await pool.call(tables.echo_table, frame)).equals(table)
    assert (await pool.call(tables.echo_table, table.slice(0, 0))).num_rows == 0
    batch = table.to_batches()[0]
    assert (await pool.call(tables.echo_batch, batch)).equals(batch)
    first, half, second = await pool.call(tables.split, table)
    assert half == 5000
    assert first.equals(table.slice(0, 5000))
    assert second.equals(frame.slice(5000))
    assert await pool.call(tables.is_shared, table, bytes(100_000))
    with pytest.raises(InvalidTask, match="the argument table: Expected an Arrow table, got `list`"):
        await pool.call(tables.echo_table, [1])
    del sums, first, second
    assert pool.statistics().leases["caller"] == 0


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], ids=["asyncio"])
async def test_ten_million_rows_are_read_in_place(anyio_backend: object, offloop_pool_factory: Any) -> None:
    pool = await offloop_pool_factory(1, plugins=["functions"], memory_limit="2GiB")
    rows = 10_000_000
    sales = pl.select(amount=pl.int_range(rows)).with_columns(shop=pl.col("amount") % 10)
    nbytes = sales.estimated_size()
    assert nbytes == 16 * rows
    _, before = await pool.call(tables.total_and_private_memory, sales.head(1000))
    own_before = tables.private_memory()
    total, after = await pool.call(tables.total_and_private_memory, sales)
    assert total == rows * (rows - 1) // 2 + rows // 10 * 45
    assert after - before < nbytes / 4, "the worker has no copy of the table"
    assert tables.private_memory() - own_before < nbytes / 4, "nor has the server"


def test_a_forged_table_of_a_worker_is_refused() -> None:
    codec = ResultCodec(Shape(pa.Table), "forged")
    table = pa.table({"text": ["some", "texts"] * 100})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    good = bytearray(sink.getvalue())
    value = b"\x82\xa8attached\xa5table\xa5index\x00".decode("latin-1")
    assert codec.decode({"pieces": [len(good)], "value": value}, memoryview(good)).equals(table)
    offsets = good.index((4).to_bytes(4, "little") + (9).to_bytes(4, "little"))
    good[offsets + 4 : offsets + 8] = (1 << 30).to_bytes(4, "little")
    for bad in (good, good[:100], b"", b"\xff" * 64):
        with pytest.raises(TaskFailed, match="its table is invalid") as caught:
            codec.decode({"pieces": [len(bad)], "value": value}, memoryview(bytes(bad)))
        assert caught.value.code == "invalid_result"


def test_a_checked_table_does_not_change_with_the_memory_of_its_worker() -> None:
    kind, sink = find_table_kind(pa.Table), pa.BufferOutputStream()
    assert kind is not None
    table = pa.table({"text": ["first", "second"], "number": [1, 2]})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    memory = bytearray(sink.getvalue())
    found = kind.from_memory(memoryview(memory), kind.attached(index=0))
    memory[:] = b"\xff" * len(memory)  # what a worker may do that was taken over
    assert found.equals(table)
    found.validate(full=True)
