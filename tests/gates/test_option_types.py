"""A type checker sees each option of a call: an unknown name and a wrong type are errors, and a wrapper may pass them on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CODE = """
from typing import Unpack
from offloop import Operation, Pool, Result, StreamKeywords, TaskKeywords

async def right(pool: Pool, steps: list[Operation], **options: Unpack[TaskKeywords]) -> Result:
    pool.map([b""], steps, timeout=1.5, ordered=True, memory_limit="1GiB")
    pool.run_many(b"", {"a": steps}, retries=1, tenant="gold")
    pool.stream(b"", steps, labels={"a": "b"}, frame_timeout=None)
    pool.map_call(len, [("",)], priority=1)
    pool.as_executor(queue_timeout=3)
    return await pool.run(b"", steps, **options)

async def wrong(pool: Pool, steps: list[Operation]) -> None:
    await pool.run(b"", steps, timout=1)
    await pool.run(b"", steps, timeout="1")
    pool.map([b""], steps, labels={"a": 1})
    pool.run_many(b"", {"a": steps}, retries="1")
    pool.stream(b"", steps, timeout=1)
    pool.map_call(len, [("",)], tenant=1)
    await pool.call(len, "", memory_limit=1.5)
"""


def test_a_type_checker_sees_each_option_of_a_call(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(CODE)
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(module)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path).stdout)
    lines = CODE.splitlines()
    wrong = set(range(lines.index("async def wrong(pool: Pool, steps: list[Operation]) -> None:") + 1, len(lines)))
    found = {error["range"]["start"]["line"] for error in told["generalDiagnostics"] if error["severity"] == "error"}
    assert found == wrong
