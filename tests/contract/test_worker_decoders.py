"""Changed bytes of a worker raise no error that the server does not expect, and take neither long nor much memory."""

from __future__ import annotations

import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from .worker_decoders import DECODERS, SEEDS, decode

_CHANGES_OF_A_SEED = 30


def changed(data: bytes, chance: random.Random) -> bytes:
    """A copy with a few changed, missing or repeated bytes; its first byte, which chooses the decoder, stays."""
    made = bytearray(data[1:])
    for _ in range(chance.choice((1, 2, 8))):
        place = chance.randrange(len(made) + 1)
        match chance.randrange(4):
            case 0:
                made[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del made[place : place + chance.randrange(1, 9)]
            case 2:
                made[place:place] = made[: chance.randrange(1, 40)]
            case _:
                made[place : place + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\xdd\xff\xff\xff"))
    return data[:1] + bytes(made)


def test_there_are_seeds_for_each_decoder() -> None:
    assert {seed[0] for seed in SEEDS} == set(range(len(DECODERS)))


@pytest.mark.parametrize("number", range(len(DECODERS)), ids=[decoder.__name__ for decoder in DECODERS])
def test_changed_bytes_are_refused_or_decoded(number: int) -> None:
    chance = random.Random(number)
    for seed in SEEDS:
        if seed[0] == number:
            decode(seed)
            for _ in range(_CHANGES_OF_A_SEED):
                decode(changed(seed, chance))


@pytest.mark.timeout(120)
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is installed by .ci/run, or by hand")
def test_twenty_seconds_of_fuzzing_find_nothing() -> None:
    command = [sys.executable, "-m", "tests.contract.worker_decoders", "-max_total_time=20"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, cwd=Path(__file__).parents[2])
    assert ended.returncode == 0, ended.stderr[-3000:]
