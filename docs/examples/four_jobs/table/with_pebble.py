"""The totals of a table by group, in a process of pebble. The table is pickled."""

import asyncio
import multiprocessing

import polars as pl
from pebble import ProcessPool


def totals(sales: pl.DataFrame) -> pl.DataFrame:
    return sales.group_by("shop").agg(pl.col("amount").sum()).sort("shop")


async def main() -> None:
    sales = pl.select(amount=pl.int_range(10_000)).with_columns(shop=pl.col("amount") % 3)
    spawn = multiprocessing.get_context("spawn")  # because threads of polars do not survive a fork
    with ProcessPool(context=spawn) as pool:
        print((await asyncio.wrap_future(pool.schedule(totals, args=[sales], timeout=60))).rows())


if __name__ == "__main__":
    asyncio.run(main())
