"""Colours of a source: conversion to sRGB, Display P3 or grey, of 8 or 16 bits, with or without alpha."""

from __future__ import annotations

from typing import NamedTuple

import pyvips

from offloop.errors import TaskFailed

from ...colour_spaces import ColourSpace, convert_colours
from ...headers.formats import FormatName
from ...headers.parser import ParsedHeader
from ...headers.signalled_colour import SignalledColour
from ...operations import Decode
from ...picture import Image, rounded
from ..libvips_errors import is_out_of_memory
from .signalled_colours import convert_signalled, is_known

__all__ = ["ReadColours", "is_rgb", "read_colours"]

_UNSUPPORTED_SAMPLES = "and there is no rule for its black and white"
_ALPHA = (1, 2)  # meanings of an extra sample of a TIFF: alpha, with premultiplied colours or not


class ReadColours(NamedTuple):
    """A picture in the colour space that `Decode.colours` asks for."""

    image: Image
    name: str  # of the colour space of the source
    space: ColourSpace = "srgb"  # of the image


def read_colours(image: Image, source: FormatName, header: ParsedHeader, decode: Decode) -> ReadColours:
    """Returns a picture in sRGB or grey, or in the space of `Decode.colours`.

    Samples of 16 bits stay so. Samples of 32 bits are reduced to 16.

    Raises:
        TaskFailed: "unsupported_format" for samples or bands without a known meaning.
        pyvips.Error: an allocation failed.
    """
    image = _integers(image, source)
    if header.is_premultiplied and image.hasalpha():
        image = rounded(image.unpremultiply())
    colours, alpha = _split(image, source, header)
    try:
        converted = _converted(colours, source, header, decode)
        if decode.colours == "p3" and converted.space == "srgb":
            converted = converted._replace(image=_in_p3(converted.image), space="p3")
    except pyvips.Error as error:
        if is_out_of_memory(error):
            raise
    else:
        if alpha is None:
            return converted
        # as it is, because taking the bands apart and joining them takes a fifth of the time of a PNG's decoder
        is_unchanged = converted.image is colours and image.bands == colours.bands + 1
        return converted._replace(image=image if is_unchanged else converted.image.bandjoin(alpha))
    raise TaskFailed("unsupported_format", f"a {source} file in the colour space {image.interpretation!r} cannot be converted")


def _integers(image: Image, source: FormatName) -> Image:
    """Returns samples of 8 or 16 bits, of which the full range is black to white."""
    if image.interpretation in ("lab", "labs", "labq"):
        return image
    if image.format == "uint":
        return image.linear(1 / 65537, 0).cast("ushort").copy(interpretation="grey16" if image.bands < 3 else "rgb16")  # noqa: PLR2004
    if image.format not in ("uchar", "ushort"):
        raise TaskFailed("unsupported_format", f"the {source} file has samples of type {image.format}, {_UNSUPPORTED_SAMPLES}")
    bits = int(image.get("bits-per-sample")) if image.get_typeof("bits-per-sample") else 16
    if source == "avif" and image.format == "ushort" and bits < 16:  # noqa: PLR2004 (libvips shifts them, and white is not white)
        white = ((1 << bits) - 1) << (16 - bits)
        return image.linear(65535 / white, 0.5).cast("ushort")
    return image


def _split(image: Image, source: FormatName, header: ParsedHeader) -> tuple[Image, Image | None]:
    """Returns colours and alpha."""
    colours = 4 if image.interpretation == "cmyk" else 3 if image.bands > 2 and "grey" not in image.interpretation else 1  # noqa: PLR2004
    if image.interpretation == "b-w":
        colours = 1
    extra = image.bands - colours
    if extra > 1 and header.first_extra_sample not in _ALPHA:
        message = f"the {source} file has {image.bands} bands: {colours} of colour, and others of which none is marked as alpha"
        raise TaskFailed("unsupported_format", message)
    if extra == 0:
        return image, None
    return image[:colours], image[colours]  # bands after alpha are spot colours, which have no colour in sRGB


def _converted(image: Image, source: FormatName, header: ParsedHeader, decode: Decode) -> ReadColours:
    signalled, has_profile = header.colour, image.get_typeof("icc-profile-data") != 0
    counts = signalled is not None and (source == "png" or not has_profile)  # the formats rank the two differently
    if signalled is not None and counts and not signalled.is_srgb:
        if signalled.is_hdr and decode.hdr == "refuse":
            raise TaskFailed("unsupported_format", f"the {source} file has a high dynamic range ({signalled}); see Decode.hdr")
        return _signalled(image, signalled, decode)
    if image.interpretation == "cmyk":
        target = "p3" if decode.colours == "p3" else "srgb"
        depth = 16 if image.format == "ushort" else 8
        converted = image.icc_transform(target, input_profile="cmyk", embedded=has_profile, intent="perceptual", depth=depth)
        return ReadColours(converted, "CMYK", target)
    if image.interpretation in ("lab", "labs", "labq"):
        return ReadColours(image.colourspace("rgb16"), "Lab")
    if has_profile and not counts:
        return _by_profile(image, decode)
    return ReadColours(_plain(image), "sRGB")


def _signalled(image: Image, signalled: SignalledColour, decode: Decode) -> ReadColours:
    if not is_known(signalled):
        return ReadColours(_plain(image), f"{signalled}, unknown, read as sRGB")
    is_p3 = signalled.is_p3 and decode.colours in ("p3", "keep") and image.bands == 3  # noqa: PLR2004
    if is_p3:
        return ReadColours(_plain(image), str(signalled), "p3")
    space = "p3" if decode.colours == "p3" else "srgb"
    colours = image if image.bands == 3 else image.bandjoin([image, image])  # noqa: PLR2004
    converted = convert_signalled(colours, signalled, space)
    name = f"{signalled}, tone-mapped" if signalled.is_hdr else str(signalled)
    converted = converted if image.bands == 3 else converted[0].copy(interpretation=image.interpretation)  # noqa: PLR2004
    return ReadColours(converted, name, space)


def _by_profile(image: Image, decode: Decode) -> ReadColours:
    is_deep = image.format == "ushort"
    if decode.colours == "keep" and image.bands == 3 and is_rgb(image.get("icc-profile-data")):  # noqa: PLR2004
        return ReadColours(_plain(image), "ICC profile", "source")
    space = "p3" if decode.colours == "p3" and image.bands == 3 else "srgb"  # noqa: PLR2004
    try:
        converted = image.icc_transform(space, embedded=True, depth=16 if is_deep else 8, intent="perceptual")
    except pyvips.Error as error:
        if is_out_of_memory(error):
            raise
        return ReadColours(_plain(image), "broken ICC profile, read as sRGB")  # as other software does
    if image.bands == 1:
        converted = converted.colourspace("grey16" if is_deep else "b-w")
    return ReadColours(converted, "ICC profile", space)


def is_rgb(profile: bytes) -> bool:
    """Whether a profile is for red, green and blue, and can be used."""
    return profile[16:20] == b"RGB " and profile[36:40] == b"acsp"


def _in_p3(image: Image) -> Image:
    return image if image.bands < 3 else convert_colours(image, "srgb", "p3")  # noqa: PLR2004 (grey is the same)


def _plain(image: Image) -> Image:
    """Returns samples with the meaning of sRGB or grey, which libvips may call otherwise."""
    names = ("grey16", "rgb16") if image.format == "ushort" else ("b-w", "srgb")
    name = names[0 if image.bands == 1 else 1]
    return image if image.interpretation == name else image.copy(interpretation=name)
