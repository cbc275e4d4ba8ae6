"""Functions with Arrow tables, for the tests of `Pool.call`."""

# pyright: basic, reportMissingImports=false

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa

from offloop import function


@function
def sums_of(table: pl.DataFrame) -> pl.DataFrame:
    return table.group_by("key").agg(pl.col("value").sum()).sort("key")


@function
def total_and_private_memory(table: pl.DataFrame) -> tuple[int, int]:
    """The total of a column, and the bytes of private memory of this process while the table is there."""
    return int(table["amount"].sum()) + int(table["shop"].sum()), private_memory()


def private_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


@function
def echo_table(table: pa.Table) -> pa.Table:
    return table


@function
def echo_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


@function
def is_shared(table: pa.Table, data: memoryview) -> bool:
    """Whether the first column lies in the memory of the source."""
    (_, buffer) = table.column(0).chunk(0).buffers()
    start = pa.py_buffer(data).address
    return start - (1 << 30) < buffer.address < start + (1 << 30) and not buffer.is_mutable


@function
def split(table: pa.Table) -> tuple[pa.Table, int, pl.DataFrame]:
    half = table.num_rows // 2
    return table.slice(0, half), half, pl.DataFrame(table.slice(half))
