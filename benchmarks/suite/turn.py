"""The server process of one turn, `python -m suite.turn`. It reads its job, opens its contender, and waits until it may go."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import uvloop

from suite.contenders import CONTENDERS
from suite.lag import Lag
from suite.questions import QUESTIONS


async def take(job: dict[str, Any]) -> None:
    question = QUESTIONS[job["question"]]
    async with question.opened(job["contender"], CONTENDERS, job) as opened:
        await question.warm_up(opened, job)
        tell("warm")
        sys.stdin.readline()
        if all(figure.key != "lag_p99_ms" for figure in question.figures):
            # because the ticker takes a millisecond of a picture's 38, and a contender in Node has none there
            tell(await question.turn(opened, job))
            return
        async with Lag() as lag:
            figures = await question.turn(opened, job)
        tell({**figures, "lag_p99_ms": lag.p99_ms})


def tell(what: object) -> None:
    _told.write(json.dumps(what) + "\n")
    _told.flush()


if __name__ == "__main__":
    # some peers print, so the answers have a descriptor of their own
    _told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    given = json.loads(sys.stdin.readline())
    if given["loop"] == "uvloop":
        uvloop.run(take(given))
    else:
        asyncio.run(take(given))
