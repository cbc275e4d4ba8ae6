"""Sums the columns of a table by group in a worker: python table.py 10_000_000

The table is written into shared memory once, as Arrow; the worker and the server read it in place.
"""

import sys
from time import perf_counter

import anyio
import polars as pl

from offloop import Pool, function


@function(timeout=60, preload=["polars"])
def totals(sales: pl.DataFrame) -> pl.DataFrame:
    return sales.group_by("shop").agg(pl.col("amount").sum(), pl.len().alias("sales")).sort("shop")


async def main(rows: int) -> None:
    sales = pl.select(pl.int_range(rows).alias("amount")).with_columns((pl.col("amount") % 10).alias("shop"))
    async with Pool(1, plugins=["functions"]) as pool:
        await pool.call(totals, sales.head(1))  # starts the worker
        started = perf_counter()
        found = await pool.call(totals, sales)
        print(f"{rows:,} rows in {perf_counter() - started:.2f} s")
    print(found)


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]))
