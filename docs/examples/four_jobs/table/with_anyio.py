"""The totals of a table by group, in a process of anyio.to_process. The table is pickled."""

import anyio
import anyio.to_process
import polars as pl


def totals(sales: pl.DataFrame) -> pl.DataFrame:
    return sales.group_by("shop").agg(pl.col("amount").sum()).sort("shop")


async def main() -> None:
    sales = pl.select(amount=pl.int_range(10_000)).with_columns(shop=pl.col("amount") % 3)
    with anyio.fail_after(60):
        print((await anyio.to_process.run_sync(totals, sales, cancellable=True)).rows())


if __name__ == "__main__":
    anyio.run(main)
