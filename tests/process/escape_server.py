"""A server whose worker tries to escape. Prints what each probe gave in each thread, as JSON. Arguments: the sandbox's mode,
and the event loop."""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import get_args

import anyio
import msgspec
from hostile_plugin import SOURCE_OF_A_SIBLING, Escape, HostilePlugin

from offloop import Pool
from offloop.sandbox import SandboxMode


async def main(mode: SandboxMode) -> None:
    os.environ["SECRET_OF_THE_SERVER"] = "secret"
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    found: dict[str, object] = {}
    async with Pool(1, plugins=[HostilePlugin], memory_limit="128MiB", sandbox=mode) as pool:
        waiting = await pool.buffer(len(SOURCE_OF_A_SIBLING)).ready()
        waiting.view[:] = SOURCE_OF_A_SIBLING
        for thread in get_args(msgspec.structs.fields(Escape)[0].type):
            found[thread] = json.loads(bytes(await pool.run(b"", [Escape(thread)])))
        crashes = pool.statistics().worker_crashes
        found["server"] = {"crashes": crashes, "limits": resource.getrlimit(resource.RLIMIT_NOFILE) == limits}
        found["posture"] = msgspec.to_builtins(pool.sandbox)
    print(json.dumps(found))  # noqa: T201 (the output of this script)


loop = sys.argv[2]
backend, options = ("asyncio", {"use_uvloop": True}) if loop == "uvloop" else (loop, {})
anyio.run(main, msgspec.convert(sys.argv[1], SandboxMode), backend=backend, backend_options=options)
