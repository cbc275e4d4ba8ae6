"""How much do pictures of offloop-vips differ from those of sharp and Pillow?

Each operation is applied to the same decoded photographs by all three, and the samples are compared: greatest and mean
difference in levels of 255, without the outermost eight pixels. For resizes there is also the PSNR, in dB, to a resampler with
a Lanczos kernel in floating point, written here. For encoders it is the length of the file, and the PSNR to the picture.
Prints the table of docs/comparison.md.

    npm install --prefix build/sharp sharp
    python benchmarks/compare_pictures.py --node-packages build/sharp
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable, Sequence
from math import inf, log10
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pyvips
from PIL import Image, ImageFilter, ImageOps
from sharp_peer import Sharp

from offloop import Operation
from offloop.processor import Encoded, Raster
from offloop.testing import run_inline
from offloop_vips import (
    Affine,
    Avif,
    Blur,
    Clahe,
    Convolve,
    Extend,
    Flatten,
    Gamma,
    Grayscale,
    Jpeg,
    Linear,
    Median,
    Modulate,
    Negate,
    Normalise,
    Png,
    Raw,
    Recomb,
    Resize,
    Rotate,
    Sharpen,
    Threshold,
    Tint,
    Unsharp,
    Webp,
)
from offloop_vips.processor import VipsProcessor

PHOTOS = Path(__file__).parents[1] / "docs" / "photos"
NAMES = ("astronaut.jpg", "chelsea.png", "coffee.webp", "rocket.jpg")
EDGE = 8  # pixels at the edges that are not compared, because each library continues a picture in its own way
LANCZOS = Image.Resampling.LANCZOS
SEPIA = ((0.3588, 0.7044, 0.1368), (0.2990, 0.5870, 0.1140), (0.2392, 0.4696, 0.0912))
WITH_OFFSETS = tuple(number for row in SEPIA for number in (*row, 0.0))
MARGIN = {"top": 9, "bottom": 9, "left": 9, "right": 9, "extendWith": "mirror"}
EMBOSS = (-2, -1, 0, -1, 1, 1, 0, 1, 2)
UPSIDE_DOWN = EMBOSS[6:] + EMBOSS[3:6] + EMBOSS[:3]  # as Pillow reads the rows


class Row(NamedTuple):
    """One operation, in the words of each library. None: the library does not have it."""

    name: str
    ours: Sequence[Operation]
    sharps: list[list[Any]] | None
    pillows: Callable[[Image.Image], Image.Image] | None
    has_alpha: bool = False
    factor: float | None = None  # of a resize


def resize(factor: float) -> Row:
    def size(image: Image.Image) -> tuple[int, int]:
        return round(image.width * factor), round(image.height * factor)

    return Row(f"resize to {factor:g}", [], [], lambda image: image.resize(size(image), LANCZOS), factor=factor)


def resize_alpha(factor: float) -> Row:
    return resize(factor)._replace(name=f"resize to {factor:g}, with alpha", has_alpha=True)


def gaussian(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(3))


def on_black(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")


ROWS = (
    resize(0.476),
    resize(0.323),
    resize(0.182),
    resize(1.7),
    resize_alpha(0.476),
    Row("blur, sigma 3", [Blur(3)], [["blur", 3]], gaussian),
    Row("blur, sigma 3, exact", [Blur(3, 0.01)], [["blur", {"sigma": 3, "minAmplitude": 0.01}]], gaussian),
    Row("blur, mild", [Blur()], [["blur"]], lambda image: image.filter(ImageFilter.BoxBlur(1))),
    Row("blur, sigma 3, with alpha", [Blur(3)], [["blur", 3]], None, has_alpha=True),
    Row("sharpen, mild", [Sharpen()], [["sharpen"]], None),
    Row("sharpen, sigma 2", [Sharpen(2)], [["sharpen", {"sigma": 2}]], None),
    Row("unsharp", [Unsharp()], None, lambda image: image.filter(ImageFilter.UnsharpMask())),
    Row("median 3", [Median()], [["median", 3]], lambda image: image.filter(ImageFilter.MedianFilter(3))),
    Row(
        "convolve, emboss",
        [Convolve(3, 3, EMBOSS)],
        [["convolve", {"width": 3, "height": 3, "kernel": EMBOSS}]],
        lambda image: image.filter(ImageFilter.Kernel((3, 3), UPSIDE_DOWN, 1)),
    ),
    Row("rotate 90", [Rotate(90)], [["rotate", 90]], lambda image: image.transpose(Image.Transpose.ROTATE_270)),
    Row("rotate 33", [Rotate(33)], [["rotate", 33]], None),
    Row("affine", [Affine((1.2, 0.1, -0.1, 1.2))], [["affine", [[1.2, 0.1], [-0.1, 1.2]]]], None),
    Row("extend, mirror", [Extend(9, 9, 9, 9, "mirror")], [["extend", MARGIN]], None),
    Row("grayscale", [Grayscale()], [["grayscale"]], lambda image: image.convert("L")),
    Row("threshold", [Threshold()], [["threshold"]], None),
    Row("negate", [Negate()], [["negate"]], ImageOps.invert),
    Row("normalise", [Normalise()], [["normalise"]], None),
    Row("clahe", [Clahe(60, 60)], [["clahe", {"width": 60, "height": 60}]], None),
    Row("gamma", [Gamma(1 / 2.2), Gamma(2.2)], [["gamma", 2.2]], None),
    Row("linear", [Linear(1.2, -10)], [["linear", 1.2, -10]], lambda image: image.point(lambda level: level * 1.2 - 10)),
    Row("modulate", [Modulate(1.2, 1.3, 40)], [["modulate", {"brightness": 1.2, "saturation": 1.3, "hue": 40}]], None),
    Row("recomb, sepia", [Recomb(SEPIA)], [["recomb", SEPIA]], lambda image: image.convert("RGB", WITH_OFFSETS)),
    Row("tint", [Tint("#ff8800")], [["tint", "#ff8800"]], None),
    Row("flatten", [Flatten()], [["flatten"]], on_black, has_alpha=True),
)

ENCODERS: dict[str, tuple[Operation, list[Any], dict[str, Any]]] = {
    "JPEG 80": (Jpeg(), ["jpeg"], {"format": "JPEG", "quality": 80, "optimize": True, "subsampling": 2}),
    "JPEG 80, mozjpeg": (Jpeg(mozjpeg=True), ["jpeg", {"mozjpeg": True, "chromaSubsampling": "4:2:0"}], {}),
    "PNG": (Png(), ["png"], {"format": "PNG"}),
    "WebP 80": (Webp(), ["webp"], {"format": "WEBP", "quality": 80}),
    "AVIF 50": (Avif(), ["avif"], {}),
}


class Difference(NamedTuple):
    greatest: int
    mean: float

    def __str__(self) -> str:
        return f"{self.greatest}, {self.mean:.2f}"


def difference(first: Any, second: Any) -> Difference | str:
    if first.shape[:2] != second.shape[:2]:
        return "{1} x {0} and {3} x {2}".format(*first.shape[:2], *second.shape[:2])
    bands = max(min(first.shape[2], second.shape[2]), 1)
    first, second = (one[EDGE:-EDGE, EDGE:-EDGE, :bands].astype(int) for one in (first, second))
    distance = np.abs(first - second)
    if bands == 4:
        distance[..., :3] = distance[..., :3] * np.minimum(first[..., 3:], second[..., 3:]) // 255
    return Difference(int(distance.max()), float(distance.mean()))


def psnr(reference: Any, shown: Any) -> float:
    error = float(((reference - shown)[EDGE:-EDGE, EDGE:-EDGE] ** 2).mean())
    return 10 * log10(255**2 / error) if error else inf


def resampled(samples: Any, width: int, height: int) -> Any:
    """Returns a picture that is resized by a Lanczos kernel of three lobes, in floating point, aligned at its centre."""

    def weights(old: int, new: int) -> Any:
        scale = max(old / new, 1.0)
        centres = (np.arange(new) + 0.5) * old / new - 0.5
        distances = (np.arange(old)[None, :] - centres[:, None]) / scale
        kernel = np.where(np.abs(distances) < 3, np.sinc(distances) * np.sinc(distances / 3), 0)
        return kernel / kernel.sum(axis=1, keepdims=True)

    rows = np.tensordot(weights(samples.shape[0], height), samples, axes=1)
    return np.tensordot(weights(samples.shape[1], width), rows, axes=(1, 1)).transpose(1, 0, 2).clip(0, 255)


class Contenders:
    """The three libraries, on one file."""

    def __init__(self, sharp: Sharp, folder: Path) -> None:
        self._sharp = sharp
        self._folder = folder

    def ours(self, source: bytes, steps: Sequence[Operation]) -> Any:
        made = cast("Raster", run_inline(VipsProcessor(), Encoded(source), [*steps, Raw()]))
        return np.frombuffer(made.data, "u1").reshape(made.shape)

    def sharps(self, source: bytes, steps: list[list[Any]]) -> Any:
        picture, target = self._folder / "source.png", self._folder / "made.raw"
        picture.write_bytes(source)
        info = self._sharp.ask(source=str(picture), steps=steps, target=str(target))
        return np.frombuffer(target.read_bytes(), "u1").reshape(info["height"], info["width"], info["bands"])

    def pillows(self, source: bytes, function: Callable[[Image.Image], Image.Image]) -> Any:
        made = np.asarray(function(Image.open(io.BytesIO(source))))
        return made if made.ndim == 3 else made[..., None]

    def sharps_file(self, source: bytes, encoder: list[Any]) -> bytes:
        picture, target = self._folder / "source.png", self._folder / "made.file"
        picture.write_bytes(source)
        self._sharp.ask(source=str(picture), steps=[encoder], target=str(target))
        return target.read_bytes()


def photographs() -> dict[str, tuple[bytes, bytes]]:
    """Returns each photograph as a PNG, and with a soft alpha."""
    found: dict[str, tuple[bytes, bytes]] = {}
    for name in NAMES:
        image: Any = pyvips.Image.new_from_file(str(PHOTOS / name))
        image = image[:3].copy(interpretation="srgb")
        place = pyvips.Image.xyz(image.width, image.height)
        alpha = (place[0] + place[1]) * (255 / (image.width + image.height))  # type: ignore[operator]
        found[name] = image.pngsave_buffer(keep="none"), image.bandjoin(alpha.cast("uchar")).pngsave_buffer(keep="none")
    return found


def compare(row: Row, contenders: Contenders, pictures: dict[str, tuple[bytes, bytes]]) -> None:
    cells: dict[str, list[Difference | str]] = {"sharp": [], "Pillow": []}
    ratios: dict[str, list[float]] = {"offloop": [], "sharp": [], "Pillow": []}
    for opaque, with_alpha in pictures.values():
        source = with_alpha if row.has_alpha else opaque
        ours_steps, sharp_steps = row.ours, row.sharps
        samples = np.asarray(Image.open(io.BytesIO(source)))
        height, width = samples.shape[:2]
        if row.factor is not None:
            width, height = round(width * row.factor), round(height * row.factor)
            ours_steps, sharp_steps = [Resize(width, height, fit="fill")], [["resize", width, height, {"fit": "fill"}]]
        shown = {"offloop": contenders.ours(source, ours_steps)}
        if sharp_steps is not None:
            shown["sharp"] = contenders.sharps(source, sharp_steps)
        if row.pillows is not None:
            shown["Pillow"] = contenders.pillows(source, row.pillows)
        for name in cells.keys() & shown.keys():
            cells[name].append(difference(shown["offloop"], shown[name]))
        if row.factor is not None and not row.has_alpha:
            reference = resampled(samples.astype(float), width, height)
            for name, made in shown.items():
                ratios[name].append(psnr(reference, made))
    texts = [_worst(cells[name]) for name in ("sharp", "Pillow")]
    numbers = ", ".join(f"{min(found):.1f}" for found in ratios.values() if found)
    print(f"| {row.name} | {texts[0]} | {texts[1]} | {numbers} |", flush=True)


def _worst(found: list[Difference | str]) -> str:
    if not found:
        return ""
    sizes = [one for one in found if isinstance(one, str)]
    if sizes:
        return sizes[0]
    known = cast("list[Difference]", found)
    return str(Difference(max(one.greatest for one in known), max(one.mean for one in known)))


def compare_files(contenders: Contenders, pictures: dict[str, tuple[bytes, bytes]]) -> None:
    print("\n| encoder | bytes: offloop, sharp, Pillow | PSNR in dB |\n| --- | --- | --- |")
    for name, (ours, sharps, pillows) in ENCODERS.items():
        lengths, ratios = [0, 0, 0], [[], [], []]
        for opaque, _ in pictures.values():
            original = Image.open(io.BytesIO(opaque)).convert("RGB")
            files = [bytes(run_inline(VipsProcessor(), Encoded(opaque), [ours]).data), contenders.sharps_file(opaque, sharps)]
            if pillows:
                buffer = io.BytesIO()
                original.save(buffer, **pillows)
                files.append(buffer.getvalue())
            for index, data in enumerate(files):
                lengths[index] += len(data)
                shown: Any = pyvips.Image.new_from_buffer(data, "").numpy()
                ratios[index].append(psnr(np.asarray(original, float), shown[..., :3].astype(float)))
        sizes = ", ".join(f"{length:,}" for length in lengths if length)
        print(f"| {name} | {sizes} | {', '.join(f'{min(found):.1f}' for found in ratios if found)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node-packages", metavar="FOLDER", required=True, help="where `npm install sharp` was done")
    options = parser.parse_args()
    pictures = photographs()
    with tempfile.TemporaryDirectory() as folder, Sharp(options.node_packages, 2) as sharp:
        contenders = Contenders(sharp, Path(folder))
        print("| operation | to sharp | to Pillow | PSNR: offloop, sharp, Pillow |\n| --- | --- | --- | --- |")
        for row in ROWS:
            compare(row, contenders, pictures)
        compare_files(contenders, pictures)


if __name__ == "__main__":
    main()
