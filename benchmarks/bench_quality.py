"""How good are the masks, the edges and the enlargements of the shipped models?

Masks: a person with known opacity before several backgrounds (`portraits.py`); intersection over union, and the mean error of
the opacity; the same for the person at several sizes and places, and for a small person with one pass of the model and with
all. Pictures without people: the part that is taken for a
person. Edges: the person is cut out of one background and put before another; the mean colour error in levels of 255, around
the edge, with and without refinement and estimated colours. Enlargements: photographs are halved by a Lanczos kernel and
enlarged again; PSNR and SSIM of the luminance against the original. Restorations: photographs are stored as JPEG or given
noise; PSNR and SSIM as they are, after the best of five blurs, and restored.

    python benchmarks/bench_quality.py [--smoke] [--only TABLE] [--pictures DIRECTORY]

`--pictures docs/pictures` writes the pictures of docs/models.md instead.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from math import log10
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import pyvips
from msgspec.structs import replace
from PIL import Image, ImageFilter
from PIL.Image import Resampling
from portraits import BACKDROPS, PLACES, SIDE, backdrop, compose, photograph, place, portrait

from offloop.operation import Operation
from offloop.processor import Raster
from offloop.testing import run_inline
from offloop_onnx import RemoveBackground, Restore, Upscale
from offloop_onnx.pictures.foreground import estimate_colours, foreground_at
from offloop_onnx.pictures.resampling import BilinearMap, resize
from offloop_onnx.processor import OnnxProcessor
from offloop_onnx.shipped_models import PEOPLE

Array: TypeAlias = Any  # a numpy array

WITHOUT_PEOPLE = ("chelsea.png", "coffee.webp", "rocket.jpg", "hubble-deep-field.jpg", "galaxies.avif")
PHOTOGRAPHS = {
    "astronaut.jpg": (512, 512),
    "chelsea.png": (448, 300),
    "coffee.webp": (600, 400),
    "rocket.jpg": (640, 424),
    "hubble-deep-field.jpg": (500, 436),
}
HEIGHTS = (1 / 2, 1 / 3, 1 / 5, 1 / 8)  # of a small person, as parts of the height of the picture
SPOTS = ((0.1, 1.0, False), (0.5, 0.5, False), (0.85, 1.0, True), (0.3, 0.2, True))  # parts to the left and above; mirrored
DAMAGED = ("astronaut.jpg", "coffee.webp", "chelsea.png", "rocket.jpg")
QUALITIES, NOISES = (25, 50, 75, 90), (10, 20)  # of JPEG; standard deviations in levels of 255
BLURS = (0.4, 0.5, 0.6, 0.8, 1.0)  # standard deviations in pixels
NEW = np.array([0.1, 0.5, 0.2], np.float32)  # the background that a person is put before
SMALL = 256  # pixels; size at which the plugin estimates colours


def run(samples: Array, *operations: Operation) -> tuple[Array, Any]:
    """Runs operations on samples of 8 bits. Returns the result from 0 to 1, and its info."""
    payload = Raster(samples.tobytes(), samples.shape, "|u1")
    result = cast("Raster", run_inline(OnnxProcessor(), payload, operations))
    return np.frombuffer(result.data, "u1").reshape(result.shape).astype(np.float32) / 255, result.info


def to_bytes(values: Array) -> Array:
    return np.rint(np.clip(values, 0, 1) * 255).astype("u1")


def intersection_over_union(mask: Array, true: Array) -> float:
    return float(np.sum((mask > 0.5) & (true > 0.5)) / np.sum((mask > 0.5) | (true > 0.5)))


def measure_masks(backdrops: tuple[str, ...]) -> None:
    person = portrait()
    print(f"{'background':<24}{'IoU guided':>12}{'IoU none':>10}{'error guided':>14}{'error none':>12}")
    for name in backdrops:
        picture = to_bytes(compose(person.colours, person.alpha, backdrop(name, *person.alpha.shape)))
        guided, none = (run(picture, RemoveBackground(mask_only=True, refine=kind))[0][..., 0] for kind in ("guided", "none"))
        overlaps = [intersection_over_union(mask, person.alpha) for mask in (guided, none)]
        errors = [float(np.abs(mask - person.alpha).mean()) for mask in (guided, none)]
        print(f"{name:<24}{overlaps[0]:12.3f}{overlaps[1]:10.3f}{errors[0]:14.4f}{errors[1]:12.4f}", flush=True)


def measure_places(backdrops: tuple[str, ...], places: tuple[tuple[float, float, bool], ...]) -> None:
    """Prints the intersection over union for the person at several sizes and places, with the model run once and twice."""
    person, models = portrait(), (replace(PEOPLE, mirrored=False), PEOPLE)
    print(f"\n{'background':<24}{'IoU, one run':>22}{'mirrored, too':>22}   mean, lowest")
    for name in backdrops:
        overlaps: tuple[list[float], list[float]] = ([], [])
        for where in places:
            colours, alpha = place(person, *where)
            picture = to_bytes(compose(colours, alpha, backdrop(name, *alpha.shape)))
            for model, found in zip(models, overlaps, strict=True):
                mask, _ = run(picture, RemoveBackground(model=model, mask_only=True))
                found.append(intersection_over_union(mask[..., 0], alpha))
        cells = (f"{float(np.mean(found)):14.3f}{min(found):8.3f}" for found in overlaps)
        print(f"{name:<24}{''.join(cells)}", flush=True)


def measure_sizes(backdrops: tuple[str, ...], heights: tuple[float, ...], spots: tuple[tuple[float, float, bool], ...]) -> None:
    """Prints the intersection over union for a small person at several places, with one pass of the model and with all."""
    person, models = portrait(), (replace(PEOPLE, second_pass=False), PEOPLE)
    print(f"\n{'background':<24}{'height':>8}{'one pass':>22}{'all passes':>22}   mean, lowest")
    for name in backdrops:
        for height in heights:
            overlaps: tuple[list[float], list[float]] = ([], [])
            for left, above, mirrored in spots:
                colours, alpha = place(person, height, left, mirrored, above)
                picture = to_bytes(compose(colours, alpha, backdrop(name, *alpha.shape)))
                for model, found in zip(models, overlaps, strict=True):
                    mask, _ = run(picture, RemoveBackground(model=model, mask_only=True))
                    found.append(intersection_over_union(mask[..., 0], alpha))
            cells = (f"{float(np.mean(found)):14.3f}{min(found):8.3f}" for found in overlaps)
            print(f"{name:<24}{height:8.3f}{''.join(cells)}", flush=True)


def measure_empty(names: tuple[str, ...]) -> None:
    print(f"\n{'picture without people':<24}{'coverage':>12}")
    for name in names:
        _, info = run(to_bytes(photograph(name, 600, 400)), RemoveBackground(mask_only=True))
        print(f"{name:<24}{info['coverage']:12.3f}", flush=True)


def measure_edges(backdrops: tuple[str, ...]) -> None:
    person = portrait()
    ideal = compose(person.colours, person.alpha, NEW)
    soft = (person.alpha > 0.02) & (person.alpha < 0.98)
    edge = around_edge(person.alpha)
    print(f"\n{'':<24}{'known mask':>22}{'mask of the model, guided':>28}{'not refined':>24}")
    print(f"{'old background':<24}{'own':>11}{'estimated':>11}{'own':>17}{'estimated':>11}{'own':>13}{'estimated':>11}  colour")
    for name in backdrops:
        picture = compose(person.colours, person.alpha, backdrop(name, *person.alpha.shape)).astype(np.float32)
        estimated = _foreground(picture, person.alpha)
        numbers = [_error(colours, person.alpha, ideal, soft) for colours in (picture, estimated)]
        for kind in ("guided", "none"):
            mask = run(to_bytes(picture), RemoveBackground(mask_only=True, refine=kind))[0][..., 0]
            cut, _ = run(to_bytes(picture), RemoveBackground(background=(25.5, 127.5, 51), refine=kind))
            numbers += [_error(picture, mask, ideal, edge), float(np.abs(cut - ideal)[edge].mean() * 255)]
        print("{:<24}{:11.1f}{:11.1f}{:17.1f}{:11.1f}{:13.1f}{:11.1f}".format(name, *numbers), flush=True)


def around_edge(alpha: Array) -> Array:
    """Returns which pixels are at the edge, or a few pixels away from it."""
    soft: Any = pyvips.Image.new_from_array(to_bytes((alpha > 0.02) & (alpha < 0.98)))
    return soft.gaussblur(3).numpy() > 20


def _error(colours: Array, alpha: Array, ideal: Array, where: Array) -> float:
    return float(np.abs(compose(colours, alpha, NEW) - ideal)[where].mean() * 255)


def _foreground(picture: Array, alpha: Array) -> Array:
    """Returns the foreground's colours by the plugin's own estimate, for a known mask."""
    height, width = alpha.shape
    small = resize(np.ascontiguousarray(picture.transpose(2, 0, 1)), SMALL, SMALL)
    estimated = BilinearMap(estimate_colours(small, resize(alpha, SMALL, SMALL), 12, 2), height, width).rows(0, height)
    return foreground_at(picture.transpose(2, 0, 1), alpha, estimated[:3], estimated[3:]).transpose(1, 2, 0)


def measure_enlargements(photographs: dict[str, tuple[int, int]]) -> None:
    print(f"\n{'photograph':<24}{'cubic':>16}{'Lanczos':>16}{'Upscale':>16}   PSNR in dB, SSIM")
    for name, (width, height) in photographs.items():
        original = to_bytes(photograph(name, width, height))
        half = resized(original, width // 2, height // 2, Resampling.LANCZOS)
        enlarged = [resized(half, width, height, kernel) for kernel in (Resampling.BICUBIC, Resampling.LANCZOS)]
        enlarged.append(to_bytes(run(half, Upscale())[0]))
        numbers = [f"{psnr(original, one):9.2f} {ssim(original, one):6.4f}" for one in enlarged]
        print(f"{name:<24}{''.join(numbers)}", flush=True)


def measure_restorations(names: tuple[str, ...], shrink: int) -> None:
    """Prints PSNR and SSIM of damaged and restored photographs, whose sides are divided by `shrink` before."""
    print(f"\n{'photograph':<16}{'defect':<12}{'as it is':>16}{'best blur':>16}{'light':>16}{'strong':>16}   PSNR in dB, SSIM")
    for name in names:
        original = to_bytes(photograph(name, *(side // shrink for side in PHOTOGRAPHS[name])))
        damaged = {f"JPEG {quality}": compressed(original, quality) for quality in QUALITIES}
        damaged |= {f"noise {levels}": noisy(original, levels) for levels in NOISES}
        for defect, samples in damaged.items():
            blurred = [np.asarray(Image.fromarray(samples).filter(ImageFilter.GaussianBlur(radius))) for radius in BLURS]
            best = max(blurred, key=lambda one: psnr(original, one))
            light, strong = (to_bytes(run(samples, operation)[0]) for operation in (Restore("light"), Restore("strong")))
            numbers = [f"{psnr(original, one):9.2f} {ssim(original, one):6.4f}" for one in (samples, best, light, strong)]
            print(f"{name:<16}{defect:<12}{''.join(numbers)}", flush=True)


def compressed(samples: Array, quality: int) -> Array:
    encoded = io.BytesIO()
    Image.fromarray(samples).save(encoded, "JPEG", quality=quality)
    return np.asarray(Image.open(encoded))


def noisy(samples: Array, levels: float) -> Array:
    return to_bytes((samples + np.random.default_rng(1).normal(0, levels, samples.shape)) / 255)


def resized(samples: Array, width: int, height: int, kernel: Resampling) -> Array:
    """Resizes with Pillow, because libvips enlarges with a cubic kernel at most."""
    return np.asarray(Image.fromarray(samples).resize((width, height), kernel))


def _luminance(samples: Array) -> Array:
    return samples.astype(np.float64) @ np.array([0.2126, 0.7152, 0.0722])


def psnr(original: Array, other: Array) -> float:
    squares: Any = (_luminance(original) - _luminance(other))[4:-4, 4:-4] ** 2
    error = float(squares.mean())
    return 10 * log10(255**2 / error)


def ssim(original: Array, other: Array) -> float:
    """Returns the mean structural similarity with a Gaussian window of 1.5 pixels (Wang et al., 2004)."""
    first, second = (pyvips.Image.new_from_array(_luminance(samples)) for samples in (original, other))

    def mean(image: Any) -> Array:
        return image.gaussblur(1.5, precision="float").numpy()

    means, means_of = (mean(first), mean(second)), (mean(first * first), mean(second * second), mean(first * second))
    low, high = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    variances = means_of[0] - means[0] ** 2 + means_of[1] - means[1] ** 2
    shared = means_of[2] - means[0] * means[1]
    similarity = (2 * means[0] * means[1] + low) * (2 * shared + high)
    similarity /= (means[0] ** 2 + means[1] ** 2 + low) * (variances + high)
    return float(similarity[8:-8, 8:-8].mean())


def write_pictures(directory: Path) -> None:
    """Writes the pictures of docs/models.md."""
    directory.mkdir(parents=True, exist_ok=True)
    person = to_bytes(photograph("astronaut.jpg", 512, 512))
    green, _ = run(person, RemoveBackground(background=(46, 139, 87)))
    _write_row(directory / "cut-out.webp", person / 255, _on_board(run(person, RemoveBackground())[0]), green)

    colours, alpha = place(portrait(), 1 / 5, 0.1, mirrored=False)
    picture = to_bytes(compose(colours, alpha, backdrop("coffee.webp", SIDE, SIDE)))
    small = resized(picture, 512, 512, Resampling.LANCZOS)
    cuts = [run(small, RemoveBackground(model=model))[0] for model in (replace(PEOPLE, second_pass=False), PEOPLE)]
    _write_row(directory / "small-person.webp", small / 255, *map(_on_board, cuts))

    half = resized(person, 256, 256, Resampling.LANCZOS)[10:106, 60:188]
    enlarged = [resized(half, 256, 192, Resampling.BICUBIC), to_bytes(run(half, Upscale())[0])]
    _write_row(directory / "enlarged.webp", *(resized(one, 512, 384, Resampling.NEAREST) / 255 for one in enlarged))

    damaged = compressed(person, 25)
    restored = [damaged[20:212, 120:376], to_bytes(run(damaged, Restore("strong"))[0])[20:212, 120:376]]
    _write_row(directory / "restored.webp", *(resized(one, 512, 384, Resampling.NEAREST) / 255 for one in restored))


def _on_board(cut: Array) -> Array:
    """Returns a cut-out before a chequered board."""
    squares = cast("Array", np.indices(cut.shape[:2])) // 16
    board = 0.88 - 0.16 * (squares.sum(axis=0) % 2)[..., None]
    return compose(cut[..., :3], cut[..., 3], board)


def _write_row(path: Path, *pictures: Array) -> None:
    """Writes pictures beside each other."""
    image: Any = pyvips.Image.new_from_array(to_bytes(np.hstack(pictures)))
    image.copy(interpretation="srgb").webpsave(str(path), Q=85)


TABLES: dict[str, Callable[[int | None], None]] = {
    "masks": lambda count: measure_masks(BACKDROPS[:count]),
    "places": lambda count: measure_places(BACKDROPS[:count], PLACES[:count]),
    "sizes": lambda count: measure_sizes(BACKDROPS[:count], HEIGHTS[:count], SPOTS[:count]),
    "empty": lambda count: measure_empty(WITHOUT_PEOPLE[:count]),
    "edges": lambda count: measure_edges(BACKDROPS[:count]),
    "enlargements": lambda count: measure_enlargements(dict(list(PHOTOGRAPHS.items())[:count])),
    "restorations": lambda count: measure_restorations(DAMAGED[:count], shrink=4 if count else 1),
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one of each, for CI")
    parser.add_argument("--only", choices=TABLES, help="one of the tables")
    parser.add_argument("--pictures", type=Path, help="directory for pictures")
    options = parser.parse_args()
    if options.pictures:
        write_pictures(options.pictures)
    for table, measure in TABLES.items():
        if options.only in (None, table) and not options.pictures:
            measure(1 if options.smoke else None)
