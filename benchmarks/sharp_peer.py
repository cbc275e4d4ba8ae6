"""sharp in a Node process, as a peer of benchmarks and comparisons. Install it with `npm install sharp` in any folder."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Sharp"]


class Sharp:
    """Context manager for the Node process. One request at a time."""

    def __init__(self, folder: str, cores: int) -> None:
        """`folder` has `node_modules`; `cores` is the number of threads of Node's pool, which sharp's tasks share."""
        self._command = ["node", str(Path(__file__).with_name("sharp_worker.cjs")), folder]
        self._environment = {"UV_THREADPOOL_SIZE": str(cores), "PATH": os.environ["PATH"]}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request, and return the answer.

        Raises:
            RuntimeError: sharp failed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer
