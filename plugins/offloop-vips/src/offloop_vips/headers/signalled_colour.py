"""Colour space that a file signals by code points (CICP, ITU-T H.273) instead of a profile: cICP in PNG, nclx in AVIF."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["HLG", "PQ", "SRGB_TRANSFERS", "SignalledColour"]

PQ, HLG = 16, 18  # transfer functions of high dynamic range
SRGB_TRANSFERS = frozenset({1, 2, 6, 13, 14, 15})
"""sRGB; "unspecified"; and the functions of video cameras, for which browsers use that of sRGB, too."""


class SignalledColour(NamedTuple):
    """Code points of a colour space."""

    primaries: int  # 1 sRGB, 9 BT.2020, 12 Display P3
    transfer: int  # 13 sRGB, 16 PQ, 18 HLG

    @property
    def is_hdr(self) -> bool:
        return self.transfer in (PQ, HLG)

    @property
    def is_srgb(self) -> bool:
        return self.primaries in (1, 2) and self.transfer in SRGB_TRANSFERS

    @property
    def is_p3(self) -> bool:
        """Whether it is Display P3, with the transfer function of sRGB."""
        return self.primaries == 12 and self.transfer in SRGB_TRANSFERS  # noqa: PLR2004 (the code of Display P3)

    def __str__(self) -> str:
        return f"CICP {self.primaries}/{self.transfer}"
