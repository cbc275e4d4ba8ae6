"""The totals of a table by group, in a process of ProcessPoolExecutor. The table is pickled."""

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import polars as pl


def totals(sales: pl.DataFrame) -> pl.DataFrame:
    return sales.group_by("shop").agg(pl.col("amount").sum()).sort("shop")


async def main() -> None:
    sales = pl.select(amount=pl.int_range(10_000)).with_columns(shop=pl.col("amount") % 3)
    spawn = multiprocessing.get_context("spawn")  # because threads of polars do not survive a fork
    with ProcessPoolExecutor(mp_context=spawn) as executor:
        loop = asyncio.get_running_loop()
        print((await asyncio.wait_for(loop.run_in_executor(executor, totals, sales), 60)).rows())


if __name__ == "__main__":
    asyncio.run(main())
