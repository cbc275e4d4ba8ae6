"""Image operations for offloop, carried out by libvips in worker processes.

Importing this package is cheap and safe in a server: it imports the operations and the plugin, and neither pyvips nor numpy.

    headers/         source formats and bounded header readers, in pure Python
    geometry         sizes and positions of a resize
    colours          CSS colours
    colour_spaces    sRGB, Display P3 and other profiles
    limits           limits on sources and results, with one error each
    picture          the image between two steps of a pipeline
    evaluation       the libvips computations of one task: progress and cancellation
    operations/      one module for each operation: its parameters, how it is applied to a picture, and what it costs
    pipeline         which operation may stand where; how much a decoder shrinks for a resize
    previews         the pipeline of a preview
    estimates/       memory and time of a pipeline, from the header
    plugin           the light half, which offloop registers in the server
    processor/       the heavy half, which offloop opens in a worker: the only package that imports pyvips
"""

from .operations import (
    Affine,
    Auto,
    AutoOrient,
    Avif,
    Blur,
    BlurHash,
    Clahe,
    Composite,
    Convolve,
    Decode,
    EnsureAlpha,
    Extend,
    Extract,
    ExtractChannel,
    Flatten,
    Flip,
    Flop,
    Gamma,
    Gif,
    Grayscale,
    IccProfile,
    JoinChannel,
    Jpeg,
    Linear,
    Lqip,
    Median,
    Metadata,
    Modulate,
    Negate,
    Normalise,
    PerceptualHash,
    Pixelate,
    Png,
    Preview,
    Raw,
    Recomb,
    RemoveAlpha,
    Resize,
    Rotate,
    RoundCorners,
    Sharpen,
    Stats,
    Text,
    Threshold,
    ThumbHash,
    Tiff,
    Tint,
    Trim,
    Unsharp,
    Watermark,
    Webp,
)
from .plugin import VipsPlugin

__all__ = [
    "Affine",
    "Auto",
    "AutoOrient",
    "Avif",
    "Blur",
    "BlurHash",
    "Clahe",
    "Composite",
    "Convolve",
    "Decode",
    "EnsureAlpha",
    "Extend",
    "Extract",
    "ExtractChannel",
    "Flatten",
    "Flip",
    "Flop",
    "Gamma",
    "Gif",
    "Grayscale",
    "IccProfile",
    "JoinChannel",
    "Jpeg",
    "Linear",
    "Lqip",
    "Median",
    "Metadata",
    "Modulate",
    "Negate",
    "Normalise",
    "PerceptualHash",
    "Pixelate",
    "Png",
    "Preview",
    "Raw",
    "Recomb",
    "RemoveAlpha",
    "Resize",
    "Rotate",
    "RoundCorners",
    "Sharpen",
    "Stats",
    "Text",
    "Threshold",
    "ThumbHash",
    "Tiff",
    "Tint",
    "Trim",
    "Unsharp",
    "VipsPlugin",
    "Watermark",
    "Webp",
]
