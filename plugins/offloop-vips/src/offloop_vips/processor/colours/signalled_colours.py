"""Conversion of pictures whose colour space is signalled by code points: other primaries than those of sRGB, and PQ or HLG."""

from __future__ import annotations

from typing import Any, Literal

from ...headers.signalled_colour import HLG, PQ, SRGB_TRANSFERS, SignalledColour
from ...picture import Image, image_class

__all__ = ["convert_signalled", "is_known"]

# linear light of other primaries to that of sRGB; all have the white D65
_TO_SRGB: dict[int, list[list[float]]] = {
    5: [[1.044043, -0.044043, 0.0], [0.0, 1.0, 0.0], [0.0, 0.011793, 0.988207]],  # BT.601, 625 lines
    6: [[0.939542, 0.050181, 0.010277], [0.017772, 0.965793, 0.016435], [-0.001622, -0.00437, 1.005991]],  # BT.601, 525 lines
    9: [[1.660491, -0.587641, -0.07285], [-0.12455, 1.1329, -0.008349], [-0.018151, -0.100579, 1.11873]],  # BT.2020
    12: [[1.22494, -0.22494, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]],  # Display P3
}
_TO_SRGB[7], _TO_SRGB[11] = _TO_SRGB[6], _TO_SRGB[12]  # the same; and DCI-P3, whose white becomes that of the result
_SRGB_TO_P3 = [[0.822462, 0.177538, 0.0], [0.033194, 0.966806, 0.0], [0.017083, 0.072397, 0.91052]]
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}
_WHITE_NITS = 203  # luminance of diffuse white in PQ and HLG, by ITU-R BT.2408
_HLG_PEAK_NITS = 1000  # luminance of the nominal display of HLG, by BT.2100
_BT2020_LUMA = [[0.2627, 0.6780, 0.0593]]
_HLG_BEND, _SRGB_BEND = 0.5, 0.04045  # signals at which the functions change from a parabola or a line to a curve
_KNEE = 0.8  # linear light up to which the tone mapping changes nothing; 1 is diffuse white


def is_known(colour: SignalledColour) -> bool:
    """Whether a picture in this colour space can be converted."""
    is_known_transfer = colour.transfer in SRGB_TRANSFERS or colour.transfer in _GAMMAS or colour.is_hdr
    return is_known_transfer and colour.primaries in (1, 2, *_TO_SRGB)


def convert_signalled(image: Image, colour: SignalledColour, space: Literal["srgb", "p3"]) -> Image:
    """Converts three bands of 8 or 16 bits to a colour space, of the same depth. Colours outside of it are clipped.

    In PQ and HLG a luminance of 203 cd/m2 is diffuse white. Light up to 0.8 of it stays as it is; brighter light is compressed
    into the rest, with the hue that it has.
    """
    is_deep = image.format == "ushort"
    table = image_class(image).identity(ushort=is_deep) / (65535 if is_deep else 255)
    light = image.maplut(_linear(table, colour.transfer).cast("float"))
    if colour.transfer == HLG:
        luminance = light.recomb(_matrix(image, _BT2020_LUMA))
        light = light * (luminance**0.2 * (_HLG_PEAK_NITS / _WHITE_NITS))
    if colour.primaries in _TO_SRGB:
        light = light.recomb(_matrix(image, _TO_SRGB[colour.primaries]))
    if space == "p3":
        light = light.recomb(_matrix(image, _SRGB_TO_P3))
    if colour.is_hdr:
        light = _tone_mapped(light)
    return light.copy(interpretation="scrgb").colourspace("rgb16" if is_deep else "srgb")


def _linear(signal: Image, transfer: int) -> Image:
    """Returns linear light for a signal from 0 to 1. 1 is diffuse white, and for HLG the light of the brightest scene."""
    if transfer == PQ:
        power = signal ** (1 / 78.84375)
        light = ((power - 0.8359375).clamp(min=0, max=1) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
        return light * (10_000 / _WHITE_NITS)
    if transfer == HLG:
        bright = (((signal - 0.55991073) / 0.17883277).exp() + 0.28466892) / 12
        return (signal <= _HLG_BEND).ifthenelse(signal**2 / 3, bright)
    if transfer in _GAMMAS:
        return signal ** _GAMMAS[transfer]
    return (signal <= _SRGB_BEND).ifthenelse(signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _tone_mapped(light: Image) -> Image:
    brightest = light[0].maxpair(light[1]).maxpair(light[2])
    excess = (brightest - _KNEE) / (1 - _KNEE)
    compressed = (brightest > _KNEE).ifthenelse(_KNEE + (1 - _KNEE) * excess / (excess + 1), brightest)
    return light * (compressed / brightest)  # libvips divides by zero with the result zero


def _matrix(image: Image, rows: list[list[float]]) -> Any:
    return image_class(image).new_from_array(rows)
