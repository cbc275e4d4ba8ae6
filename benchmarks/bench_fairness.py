"""How long and how evenly do equal callers wait if more tasks wait than can run?

Twenty and two hundred callers. Each sends its next picture when it has the result of its last one. Each pool has two workers.

one      all send one and the same picture, 800 x 600, made 200 wide
photos   pictures of 0.5, 4 and 12 megapixels, made 200 wide
mix      one of twenty has 24 megapixels, is turned by 90 degrees, blurred and saved as JPEG; the others are as in `one`

Peers run the same code in two processes or threads behind an `asyncio.Semaphore(2)`, which serves in the order of arrival. All
contenders take turns in one run.

    python benchmarks/bench_fairness.py [--smoke] [--rounds 3] [--scenario one] [--seconds 5]

The output is the time from sending a picture to its result: 50th and 99th percentile and maximum over all turns, for each
picture, and the 99th percentile relative to that of the fastest peer with a semaphore.

Expected: if all callers send the same picture, a p99 of at most 1.2 times that of the best semaphore in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import uvloop
from measuring import percentile
from mixed_contenders import CONTENDERS, WORKERS, Work, what_is_missing
from mixed_work import PIPELINES, Kind, Size, pictures

from offloop import Pool

P99_OF_SEMAPHORE = 1.2
PEERS = ("ProcessPoolExecutor", "threads", "loky", "pebble", "anyio.to_process")
WARM_UP = 16  # number of small pictures before the measurement, so that every worker has had some


class Picture(NamedTuple):
    """A picture and its share of the tasks."""

    name: str
    share: float  # fraction of all tasks
    size: Size
    kind: Kind = "small"


SCENARIOS: dict[str, tuple[Picture, ...]] = {
    "one": (Picture("0.5 MP", 1.0, (800, 600)),),
    "photos": (
        Picture("0.5 MP", 0.4, (800, 600)),
        Picture("4 MP", 0.4, (2400, 1600)),
        Picture("12 MP", 0.2, (4000, 3000)),
    ),
    "mix": (Picture("0.5 MP", 0.95, (800, 600)), Picture("24 MP, turned", 0.05, (6000, 4000), "large")),
}

Times = dict[str, list[float]]  # picture -> seconds from sending to the result


@asynccontextmanager
async def offloop(paths: Mapping[Size, str], nice: int | None) -> AsyncGenerator[Work]:
    """Callers keep the bytes in memory, like a server that has received them."""
    sources = {path: Path(path).read_bytes() for path in paths.values()}
    more = {} if nice is None else {"nice": nice}
    async with Pool(WORKERS, plugins=["vips"], timeout=None, **more) as pool:

        async def work(kind: Kind, path: str) -> int:
            return len((await pool.run(sources[path], PIPELINES[kind])).data)

        yield work


@asynccontextmanager
async def behind_semaphore(name: str) -> AsyncGenerator[Work]:
    async with CONTENDERS[name]({}) as carry_out:
        semaphore = asyncio.Semaphore(WORKERS)

        async def work(kind: Kind, path: str) -> object:
            async with semaphore:
                return await carry_out(kind, path)

        yield work


async def turn(work: Work, callers: int, scenario: tuple[Picture, ...], paths: Mapping[Size, str], seconds: float) -> Times:
    """Every caller sends one picture after the other until the time is over. Tasks that run then are finished, and count."""
    times: Times = defaultdict(list)
    small = paths[scenario[0].size]
    await asyncio.gather(*(work("small", small) for _ in range(WARM_UP)))
    until = perf_counter() + seconds

    async def call(number: int) -> None:
        dice = random.Random(number)
        while (sent := perf_counter()) < until:
            picture = dice.choices(scenario, [one.share for one in scenario])[0]
            await work(picture.kind, paths[picture.size])
            times[picture.name].append(perf_counter() - sent)

    await asyncio.gather(*(call(number) for number in range(callers)))
    return times


def measure(
    contender: AbstractAsyncContextManager[Work],
    callers: int,
    scenario: tuple[Picture, ...],
    paths: Mapping[Size, str],
    seconds: float,
) -> Times:
    async def run() -> Times:
        async with contender as work:
            return await turn(work, callers, scenario, paths, seconds)

    return uvloop.run(run())


def report(name: str, callers: int, rows: Mapping[str, Times]) -> bool:
    """Print the table of one scenario. Returns whether the expectation is met."""
    everything = {contender: [one for times in row.values() for one in times] for contender, row in rows.items()}
    semaphores = [percentile(times, 99) for contender, times in everything.items() if contender != "offloop"]
    best = min(semaphores)
    print(f"\n{name}, {callers} callers")
    print(f"{'':22}{'tasks':>8}{'p50, s':>9}{'p99, s':>9}{'worst, s':>10}{'p99 / semaphore':>17}")
    for contender, row in rows.items():
        groups = {contender: everything[contender]}
        if len(row) > 1:
            groups |= {f"  {picture}": row[picture] for picture in sorted(row, key=lambda one: float(one.split()[0]))}
        for title, times in groups.items():
            ratio = percentile(times, 99) / best
            print(
                f"{title:22}{len(times):8,}{percentile(times, 50):9.3f}{percentile(times, 99):9.3f}"
                f"{max(times):10.3f}{ratio:17.2f}"
            )
    ratio = percentile(everything["offloop"], 99) / best
    if name != "one":
        return True
    print(f"p99 {ratio:.2f} times that of the best semaphore, at most {P99_OF_SEMAPHORE}: ", end="")
    print("met" if ratio <= P99_OF_SEMAPHORE else "NOT MET")
    return ratio <= P99_OF_SEMAPHORE


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="short turns, few contenders, for CI: the numbers mean nothing")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for which callers send in a turn (default: %(default)s)")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="may be given again (default: all)")
    parser.add_argument("--peer", action="append", choices=PEERS, help="may be given again (default: all installed)")
    parser.add_argument("--nice", type=int, help="of offloop's workers: 0 as the peers have, on a busy machine")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / f"offloop-mixed-{os.getuid()}",
                        help="where pictures are kept (default: %(default)s)")  # fmt: skip
    return parser.parse_args()


def main() -> None:
    given = parse()
    names = given.scenario or (["one"] if given.smoke else list(SCENARIOS))
    rounds, seconds = (1, 0.3) if given.smoke else (given.rounds, given.seconds)
    peers = [name for name in (given.peer or (PEERS[:1] if given.smoke else PEERS)) if what_is_missing(name, None) is None]
    sizes = list({picture.size for name in names for picture in SCENARIOS[name]})
    paths = dict(zip(sizes, pictures(given.folder, sizes), strict=True))
    for name in names:
        for callers in (20, 200):
            rows: dict[str, Times] = {contender: defaultdict(list) for contender in ("offloop", *peers)}
            for _ in range(rounds):
                for contender, row in rows.items():
                    entered = offloop(paths, given.nice) if contender == "offloop" else behind_semaphore(contender)
                    for picture, times in measure(entered, callers, SCENARIOS[name], paths, seconds).items():
                        row[picture] += times
            report(name, callers, rows)


if __name__ == "__main__":
    main()
