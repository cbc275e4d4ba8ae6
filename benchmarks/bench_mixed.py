"""How long do small pictures take, and how much memory is used, when panoramas are among them?

All contenders have two workers and run the same code, and every turn runs in a new server process. Panoramas have 120
megapixels and are turned by 90 degrees, blurred and saved as JPEG, for which the whole picture must be in memory. Small
pictures are 800 x 600 and made 200 wide.

(a) six panoramas and sixty small pictures at once. The floor is the sixty small pictures alone in the same idle pool.
(b) every worker runs a panorama when sixty small pictures arrive.
(c) a steady mix: for a minute, at 70 % load, one of twenty is a picture of 24 to 48 megapixels.

offloop has a `memory_limit` of 4 GiB (two panoramas at once), in (a) also 1.6 GiB (one at a time) and 600 MiB (none). The peers
have no limit: `ProcessPoolExecutor`, loky, pebble, anyio.to_process, threads of the server; and Node's piscina with sharp, if
--node-packages is a folder in which `npm install piscina sharp` was run. All peers serve in the order of arrival.

    python benchmarks/bench_mixed.py [--smoke] [--scenario a] [--only NAME] [--rounds 3]

Memory is the sum of the proportional set sizes of the server and all its descendants with all shared memory, minus the memory
of the server before it entered its pool. Expected: in (a) the first small result within 50 ms, their p95 at most 1.2 times the
floor, the total at most 1.05 times that of the fastest peer; in (b) a small p95 under 1 s; memory never above the limit, and at
600 MiB every panorama refused.

Run it on an idle machine only. "others" is the number of CPUs that the rest of the machine used.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mixed_contenders import CONTENDERS, WORKERS, what_is_missing
from mixed_driver import Arrival
from mixed_measuring import Turn, measure
from mixed_report import MIB, Row, report
from mixed_work import Size, pictures

SMALL: Size = (800, 600)
LIMITS = {"a": ("4GiB", "1.6GiB", "600MiB"), "b": ("4GiB",), "c": ("4GiB",)}
LOAD = 0.7
LARGE_SHARE = 0.05


class Scale(NamedTuple):
    """Sizes and numbers of one run."""

    panorama: Size
    panoramas: int  # number of panoramas in (a)
    smalls: int
    head_start_s: float  # seconds from the panoramas to the small pictures in (b)
    mix: tuple[Size, ...]  # sizes of the large pictures in (c)
    mix_s: float
    peers: tuple[str, ...]
    limits: int  # number of memory limits that are measured


_PEERS = tuple(name for name in CONTENDERS if name not in ("offloop", "inline"))
FULL = Scale((12_000, 10_000), 6, 60, 1.0, ((6000, 4000), (7200, 5000), (8000, 6000)), 60.0, _PEERS, 3)
SMOKE = Scale((2400, 1600), 1, 6, 0.05, ((1600, 1200),), 1.0, ("ProcessPoolExecutor",), 1)


class Bench:
    """The files, their costs, and the arrivals."""

    def __init__(self, scale: Scale, folder: Path) -> None:
        self.scale = scale
        self.small, self.panorama, *self.mix = pictures(folder, [SMALL, scale.panorama, *scale.mix])

    def arrivals(self, scenario: str) -> list[Arrival]:
        scale = self.scale
        if scenario == "c":
            return list(self._mix())
        panoramas, after_s = (scale.panoramas, 0.0) if scenario == "a" else (WORKERS, scale.head_start_s)
        large: list[Arrival] = [(0.0, "large", self.panorama)] * panoramas
        small: list[Arrival] = [(after_s, "small", self.small)] * scale.smalls
        return large + small

    def _mix(self) -> Iterator[Arrival]:
        """Poisson arrivals, the same for all contenders."""
        small_s = self.alone([(0.0, "small", self.small)] * 50).cpu_s / 50
        large_s = self.alone([(0.0, "large", path) for path in self.mix]).cpu_s / len(self.mix)
        rate = LOAD * WORKERS / (LARGE_SHARE * large_s + (1 - LARGE_SHARE) * small_s)
        costs = f"{small_s * 1000:.1f} ms of CPU time, a large one {large_s:.2f} s"
        print(f"\nin (c) a small one takes {costs}; {rate:.1f} come a second")
        dice, at_s = random.Random(1), 0.0
        while (at_s := at_s + dice.expovariate(rate)) < self.scale.mix_s:
            large = dice.random() < LARGE_SHARE
            yield (at_s, "large", dice.choice(self.mix)) if large else (at_s, "small", self.small)

    def alone(self, arrivals: list[Arrival]) -> Turn:
        """Measure tasks without a pool, one after the other."""
        return measure("inline", arrivals, self.small)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="small pictures, few contenders, for CI: the numbers mean nothing")
    parser.add_argument("--scenario", choices=tuple("abc"), action="append", help="may be given again (default: all)")
    parser.add_argument(
        "--only", metavar="NAME", action="append", help="contenders with this in their name; may be given again"
    )
    parser.add_argument("--rounds", type=int, default=1, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--nice", type=int, help="of offloop's workers (default: the pool's own)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / f"offloop-mixed-{os.getuid()}",
                        help="where pictures are kept (default: %(default)s)")  # fmt: skip
    parser.add_argument("--node-packages", metavar="FOLDER", help="where `npm install piscina sharp` was done")
    return parser.parse_args()


def contenders(scenario: str, scale: Scale, given: argparse.Namespace) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Returns empty rows, each with the function that measures it."""
    for limit in LIMITS[scenario][: scale.limits]:
        row = Row("offloop", limit)
        if _asked_for(row.name, given.only):
            yield row, {"memory_limit": limit, "nice": given.nice}
    for name in scale.peers:
        if not _asked_for(name, given.only):
            continue
        if missing := what_is_missing(name, given.node_packages):
            print(f"{name} is left out: {missing}")
        else:
            yield Row(name, None), {"node_packages": given.node_packages}


def _asked_for(name: str, only: list[str] | None) -> bool:
    return only is None or any(part in name for part in only)


def main() -> None:
    given = parse()
    scale = SMOKE if given.smoke else FULL
    bench = Bench(scale, given.folder)
    panorama = bench.alone([(0.0, "large", bench.panorama)])
    width, height = scale.panorama
    print(
        f"a panorama: {width:,} x {height:,}, {Path(bench.panorama).stat().st_size / 1e6:.1f} MB; alone in a process "
        f"{panorama.total_s:.2f} s, {panorama.cpu_s:.2f} s of CPU time, {panorama.peak_bytes / MIB:,.0f} MiB",
        flush=True,
    )
    for scenario in given.scenario or "abc":
        arrivals = bench.arrivals(scenario)
        rows = list(contenders(scenario, scale, given))
        for _ in range(given.rounds):
            for row, options in rows:
                row.turns.append(measure(row.contender, arrivals, bench.small, floor=scenario == "a", **options))
        report(scenario, [row for row, _ in rows], arrivals)


if __name__ == "__main__":
    main()
