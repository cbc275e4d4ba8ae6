"""Tiny ONNX networks, made by the tests, with the inputs and outputs of real models."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from offloop_onnx import OnnxModel

__all__ = ["Shape", "card", "constant", "network", "save"]

Shape = Sequence[int | str | None]
INPUT, OUTPUT = "image", "result"


def constant(name: str, value: Any, dtype: str = "f4") -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def network(
    nodes: Sequence[tuple[str, Sequence[str], str, dict[str, Any]]],
    *,
    shape: Shape,
    output_shape: Shape | None = None,
    constants: Sequence[onnx.TensorProto] = (),
    kind: int = TensorProto.FLOAT,
    output_kind: int | None = None,
) -> bytes:
    """Returns a network of nodes (operator, inputs, output, attributes), from "image" to "result"."""
    made = [helper.make_node(operator, list(inputs), [output], **attributes) for operator, inputs, output, attributes in nodes]
    source = helper.make_tensor_value_info(INPUT, kind, list(shape))
    result = helper.make_tensor_value_info(OUTPUT, output_kind or kind, list(output_shape) if output_shape else None)
    graph = helper.make_graph(made, "tiny", [source], [result], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def save(directory: Path, data: bytes, **fields: Any) -> OnnxModel:
    """Writes a network into a file, and returns its model. Its card is a test's."""
    digest = hashlib.sha256(data).hexdigest()
    path = directory / f"{digest[:12]}.onnx"
    path.write_bytes(data)
    given: dict[str, Any] = {"path": str(path), "sha256": digest, **card(), **fields}
    return OnnxModel(**given)


def card() -> dict[str, str]:
    return {"name": "tiny", "licence": "MIT", "source": "made by a test"}
