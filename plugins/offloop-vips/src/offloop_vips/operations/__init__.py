"""Image operations, one module each: the parameters, checked when they are made, and how they are applied to a picture.

A `Step` makes a picture from a picture, and an `Encoder` a file. They are carried out in a worker and call libvips only through
methods of the image, so that the server can import these modules without pyvips.

    decode       how a source is read
    step         base class of the operations between Decode and the output step, and their costs
    geometry/    size, position, orientation
    colour/      each pixel by its colour
    alpha/       alpha and single bands
    effects/     a pixel by its neighbours
    overlays/    something over the picture
    outputs/     encoders and raw samples
    answers/     values instead of a picture
"""

from .alpha.ensure_alpha import EnsureAlpha
from .alpha.extract_channel import ExtractChannel
from .alpha.flatten import Flatten
from .alpha.join_channel import JoinChannel
from .alpha.remove_alpha import RemoveAlpha
from .alpha.round_corners import RoundCorners
from .answers.answer import Answer
from .answers.blur_hash import BlurHash
from .answers.lqip import Lqip
from .answers.perceptual_hash import PerceptualHash
from .answers.stats import Stats
from .answers.thumb_hash import ThumbHash
from .colour.clahe import Clahe
from .colour.gamma import Gamma
from .colour.grayscale import Grayscale
from .colour.icc_profile import IccProfile
from .colour.linear import Linear
from .colour.modulate import Modulate
from .colour.negate import Negate
from .colour.normalise import Normalise
from .colour.recomb import Recomb
from .colour.threshold import Threshold
from .colour.tint import Tint
from .decode import Decode
from .effects.blur import Blur
from .effects.convolve import Convolve
from .effects.median import Median
from .effects.pixelate import Pixelate
from .effects.sharpen import Sharpen
from .effects.unsharp import Unsharp
from .geometry.affine import Affine
from .geometry.auto_orient import AutoOrient
from .geometry.extend import Extend
from .geometry.extract import Extract
from .geometry.flip import Flip
from .geometry.flop import Flop
from .geometry.resize import Resize
from .geometry.rotate import Rotate
from .geometry.trim import Trim
from .outputs.auto import Auto
from .outputs.avif import Avif
from .outputs.encoder import Encoder
from .outputs.gif import Gif
from .outputs.jpeg import Jpeg
from .outputs.metadata import Metadata
from .outputs.png import Png
from .outputs.preview import Preview
from .outputs.raw import Raw
from .outputs.tiff import Tiff
from .outputs.tiles import Tiles
from .outputs.webp import Webp
from .overlays.composite import Composite
from .overlays.text import Text
from .overlays.watermark import Watermark
from .step import Shape, Step

__all__ = [
    "Affine",
    "Answer",
    "Auto",
    "AutoOrient",
    "Avif",
    "Blur",
    "BlurHash",
    "Clahe",
    "Composite",
    "Convolve",
    "Decode",
    "Encoder",
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
    "Shape",
    "Sharpen",
    "Stats",
    "Step",
    "Text",
    "Threshold",
    "ThumbHash",
    "Tiff",
    "Tiles",
    "Tint",
    "Trim",
    "Unsharp",
    "Watermark",
    "Webp",
]
