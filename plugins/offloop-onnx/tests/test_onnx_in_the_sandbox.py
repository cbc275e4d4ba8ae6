"""A worker of the group "onnx" reaches no network, no process and no file, apart from the models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hostile_plugin import PROBES, Escape
from neighbour_plugin import NeighbourPlugin, ReadFile

from offloop import Pool
from offloop.worker.isolation.kernel import Kernel
from offloop.worker.isolation.syscall_numbers import ARCHITECTURES
from offloop_onnx import OnnxPlugin, RemoveBackground, RunModel

from .tiny_networks import network, save


def has_all_layers() -> bool:
    try:
        return Kernel().landlock_abi() > 0 and Kernel().machine in ARCHITECTURES
    except OSError:
        return False


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], ids=["asyncio"])
@pytest.mark.skipif(not has_all_layers(), reason="this kernel has no Landlock, or no filter is known for it")
async def test_a_worker_with_models_reaches_nothing_but_the_models(anyio_backend: object, tmp_path: Path) -> None:
    models, others = tmp_path / "models", tmp_path / "others"
    models.mkdir()
    others.mkdir()
    own = save(models, network([("Add", ["image", "image"], "result", {})], shape=["n"]), input="tensor", output="tensor")
    other = others / "secret.txt"
    other.write_text("secret")
    (models / "link.onnx").symlink_to(other)
    async with Pool(1, plugins=[OnnxPlugin(model_directories=[models]), NeighbourPlugin], memory_limit="1GiB") as pool:
        cut = await pool.run(np.zeros((64, 64, 3), "u1"), [RemoveBackground()])
        assert cut.array().shape == (64, 64, 4)
        found = json.loads(bytes(await pool.run(b"", [Escape()])))
        assert found.keys() == PROBES.keys()
        allowed = {name for name, result in found.items() if result not in ("EPERM", "EACCES")}
        assert allowed == {"look for a file"}  # because no layer restricts `stat` by path, and models are looked for
        for path in (other, models / "link.onnx", Path(__file__), Path("/etc/passwd")):
            assert bytes(await pool.run(b"", [ReadFile(str(path))])) == b"PermissionError", path
        assert bytes(await pool.run(b"", [ReadFile(own.path)])) == Path(own.path).read_bytes()[:100]
        doubled = await pool.run(np.ones(2, "f4"), [RunModel(own)])
        assert doubled.array().tolist() == [2, 2]
        assert pool.statistics().worker_starts == 2  # one of the default group, and one of the group of the models
        assert pool.statistics().worker_crashes == 0
