"""The heavy half of the plugin, for workers: the only package that imports onnxruntime."""

import os

# before numpy is imported, because its linear algebra otherwise reserves 30 MB and a thread for each CPU of the machine
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from .onnx_processor import OnnxProcessor

__all__ = ["OnnxProcessor"]
