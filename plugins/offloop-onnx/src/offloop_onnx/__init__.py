"""Neural networks for offloop, run by ONNX Runtime in worker processes.

Importing this package is cheap and safe in a server: it imports the operations and the plugin, and neither
onnxruntime nor numpy.

    onnx_model       what a model takes and makes, with its digest and its card; presets for well-known models
    shipped_models   the models in this distribution
    settings         the models that a pool allows
    operations/      one module for each operation: its parameters
    estimates        memory and time of the operations
    plugin           the light half, which offloop registers in the server
    models/          the files of the shipped models, with their licences
    pictures/        computations on samples, with numpy: resampling, guided filter, foreground colours
    processor/       the heavy half, which offloop opens in a worker: the only package that imports onnxruntime
"""

from .onnx_model import OnnxModel
from .operations import RemoveBackground, Restore, RunModel, Upscale
from .plugin import OnnxPlugin

__all__ = ["OnnxModel", "OnnxPlugin", "RemoveBackground", "Restore", "RunModel", "Upscale"]
