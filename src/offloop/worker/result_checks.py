"""Checks the results of processors, in a worker and in `run_inline`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..errors import PluginError
from ..processor import Encoded, Payload, Raster
from ..wire.framing import MAX_FROM_WORKER_NBYTES
from ..wire.handles import check_shape
from ..wire.messages import InfoValue

__all__ = ["check_memory", "check_payload", "checked_info"]

_MAX_INFO_NBYTES = MAX_FROM_WORKER_NBYTES - 1024  # maximum bytes of an encoded info; 1,024 are for the rest of `Done`

_PAYLOADS = (Encoded, Raster)


def _number_of(value: Any) -> Any:
    """Returns the Python number of a scalar of numpy, or of a library like it."""
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        return value.item()
    raise TypeError(f"a {type(value).__name__} cannot be sent")


_encoder = msgspec.msgpack.Encoder(enc_hook=_number_of)
_decoder: msgspec.msgpack.Decoder[dict[str, InfoValue]] = msgspec.msgpack.Decoder(dict[str, InfoValue])


def check_payload(plugin: str, payload: Payload | None) -> Payload:
    """Check that a processor returned a payload, and return it.

    Raises:
        PluginError: the object is not a payload.
    """
    if not isinstance(payload, _PAYLOADS):  # pyright: ignore[reportUnnecessaryIsInstance] (not all processors are typed)
        raise PluginError(plugin, f"its processor returned {type(payload).__name__}, not Encoded or Raster")
    return payload


def check_memory(plugin: str, payload: Payload) -> None:
    """Check the memory of a result.

    Raises:
        PluginError: the memory is not contiguous, or its length does not match shape and dtype.
    """
    view = memoryview(payload.data)
    if not view.c_contiguous:
        raise PluginError(plugin, "the memory of its result is not contiguous")
    if isinstance(payload, Raster):
        try:
            check_shape(payload.shape, payload.dtype, view.nbytes)
        except ValueError as error:
            raise PluginError(plugin, f"its result is no array: {error}") from None


def checked_info(plugin: str, payload: Payload, added: Mapping[str, Any]) -> dict[str, InfoValue]:
    """Returns the info of a result in the types that can be sent. Scalars of numpy become numbers.

    Args:
        plugin: the plugin of the stage that made the result.
        payload: the result.
        added: values that stages have added to the info of the task; a value of the result's own info replaces them.

    Raises:
        PluginError: the info contains a type that cannot be sent, or is too large.
    """
    if not payload.info and not added:
        return {}
    try:
        encoded = _encoder.encode({**added, **payload.info})
        info = _decoder.decode(encoded)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise PluginError(plugin, f"the info of its result is not what can be sent: {error}") from None
    if len(encoded) > _MAX_INFO_NBYTES:
        raise PluginError(plugin, f"the info of its result takes {len(encoded):,} bytes, and the limit is {_MAX_INFO_NBYTES:,}")
    return info
