"""The totals of a table by group, in a worker of offloop. The table is in shared memory."""

import asyncio

import polars as pl

from offloop import Pool, function


@function
def totals(sales: pl.DataFrame) -> pl.DataFrame:
    return sales.group_by("shop").agg(pl.col("amount").sum()).sort("shop")


async def main() -> None:
    sales = pl.select(amount=pl.int_range(10_000)).with_columns(shop=pl.col("amount") % 3)
    async with Pool() as pool:
        print((await pool.call(totals, sales, timeout=60)).rows())


if __name__ == "__main__":
    asyncio.run(main())
