"""The models in this distribution. `models/NOTICE.md` has their origins and licences."""

from __future__ import annotations

from pathlib import Path

from .onnx_model import OnnxModel

__all__ = ["MODEL_DIRECTORY", "PEOPLE", "PHOTO", "SHIPPED_MODELS"]

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

PHOTO = OnnxModel(
    path=str(MODEL_DIRECTORY / "photo_x2.onnx"),
    sha256="8651df881a45501c3a8a22a61d531cef286c8a3b773d7313c1bc009467e0864b",
    name="ESRGAN slim, twice the size",
    licence="MIT",
    source="npm:@upscalerjs/esrgan-slim@1.0.0",
    input="NHWC",
    input_range=255.0,
    output="rgb",
    output_range=255.0,
    scale=2,
)

SHIPPED_MODELS = (PEOPLE, PHOTO)
