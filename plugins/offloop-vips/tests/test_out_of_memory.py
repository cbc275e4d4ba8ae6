"""Tasks beyond their memory limit: a MemoryError, or the end of the process where a library aborts it.

Each case runs in a process of its own, with a limit like that of a worker.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = """
import mmap, resource, sys
from offloop.errors import TaskFailed
from offloop.processor import Encoded
from offloop.testing import run_inline
from offloop.worker.isolation.memory_limits import PrivateMemory
from offloop_vips import *
from offloop_vips.processor import VipsProcessor

path, operations, more = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
data = open(path, "rb").read()
processor = VipsProcessor()
processor.open(None)
memory = PrivateMemory()
memory.rebaseline()
memory.set_soft_limit(int(more))
try:
    run_inline(processor, Encoded(data), eval(operations))
except MemoryError:
    memory.set_soft_limit(None)
    run_inline(processor, Encoded(data), eval(operations))
    print("memory")  # and the next task succeeds
except TaskFailed as failure:
    print("failed:", failure)
else:
    print("done")
"""
KILLED = (-signal.SIGABRT, -signal.SIGTRAP, -signal.SIGSEGV)


def outcome(path: Path, operations: str, more: int) -> str:
    command = [sys.executable, "-c", SCRIPT, str(path), operations, str(more)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0 or done.returncode in KILLED, done.stderr
    return done.stdout.strip() or "ended"


def noise(width: int, height: int, bands: int = 3) -> Any:
    low = np.random.default_rng(3).integers(0, 256, (height // 8, width // 8, bands), "u1")
    return low.repeat(8, axis=0).repeat(8, axis=1)


SOURCES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "progressive JPEG": (".jpg", 3, {"interlace": True}),
    "interlaced PNG": (".png", 3, {"interlace": True}),
    "PNG": (".png", 3, {"compression": 1}),
    "WebP": (".webp", 3, {"effort": 0}),
    "WebP with alpha": (".webp", 4, {"effort": 0}),
    "lossless WebP": (".webp", 3, {"lossless": True, "effort": 0}),
    "AVIF": (".avif", 3, {"effort": 0}),
    "GIF": (".gif", 3, {"effort": 1}),
    "TIFF": (".tif", 3, {"compression": "lzw"}),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_decoder_without_memory_does_not_report_a_corrupt_source(bench: Any, tmp_path: Path, name: str):
    suffix, bands, options = SOURCES[name]
    source = tmp_path / f"source{suffix}"
    source.write_bytes(bench.file(noise(1600, 1200, bands), suffix, **options))
    seen = {outcome(source, "[Rotate(90), Raw()]", more) for more in (100_000, 9_000_000, 12_000_000, 18_000_000, 25_000_000)}
    assert seen <= {"memory", "ended", "done"}
    assert seen & {"memory", "ended"}
    assert outcome(source, "[Rotate(90), Raw()]", 200_000_000) == "done"


ENCODERS = ["Jpeg(chroma_subsampling='4:4:4')", "Png(progressive=True)", "Png(palette=True)", "Webp()", "Webp(lossless=True)"]


@pytest.mark.parametrize("encoder", [*ENCODERS, "Avif(effort=0)"])
def test_an_encoder_without_memory_raises_memory_error(bench: Any, tmp_path: Path, encoder: str):
    source = tmp_path / "source.png"
    source.write_bytes(bench.file(noise(800, 640), ".png", compression=1))
    seen = {outcome(source, f"[{encoder}]", more) for more in (100_000, 18_000_000, 26_000_000, 31_000_000)}
    assert seen <= {"memory", "ended", "done"}
    assert seen & {"memory", "ended"}
    assert outcome(source, f"[{encoder}]", 300_000_000) == "done"


def test_a_corrupt_source_is_distinguished_from_a_lack_of_memory(bench: Any, tmp_path: Path):
    whole = bench.file(noise(1600, 1200), ".webp", effort=0)
    source = tmp_path / "damaged.webp"
    source.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    assert outcome(source, "[Raw()]", 200_000_000).startswith("failed: [corrupt_source]")
