"""The light half of the plugin, which the server imports: entry point, settings, allowed models, cards."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec
import pytest

import offloop_onnx
from offloop.errors import InvalidTask
from offloop.operation import Plugin, decoder_for
from offloop_onnx import OnnxModel, OnnxPlugin, RemoveBackground, RunModel, Upscale
from offloop_onnx.shipped_models import MODEL_DIRECTORY, SHIPPED_MODELS

from .tiny_networks import card


def model(path: Path | str, **fields: Any) -> OnnxModel:
    given: dict[str, Any] = {"path": str(path), "sha256": "0" * 64, **card(), **fields}
    return OnnxModel(**given)


def test_the_light_half_imports_neither_numpy_nor_onnxruntime() -> None:
    code = (
        "import sys, offloop_onnx; offloop_onnx.OnnxPlugin().estimate(None, [offloop_onnx.Upscale()], 0); print(*sys.modules)"
    )
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "offloop_onnx.estimates" in modules
    assert not {"onnxruntime", "numpy", "anyio", "asyncio"} & set(modules)


def test_the_entry_point_gives_a_plugin_with_all_operations() -> None:
    (entry,) = (entry for entry in entry_points(group="offloop.processors") if entry.name == "onnx")
    plugin = entry.load()
    assert issubclass(plugin, Plugin)
    public = {getattr(offloop_onnx, name) for name in offloop_onnx.__all__} - {plugin, OnnxModel}
    assert set(plugin.operations) == public


def test_the_plugin_has_a_group_of_its_own_beside_images() -> None:
    assert (OnnxPlugin.group, OnnxPlugin.companions) == ("onnx", ("vips",))


@pytest.mark.parametrize("shipped", SHIPPED_MODELS, ids=lambda model: Path(model.path).stem)
def test_a_shipped_model_has_its_digest_and_its_entry_in_the_notice(shipped: OnnxModel) -> None:
    path = Path(shipped.path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == shipped.sha256
    (line,) = [line for line in (MODEL_DIRECTORY / "NOTICE.md").read_text().splitlines() if line.startswith(f"| `{path.name}`")]
    assert shipped.sha256 in line
    assert f"[{shipped.licence}](LICENSE-{shipped.licence}.txt)" in line
    assert (MODEL_DIRECTORY / f"LICENSE-{shipped.licence}.txt").read_text()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"licence": ""}, "licence=''"),
        ({"source": ""}, "source=''"),
        ({"name": ""}, "name=''"),
        ({"sha256": "0" * 63}, "sha256="),
        ({"sha256": "A" * 64}, "sha256="),
        ({"input": "CHW"}, "input='CHW'"),
        ({"size": (0, 4)}, "size="),
        ({"std": (1, 0, 1)}, "must not be 0"),
        ({"input": "tensor", "output": "rgb"}, "needs a picture"),
    ],
)
def test_a_model_with_a_wrong_field_or_without_a_card_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidTask, match=message):
        model("x.onnx", **fields)


def test_a_model_has_the_same_value_after_its_way_to_a_worker(tmp_path: Path) -> None:
    own = OnnxModel.birefnet(str(tmp_path / "a.onnx"), "1" * 64, size=[512, 512])
    operations = [RemoveBackground(model=own), RunModel(own), Upscale(), RemoveBackground()]
    encoded = msgspec.msgpack.encode(operations)
    assert decoder_for(OnnxPlugin.operations).decode(encoded) == operations
    assert own.size == (512, 512)
    assert hash(tuple(operations))


def test_a_model_outside_of_the_allowed_directories_is_refused_before_a_task_starts(tmp_path: Path) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    allowed.mkdir()
    other.mkdir()
    (allowed / "link.onnx").symlink_to(other / "a.onnx")
    plugin = OnnxPlugin(model_directories=[allowed])
    plugin.check([RunModel(model(allowed / "a.onnx"))])
    for path in (other / "a.onnx", allowed / ".." / "other" / "a.onnx", allowed / "link.onnx", "/etc/passwd", "a.onnx"):
        with pytest.raises(InvalidTask, match="is in no directory of OnnxPlugin") as caught:
            plugin.check([RunModel(model(path))])
        assert str(allowed) in str(caught.value)
    with pytest.raises(InvalidTask, match="which has: none"):
        OnnxPlugin().check([RemoveBackground(model=model(allowed / "a.onnx"))])
    with pytest.raises(InvalidTask, match="is in no directory"):
        OnnxPlugin(model_directories=[allowed], models=[model(other / "a.onnx")])


def test_an_operation_after_a_tensor_is_refused(tmp_path: Path) -> None:
    plugin = OnnxPlugin(model_directories=[tmp_path])
    with pytest.raises(InvalidTask, match=r"makes no picture, but Upscale\(.*comes after it"):
        plugin.check([RunModel(model(tmp_path / "a", output="tensor")), Upscale()])


def test_settings_are_none_without_parameters_so_that_the_class_is_enough() -> None:
    assert OnnxPlugin().settings is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"factor": 4}, "enlarges 2 times"),
        ({"tile": 8}, "tile=8"),
        ({"model": model("x", output="alpha")}, "with the output 'rgb'"),
        ({"model": model("x", output="rgb", scale=2, size=(9, 9))}, "of any size"),
        ({"model": model("x", output="rgb", scale=2, multiple=5)}, "a multiple of 5"),
    ],
)
def test_an_upscale_that_its_model_cannot_do_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidTask, match=message):
        Upscale(**fields)
