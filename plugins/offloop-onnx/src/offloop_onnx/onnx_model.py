"""`OnnxModel`: what a model takes and makes, with its digest and its card."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from offloop.errors import InvalidTask

__all__ = ["ModelInput", "ModelOutput", "OnnxModel"]

ModelInput: TypeAlias = Literal["NHWC", "NCHW", "tensor"]
"""Layout of the model's input. NHWC, NCHW: one picture of three bands, red, green and blue, as float32. tensor: the samples of
the source as they are."""

ModelOutput: TypeAlias = Literal["alpha", "logits", "rgb", "tensor"]
"""Meaning of the model's output. alpha: opacity of each pixel. logits: the same before a sigmoid. rgb: a picture. tensor:
anything else."""

_Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=500)]
_Triple: TypeAlias = tuple[float, float, float]
_Side: TypeAlias = Annotated[int, Meta(ge=1, le=16_384)]


class OnnxModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ONNX file: its card, its input and its output. Every field is checked when the object is made.

    An input sample is `(value * input_range - mean) / std`, where `value` is 0 for black and 1 for white.

    Raises:
        InvalidTask: a field has the wrong type or is out of range, or the fields contradict each other.
    """

    path: _Text
    """The file. It must lie in one of `OnnxPlugin(model_directories=...)`. Its weights must be in the same file."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the file in lower-case hex digits. A file with another digest is refused."""

    name: _Text
    """Card: name of the model, for `result.info`."""

    licence: _Text
    """Card: licence of the model, such as "Apache-2.0"."""

    source: _Text
    """Card: where the model comes from."""

    input: ModelInput = "NCHW"
    """Layout of the input."""

    size: tuple[_Side, _Side] | None = None
    """Height and width of the input in pixels, to which a picture is resized; None: the model takes any size."""

    multiple: Annotated[int, Meta(ge=1, le=1024)] = 1
    """Number of pixels of which height and width of the input have to be a multiple, if `size` is None."""

    input_range: Annotated[float, Meta(gt=0)] = 1.0
    """Value of a white sample before `mean` and `std`: 1 or 255."""

    mean: _Triple = (0.0, 0.0, 0.0)
    """Values that are subtracted from red, green and blue."""

    std: _Triple = (1.0, 1.0, 1.0)
    """Values by which red, green and blue are divided."""

    output: ModelOutput = "alpha"
    """Meaning of the output."""

    output_range: Annotated[float, Meta(gt=0)] = 1.0
    """Value of a white or opaque sample of the output: 1 or 255."""

    output_name: str | None = None
    """Name of the output; None: the first one."""

    mirrored: bool = False
    """Whether a model with the output "alpha" or "logits" runs on the mirrored picture, too, and the opacity is the mean of
    both results. It is more accurate and takes twice the time."""

    second_pass: bool = False
    """Whether `RemoveBackground` runs the model again on the part of the picture around the foreground, if that is small. It is
    more accurate for small things, and takes up to twice the time. If the model is `mirrored` and both results disagree, the
    foreground is searched for in 38 parts of the picture, too, which takes up to 25 times the time of the model."""

    scale: Annotated[int, Meta(ge=1, le=16)] = 1
    """Output pixels per input pixel and side, for "rgb"."""

    peak_bytes: Annotated[int, Meta(ge=0)] = 0
    """Peak of private memory of one run in bytes, as `benchmarks/calibrate_onnx.py` prints it; 0: not known."""

    work_s: Annotated[float, Meta(ge=0)] = 0.0
    """CPU time of one run in seconds, as `benchmarks/calibrate_onnx.py` prints it; 0: not known."""

    def __post_init__(self) -> None:
        for name, type_ in _fields():
            value = getattr(self, name)
            try:
                converted = msgspec.convert(value, type_)
            except msgspec.ValidationError as error:
                raise InvalidTask(f"OnnxModel({name}={value!r}): {error}") from None
            if converted is not value:
                msgspec.structs.force_setattr(self, name, converted)
        if 0.0 in self.std:
            raise InvalidTask(f"OnnxModel(std={self.std!r}): the divisors must not be 0")
        if self.output in ("alpha", "logits", "rgb") and self.input == "tensor":
            raise InvalidTask(f"OnnxModel(input='tensor', output={self.output!r}): this output needs a picture as the input")

    @property
    def is_matting(self) -> bool:
        """Whether the output is the opacity of each pixel."""
        return self.output in ("alpha", "logits")

    @property
    def card(self) -> dict[str, str]:
        """The card, for `result.info`."""
        return {"model": self.name, "model_sha256": self.sha256, "model_licence": self.licence, "model_source": self.source}

    @classmethod
    def u2net(cls, path: str, sha256: str, **fields: Any) -> OnnxModel:
        """Returns a model of the U²-Net family (u2net, u2netp, u2net_human_seg, silueta): 320 x 320 pixels."""
        return cls._preset(
            fields,
            path=path,
            sha256=sha256,
            name="u2net",
            licence="Apache-2.0",
            source="https://github.com/xuebinqin/U-2-Net",
            size=(320, 320),
            mean=_IMAGENET_MEAN,
            std=_IMAGENET_STD,
        )

    @classmethod
    def isnet(cls, path: str, sha256: str, **fields: Any) -> OnnxModel:
        """Returns an IS-Net model (isnet-general-use, isnet-anime): 1024 x 1024 pixels."""
        return cls._preset(
            fields,
            path=path,
            sha256=sha256,
            name="isnet",
            licence="Apache-2.0",
            source="https://github.com/xuebinqin/DIS",
            size=(1024, 1024),
            mean=(0.5, 0.5, 0.5),
        )

    @classmethod
    def birefnet(cls, path: str, sha256: str, **fields: Any) -> OnnxModel:
        """Returns a BiRefNet model: 1024 x 1024 pixels, and logits."""
        return cls._preset(
            fields,
            path=path,
            sha256=sha256,
            name="birefnet",
            licence="MIT",
            source="https://github.com/ZhengPeng7/BiRefNet",
            size=(1024, 1024),
            mean=_IMAGENET_MEAN,
            std=_IMAGENET_STD,
            output="logits",
        )

    @classmethod
    def _preset(cls, given: dict[str, Any], **preset: Any) -> OnnxModel:
        """Returns the model with the fields of the preset, where none is given."""
        return cls(**(preset | given))


_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@cache  # because resolving annotations takes ten times as long as a check
def _fields() -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, field.type) for field in msgspec.structs.fields(OnnxModel))
